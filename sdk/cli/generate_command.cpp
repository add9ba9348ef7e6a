// loadstone generate: pictures from a prompt.
#include <fmt/format.h>

#include <algorithm>
#include <loadstone/runtime.hpp>

#include "base/text.hpp"
#include "commands.hpp"
#include "exit_code.hpp"
#include "formats/output_file.hpp"
#include "interrupt.hpp"
#include "loading.hpp"
#include "plan/plan.hpp"
#include "progress_line.hpp"
#include "runtime/image_files.hpp"
#include "session.hpp"

namespace loadstone::cli {
namespace {

runtime::GenerateOptions options_of(const GenerateOptions& o) {
  runtime::GenerateOptions out;
  out.prompt = o.prompt;
  out.negative_prompt = o.negative_prompt;
  out.true_cfg_scale = o.true_cfg_scale;
  out.height = o.height;
  out.width = o.width;
  out.num_inference_steps = o.num_inference_steps;
  out.seed = o.seed;
  out.num_images_per_prompt = o.num_images_per_prompt;
  out.output = o.output;
  out.latents = o.latents.value_or("");
  out.save_latents = o.save_latents.value_or("");
  out.trace = o.trace.value_or("");
  return out;
}

/// Before the model is opened: the pipeline checks again, but loading may take minutes.
Status check_outputs(const GenerateOptions& o) {
  for (const std::string& path : runtime::picture_paths(o.output, o.num_images_per_prompt)) {
    LS_CHECK(formats::check_output_path(path));
  }
  if (o.save_latents) LS_CHECK(formats::check_output_path(*o.save_latents));
  if (o.trace) LS_CHECK(formats::check_output_path(*o.trace));
  return {};
}

std::string for_people(const runtime::Generated& made) {
  std::string out;
  for (const std::string& file : made.files) out += escaped(file) + "\n";
  return out;
}

void print_timings(const runtime::Generated& made) {
  print_note(fmt::format("{:.2f} s: text {:.2f}, denoise {:.2f}, decode {:.2f}", made.timings.total,
                         made.timings.text, made.timings.denoise, made.timings.decode));
}

/// On a GPU: what the run took of its memory beside the weights, and what it was planned to.
void print_memory(const runtime::Generated& made) {
  if (made.planned.peak() == 0) return;
  const auto of = [](uint64_t found, uint64_t planned) {
    return loadstone::human_nbytes(found) + " of " + loadstone::human_nbytes(planned);
  };
  print_note(fmt::format(
      "{} beside the weights, of what was planned: {} (step {}, recorded {}, decode {})",
      made.measured.peak() > made.planned.peak() ? "too much memory" : "memory",
      of(made.measured.peak(), made.planned.peak()), of(made.measured.step, made.planned.step),
      of(made.measured.recorded, made.planned.recorded),
      of(made.measured.decode, made.planned.decode)));
}

/// What skip_steps names beyond the drawing's steps; "" if nothing. Not an error: one configuration
/// serves drawings of few and many steps.
std::string steps_beyond(const plan::Plan& plan, uint64_t steps) {
  if (!plan.attention) return "";
  const std::vector<uint64_t>& skipped = plan.attention->skip_steps;
  const auto first = std::lower_bound(skipped.begin(), skipped.end(), steps);
  if (first == skipped.end()) return "";
  return fmt::format(
      "attention: skip_steps names {} steps, the first {}, that a drawing of {} steps "
      "doesn't have",
      skipped.end() - first, *first, steps);
}

}  // namespace

Result<int> run(const GenerateOptions& options) {
  interrupt_token();  // from here on, SIGINT cancels
  LS_CHECK(check_outputs(options));
  LS_TRY(Engine engine, open_engine(options.common));
  ProgressLine progress;
  LS_TRY(auto model, load_model(engine, progress));
  const std::string beyond = steps_beyond(model->plan(), options.num_inference_steps);
  LS_TRY(runtime::Pipeline pipeline,
         runtime::Pipeline::open(std::move(model), {.threads = engine.config.load.threads}));
  LS_TRY(const runtime::Generated made,
         pipeline.generate(options_of(options), {&interrupt_token(), progress.sink(), {}}));
  progress.clear();
  if (!made.guided && options.negative_prompt == std::nullopt) {
    print_note(
        fmt::format("no --negative-prompt, so there is no guidance and --true-cfg-scale {} "
                    "is not used",
                    options.true_cfg_scale));
  }
  for (const std::string& note : {made.not_recorded, made.decoding, beyond}) {
    if (!note.empty()) print_note(note);
  }
  if (made.attention_calls != 0) {
    print_note(fmt::format("attention: quantized in {} of {} calls", made.attention_quantized,
                           made.attention_calls));
  }
  print_timings(made);
  print_memory(made);
  LS_CHECK(print(for_people(made)));
  return kFine;
}

}  // namespace loadstone::cli
