#include "parse.hpp"

#include <CLI/CLI.hpp>
#include <functional>

#include "base/text.hpp"
#include "examples.hpp"
#include "near_name.hpp"

namespace loadstone::cli {
namespace {

constexpr const char* kVersion = "loadstone " LOADSTONE_VERSION;

Error rejected(const std::string& what, const std::string& where, std::string detail,
               std::string hint = "") {
  return Error{Code::invalid_argument, what, where, std::move(detail), std::move(hint), {}};
}

/// A flag that must be given, checked by us so that a misspelt one is named instead.
/// Its value may be empty when `value` is null.
struct Required {
  CLI::App* command;
  std::string name;
  const std::string* value;

  bool missing() const { return value ? value->empty() : command->count(name) == 0; }
};

/// All of a command line: the parser and the values it fills.
struct Parser {
  CLI::App app{"Loads a model and quantizes it on the way, by methods in plugins."};
  InspectOptions inspect;
  PlanOptions plan;
  LoadOptions load;
  DequantizeOptions dequantize;
  QuantizeOptions quantize;
  PluginsListOptions plugins_list;
  PluginsCheckOptions plugins_check;
  ConfigCheckOptions config_check;
  GenerateOptions generate;
  BenchOptions bench;
  CompareOptions compare;
  std::vector<Required> required;
  std::vector<std::pair<CLI::App*, std::function<Invocation()>>> commands;

  template <typename Options>
  CLI::App* command(CLI::App& parent, const char* name, const char* text, Options& options) {
    CLI::App* sub = parent.add_subcommand(name, text);
    sub->allow_extras();  // collected and named by us
    sub->footer(examples_of(parent.get_parent() ? parent.get_name() + " " + name : name));
    commands.emplace_back(sub, [&options] { return Invocation{options}; });
    return sub;
  }

  void need(CLI::App* sub, std::string name, const std::string& value) {
    required.push_back({sub, std::move(name), &value});
  }

  void need(CLI::App* sub, std::string name) {
    required.push_back({sub, std::move(name), nullptr});
  }
};

void add_plugin_dir(CLI::App* sub, CommonOptions& common) {
  sub->add_option("--plugin-dir", common.plugin_dirs, "A further folder of plugins (repeatable)")
      ->expected(1)
      ->type_name("DIR")
      ->take_all();
}

void add_engine(CLI::App* sub, CommonOptions& common) {
  add_plugin_dir(sub, common);
  sub->add_option("--device", common.device, "cpu, cuda, cuda:0, …")->type_name("NAME");
  sub->add_option("--dtype", common.dtype,
                  "Type of unquantized floats: auto (as stored), bf16, f16 or f32")
      ->type_name("TYPE");
  sub->add_option("--io", common.io,
                  "How file bytes reach a GPU: pread (default), or map: straight from the page "
                  "cache, slower unless threads are few; all of it is pinned until loaded, and a "
                  "file that is written to meanwhile gives wrong weights")
      ->type_name("NAME");
  sub->add_option("--threads", common.threads, "Worker threads (default: all usable)")
      ->type_name("N");
}

void add_run(CLI::App* sub, CommonOptions& common) {
  sub->add_option("--compute", common.compute, "Dtype of activations: f32 (default), bf16 or f16")
      ->type_name("TYPE");
  sub->add_option("--graphs", common.graphs,
                  "Record a step's kernels once and replay them, on a GPU: on (default) or off")
      ->type_name("on|off");
  sub->add_option("--decode-rows", common.decode_rows,
                  "Rows of a picture to decode at a time: auto (default: all that fit) or a number")
      ->type_name("N|auto");
}

void add_config(CLI::App* sub, CommonOptions& common) {
  sub->add_option("--config", common.config_file, "YAML file: model, quantization, rules, load")
      ->type_name("FILE");
  sub->add_option("--quantization", common.quantization,
                  "A method's name, or JSON for build_quant_config; instead of --config")
      ->type_name("STRING|JSON");
}

void add_model(CLI::App* sub, CommonOptions& common) {
  sub->add_option("MODEL", common.model,
                  "Folder, single file, or hub name in the local cache; overrides the file's");
  add_config(sub, common);
  add_engine(sub, common);
}

void add_format(CLI::App* sub, bool& json) {
  sub->add_option_function<std::string>(
         "--format",
         [&json](const std::string& name) {
           if (name != "json" && name != "text") throw CLI::ValidationError("--format", name);
           json = name == "json";
         },
         "text (default) or json")
      ->type_name("NAME");
}

void add_loading_commands(Parser& p) {
  CLI::App* inspect =
      p.command(p.app, "inspect", "Show what a checkpoint holds; reads headers only", p.inspect);
  add_model(inspect, p.inspect.common);
  add_format(inspect, p.inspect.json);
  inspect->add_flag("--tensors", p.inspect.tensors, "List every tensor");

  CLI::App* plan = p.command(
      p.app, "plan", "Show what will happen to every layer, and why; loads nothing", p.plan);
  add_model(plan, p.plan.common);
  add_format(plan, p.plan.json);
  plan->add_flag("--layers", p.plan.layers, "A line for every layer");
  plan->add_flag("--rules", p.plan.rules, "The compiled rules, in the order they are tried");
  plan->add_option("--why", p.plan.why, "The whole story of one layer")->type_name("LAYER");
  plan->add_option("--target", p.plan.target, "Plan for a device that needn't be here: cuda:sm80")
      ->type_name("NAME");

  CLI::App* load = p.command(p.app, "load", "Load into memory as planned and report", p.load);
  add_model(load, p.load.common);
  add_format(load, p.load.json);
  load->add_option("--report", p.load.report, "Write the report as JSON")->type_name("FILE");

  CLI::App* dequantize = p.command(
      p.app, "dequantize", "Write a quantized checkpoint as float32 safetensors", p.dequantize);
  // No configuration: what is written is what the checkpoint declares.
  dequantize->add_option("MODEL", p.dequantize.common.model,
                         "Folder, single file, or hub name in the local cache");
  add_plugin_dir(dequantize, p.dequantize.common);
  dequantize->add_option("--threads", p.dequantize.common.threads, "Worker threads")
      ->type_name("N");
  dequantize->add_option("--output", p.dequantize.output, "Folder to write to")->type_name("DIR");
  dequantize->add_flag("--fold", p.dequantize.fold,
                       "Multiply input factors (mul_scale, pre_quant_scale) into the weights");
  p.need(dequantize, "--output", p.dequantize.output);

  CLI::App* quantize =
      p.command(p.app, "quantize", "Write a model quantized; it loads again as it is", p.quantize);
  quantize->add_option("MODEL", p.quantize.common.model,
                       "Folder or hub name in the local cache; overrides the file's");
  add_config(quantize, p.quantize.common);
  add_plugin_dir(quantize, p.quantize.common);
  quantize->add_option("--output", p.quantize.output, "Folder to write; must not exist")
      ->type_name("DIR");
  quantize->add_flag("--overwrite", p.quantize.overwrite,
                     "Exchange a model's folder that stands there in one step");
  p.need(quantize, "--output", p.quantize.output);
}

void add_plugin_commands(Parser& p) {
  CLI::App* plugins = p.app.add_subcommand("plugins", "The quantization methods at hand");
  plugins->allow_extras();
  CLI::App* list = p.command(*plugins, "list", "List plugins; opens none of them", p.plugins_list);
  add_plugin_dir(list, p.plugins_list.common);
  add_format(list, p.plugins_list.json);
  CLI::App* check =
      p.command(*plugins, "check", "Run the conformance kit on one plugin", p.plugins_check);
  check->add_option("FILE", p.plugins_check.file, "The plugin's .so; its .info lies beside it");
  check->add_option("--method", p.plugins_check.method, "One method only")->type_name("NAME");
  check->add_option("--seconds", p.plugins_check.seconds, "Time to spend (default: the full run)")
      ->type_name("X");
  add_format(check, p.plugins_check.json);
  p.need(check, "FILE", p.plugins_check.file);

  CLI::App* config = p.app.add_subcommand("config", "Configuration without a model");
  config->allow_extras();
  CLI::App* judge =
      p.command(*config, "check", "Check a configuration and print it normalized", p.config_check);
  judge->add_option("FILE", p.config_check.input, "YAML or JSON file, or - for standard input");
  judge->add_option("--kwargs", p.config_check.kwargs, "Keyword options beside a single value")
      ->type_name("JSON");
  judge
      ->add_option("--checkpoint-config", p.config_check.checkpoint_config,
                   "What the checkpoint declares: its config.json, or the declaration alone")
      ->type_name("FILE");
  judge
      ->add_option("--layer", p.config_check.layer,
                   "What this layer gets: transformer.transformer_blocks.0.attn.to_q")
      ->type_name("PATH");
  judge->add_option("--device", p.config_check.common.device, "Where it shall run: cpu, cuda, …")
      ->type_name("KIND");
  add_plugin_dir(judge, p.config_check.common);
  p.need(judge, "FILE", p.config_check.input);
}

void add_generate(Parser& p) {
  GenerateOptions& o = p.generate;
  CLI::App* sub = p.command(p.app, "generate", "Draw pictures", o);
  add_model(sub, o.common);
  add_run(sub, o.common);
  sub->add_option("--prompt", o.prompt, "What to draw")->type_name("TEXT");
  sub->add_option("--negative-prompt", o.negative_prompt,
                  "What to stay away from; without it there is no guidance")
      ->type_name("TEXT");
  sub->add_option("--height", o.height, "Pixels")->capture_default_str()->type_name("N");
  sub->add_option("--width", o.width, "Pixels")->capture_default_str()->type_name("N");
  sub->add_option("--num-inference-steps", o.num_inference_steps, "Denoising steps")
      ->capture_default_str()
      ->type_name("N");
  sub->add_option("--true-cfg-scale", o.true_cfg_scale, "Strength of guidance")
      ->capture_default_str()
      ->type_name("X");
  sub->add_option("--seed", o.seed, "Seed of the noise")->capture_default_str()->type_name("N");
  sub->add_option("--num-images-per-prompt", o.num_images_per_prompt,
                  "More than one go to FILE_0.png, FILE_1.png, …")
      ->capture_default_str()
      ->type_name("N");
  sub->add_option("--output", o.output, "Picture to write")->type_name("FILE.png");
  sub->add_option("--latents", o.latents, "Initial latents (latents_packed_initial)")
      ->type_name("FILE");
  sub->add_option("--save-latents", o.save_latents, "Write the initial latents")->type_name("FILE");
  sub->add_option("--trace", o.trace, "Write token ids, embeddings, velocities, latents")
      ->type_name("FILE");
  p.need(sub, "--prompt");
  p.need(sub, "--output", o.output);
}

void add_bench(Parser& p) {
  BenchOptions& o = p.bench;
  CLI::App* sub =
      p.command(p.app, "bench", "Measure loading and drawing beside what the machine can do", o);
  add_model(sub, o.common);
  add_run(sub, o.common);
  add_format(sub, o.json);
  const auto number = [sub](const char* name, uint32_t& value, const char* text) {
    sub->add_option(name, value, text)->capture_default_str()->type_name("N");
  };
  sub->add_option("--prompt", o.prompt, "What to draw")->capture_default_str()->type_name("TEXT");
  number("--height", o.height, "Pixels");
  number("--width", o.width, "Pixels");
  number("--num-inference-steps", o.num_inference_steps, "Denoising steps a round");
  number("--rounds", o.rounds, "Times to load and draw");
  sub->add_flag("--unquantized", o.unquantized,
                "Also load without quantization, to compare the rates");
  sub->add_option("--output", o.output, "Write the figures as JSON")->type_name("FILE");
}

/// Flags of the reference tool that have no meaning here; given ones are noted.
void add_meaningless(CLI::App* sub, std::vector<std::string>& given) {
  const auto note = [sub, &given](const char* name, const char* type) {
    sub->add_option_function<std::string>(
           name,
           [name, &given](const std::string& value) {
             given.push_back(std::string(name) + " " + value);
           },
           "Accepted, without effect")
        ->type_name(type);
  };
  for (const char* name :
       {"--model-class-name", "--cfg-schedule", "--use-system-prompt", "--system-prompt"}) {
    note(name, "TEXT");
  }
  for (const char* name : {"--fps", "--frame-rate", "--timesteps-shift"}) note(name, "X");
  for (const char* name : {"--enforce-eager", "--enable-cpu-offload", "--enable-layerwise-offload",
                           "--vae-use-slicing", "--vae-use-tiling", "--use-norm"}) {
    sub->add_flag_callback(
        name, [name, &given] { given.push_back(name); }, "Accepted, without effect");
  }
}

void add_side(CLI::App* sub, const std::string& name, CompareSide& side) {
  const std::string front = "--" + name + "-";
  sub->add_option(front + "model", side.model, "Model of the " + name + " (default: --model)")
      ->type_name("MODEL");
  sub->add_option(front + "quantization", side.quantization, "Method")->type_name("NAME");
  sub->add_option(front + "quantization-config-json", side.quantization_config_json,
                  "Configuration object, or a file that holds one; instead of the method")
      ->type_name("JSON|FILE");
  sub->add_option(front + "ignored-layers", side.ignored_layers,
                  "Comma-separated, beside the method")
      ->type_name("NAMES");
  sub->add_option(front + "load-format", side.load_format, "default")
      ->capture_default_str()
      ->type_name("NAME");
}

void add_compare_sampling(CLI::App* sub, CompareOptions& o) {
  sub->add_option("--prompt", o.prompt, "What to draw")->capture_default_str()->type_name("TEXT");
  sub->add_option("--negative-prompt", o.negative_prompt, "Without it there is no guidance")
      ->type_name("TEXT");
  sub->add_option("--width", o.width, "Pixels")->capture_default_str()->type_name("N");
  sub->add_option("--height", o.height, "Pixels")->capture_default_str()->type_name("N");
  sub->add_option("--num-frames", o.num_frames, "Of a video")
      ->capture_default_str()
      ->type_name("N");
  sub->add_option("--num-inference-steps", o.num_inference_steps, "Denoising steps")
      ->capture_default_str()
      ->type_name("N");
  sub->add_option("--num-images-per-prompt", o.num_images_per_prompt, "Pictures")
      ->capture_default_str()
      ->type_name("N");
  sub->add_option("--guidance-scale", o.guidance_scale, "Distilled guidance")
      ->capture_default_str()
      ->type_name("X");
  sub->add_option("--cfg-scale", o.cfg_scale, "Classifier-free guidance")
      ->capture_default_str()
      ->type_name("X");
  sub->add_option("--guidance-scale-2", o.guidance_scale_2, "Of a second expert")->type_name("X");
  sub->add_option("--flow-shift", o.flow_shift, "Of video schedulers")->type_name("X");
  sub->add_flag("--step-execution,!--no-step-execution", o.step_execution, "Step by step");
  sub->add_option("--seed", o.seed, "Seed of the noise")->capture_default_str()->type_name("N");
  sub->add_option("--warmup-runs", o.warmup_runs, "Runs before the measured ones")
      ->capture_default_str()
      ->type_name("N");
  sub->add_option("--measure-runs", o.measure_runs, "Measured runs")
      ->capture_default_str()
      ->type_name("N");
}

void add_compare(Parser& p) {
  CompareOptions& o = p.compare;
  o.common.model = "Qwen/Qwen-Image";
  CLI::App* sub = p.command(
      p.app, "compare", "Draw with two models, or read two folders, and measure the difference", o);
  sub->add_option("--task", o.task, "t2i or t2v")->capture_default_str()->type_name("NAME");
  sub->add_option("--model", o.common.model, "Model of both sides")
      ->capture_default_str()
      ->type_name("MODEL");
  add_side(sub, "reference", o.reference);
  add_side(sub, "candidate", o.candidate);
  sub->add_option("--ignored-layers", o.ignored_layers, "For the candidate")->type_name("NAMES");
  sub->add_option("--reference-dir", o.reference_dir, "Folder of pictures made elsewhere")
      ->type_name("DIR");
  sub->add_option("--candidate-dir", o.candidate_dir, "Folder to compare it with")
      ->type_name("DIR");
  add_compare_sampling(sub, o);
  sub->add_option("--output-json", o.output_json, "Result; folders are created")->type_name("FILE");
  sub->add_option("--save-output-dir", o.save_output_dir, "Keep the pictures")->type_name("DIR");
  sub->add_option("--report", o.report, "Report as one HTML file")->type_name("FILE.html");
  sub->add_option("--gate", o.gate, "smoke or strict: exit with 3 when a metric misses it")
      ->type_name("NAME");
  for (auto [name, value] : {std::pair{"--ulysses-degree", &o.ulysses_degree},
                             {"--ring-degree", &o.ring_degree},
                             {"--tensor-parallel-size", &o.tensor_parallel_size},
                             {"--vae-patch-parallel-size", &o.vae_patch_parallel_size},
                             {"--cfg-parallel-size", &o.cfg_parallel_size}}) {
    sub->add_option(name, *value, "Only 1")->capture_default_str()->type_name("N");
  }
  add_meaningless(sub, o.meaningless);
  add_engine(sub, o.common);
  add_run(sub, o.common);
  p.need(sub, "--output-json", o.output_json);
}

std::vector<std::string> flags_of(const CLI::App* command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command->get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_fnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> commands_of(const CLI::App* command) {
  std::vector<std::string> names;
  for (const CLI::App* sub : command->get_subcommands({})) names.push_back(sub->get_name());
  return names;
}

std::string full_name(const CLI::App* command) {
  const CLI::App* parent = command->get_parent();
  return parent ? full_name(parent) + " " + command->get_name() : "loadstone";
}

/// Arguments that no command took: an unknown command, flag or surplus word.
Error unknown(const CLI::App* command, const std::string& argument) {
  const std::string where = full_name(command);
  if (argument.starts_with("-") && argument.size() > 1) {
    const std::string name = argument.substr(0, argument.find('='));
    const auto flags = flags_of(command);
    return rejected(
        "unknown flag", where,
        "found " + loadstone::quoted(name) + ", expected one that " + where + " --help lists",
        near_name(name, flags));
  }
  const auto subs = commands_of(command);
  if (!subs.empty()) {
    return rejected("unknown command", where,
                    "found " + loadstone::quoted(argument) + ", expected " + join(subs),
                    near_name(argument, subs));
  }
  return rejected("argument not expected", where,
                  "found " + loadstone::quoted(argument) + ", expected flags only from here on");
}

/// CLI11's complaint about a value, in our words: it names the option and the value.
Error bad_value(const CLI::App* command, const CLI::ParseError& error) {
  const std::string what = error.what();
  for (const CLI::Option* option : command->get_options()) {
    const std::string name = option->get_name();
    if (what.find(name) == std::string::npos || option->results().empty()) continue;
    const std::string type = option->get_type_name();
    const std::string expected = name == "--format" ? "text or json"
                                 : type == "N"      ? "a whole number"
                                 : type == "X"      ? "a number"
                                                    : "one " + type;
    std::vector<std::string> values;
    for (const std::string& value : option->results()) values.push_back(loadstone::quoted(value));
    return rejected("invalid value", name,
                    "found " + join(values, " and ") + ", expected " + expected);
  }
  std::string text = what;
  if (!text.empty()) text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  return rejected("command line rejected", full_name(command), text);
}

/// The innermost command that was named.
CLI::App* active(CLI::App* app) {
  while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
  return app;
}

std::string help_of(const CLI::App* command) {
  return command->help(command->get_parent() ? full_name(command->get_parent()) : "");
}

/// The words after the program's name, last first, as CLI11 takes them. "--flag=" gives an empty
/// value here, where CLI11 would take the next word.
std::vector<std::string> reversed_words(int argc, const char* const* argv) {
  std::vector<std::string> words;
  for (int i = argc - 1; i > 0; --i) {
    const std::string word = argv[i];
    const size_t equals = word.find('=');
    if (word.starts_with("--") && equals + 1 == word.size()) {
      words.push_back("");
      words.push_back(word.substr(0, equals));
    } else {
      words.push_back(word);
    }
  }
  return words;
}

Result<Invocation> finish(Parser& p) {
  for (CLI::App* app = &p.app;;) {
    const auto extras = app->remaining(false);
    if (!extras.empty()) return unknown(app, extras.front());
    if (app->get_subcommands().empty()) break;
    app = app->get_subcommands().front();
  }
  CLI::App* command = active(&p.app);
  for (const Required& item : p.required) {
    if (item.command != command || !item.missing()) continue;
    return rejected(
        "argument missing", full_name(command),
        "found no " + item.name + ", expected one; see " + full_name(command) + " --help");
  }
  for (auto& [sub, make] : p.commands) {
    if (sub == command) return make();
  }
  const auto subs = commands_of(command);
  return rejected("command missing", full_name(command), "found none, expected " + join(subs));
}

}  // namespace

Result<Invocation> parse_command_line(int argc, const char* const* argv) {
  Parser p;
  p.app.name("loadstone");
  p.app.allow_extras();
  p.app.set_version_flag("--version", kVersion);
  p.app.footer(examples_of(""));
  p.app.get_formatter()->column_width(34);
  add_loading_commands(p);
  add_generate(p);
  add_bench(p);
  add_compare(p);
  add_plugin_commands(p);
  try {
    p.app.parse(reversed_words(argc, argv));
  } catch (const CLI::CallForVersion&) {
    return Invocation{PrintText{std::string(kVersion) + "\n"}};
  } catch (const CLI::CallForHelp&) {
    return Invocation{PrintText{help_of(active(&p.app))}};
  } catch (const CLI::ParseError& error) {
    return bad_value(active(&p.app), error);
  }
  return finish(p);
}

}  // namespace loadstone::cli
