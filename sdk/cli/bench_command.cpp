// loadstone bench: what loading and a denoising step take on this machine, beside what the machine
// can do at most, measured in the same run.
#include <fmt/format.h>

#include <algorithm>
#include <loadstone/runtime.hpp>

#include "base/text.hpp"
#include "commands.hpp"
#include "exit_code.hpp"
#include "interrupt.hpp"
#include "loading.hpp"
#include "outputs.hpp"
#include "runtime/attention_calls.hpp"
#include "runtime/ceilings.hpp"
#include "session.hpp"
#include "table.hpp"

namespace loadstone::cli {
namespace {

struct Figures {
  std::string device;
  std::vector<double> load_seconds, step_seconds;
  std::vector<double> unquantized_seconds;  // of loads without quantization, if asked for
  uint64_t read_nbytes = 0, unquantized_nbytes = 0;
  double read_ceiling = 0;  // bytes a second, plain reads of the same files
  runtime::Ceilings ceilings;
  double step_flops = 0;  // of the linear layers that a step calls
  double first_step = 0;  // seconds from nothing loaded to the first step's end
  load::Report report;    // of the last load
  runtime::AttentionCalls attention;
  runtime::RunMemory planned, measured;  // of drawing, beside the weights
  std::string not_recorded;              // why some aren't recorded
};

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

int32_t gpu_of(const load::LoadedModel& model) {
  int32_t out = -1;
  for (uint32_t i = 0; i < model.plan().layers.size(); ++i) out = std::max(out, model.gpu_of(i));
  return out;
}

runtime::GenerateOptions options_of(const BenchOptions& o, uint32_t steps) {
  runtime::GenerateOptions out;
  out.prompt = o.prompt;
  out.height = o.height;
  out.width = o.width;
  out.num_inference_steps = steps;
  return out;
}

/// Operations of the products of one step: two a weight and row, of what the denoiser calls.
Result<double> step_flops(runtime::Pipeline& pipeline, const BenchOptions& o) {
  double flops = 0;
  const auto count = [&flops](const runtime::LayerCall& call) {
    if (!call.component.starts_with("transformer")) return;
    flops += 2.0 * static_cast<double>(call.rows) * static_cast<double>(call.in) *
             static_cast<double>(call.out);
  };
  constexpr uint32_t kSteps = 2;  // the fewest that every schedule has
  LS_CHECK(pipeline.generate(options_of(o, kSteps), {&interrupt_token(), {}, count}));
  return flops / kSteps;
}

Result<Figures> measure(Engine& engine, const BenchOptions& o) {
  Figures out;
  ProgressLine progress;
  const runtime::OpenOptions opening{.threads = engine.config.load.threads};
  for (uint32_t round = 0; round < o.rounds; ++round) {
    LS_TRY(auto model, load_model(engine, progress, true));
    out.report = model->report();
    out.load_seconds.push_back(out.report.seconds);
    out.read_nbytes = out.report.read_nbytes;
    out.read_ceiling = std::max(out.read_ceiling, out.report.ceiling_nbytes_per_second);
    const int32_t gpu = gpu_of(*model);
    LS_TRY(runtime::Pipeline pipeline, runtime::Pipeline::open(std::move(model), opening));
    LS_TRY(const runtime::Generated made,
           pipeline.generate(options_of(o, o.num_inference_steps),
                             {&interrupt_token(), progress.sink(), {}}));
    progress.clear();
    const std::vector<double>& steps = made.timings.steps;
    if (round == 0) out.first_step = out.report.seconds + made.timings.text + steps.front();
    // The first step of a process makes what the others find.
    out.step_seconds.insert(out.step_seconds.end(), steps.begin() + (steps.size() > 1 ? 1 : 0),
                            steps.end());
    if (round + 1 < o.rounds) continue;
    out.planned = made.planned;
    out.measured = made.measured;
    out.not_recorded = made.not_recorded;
    out.device = gpu < 0 ? "cpu" : "cuda:" + std::to_string(gpu);
    LS_TRY(out.step_flops, step_flops(pipeline, o));
    out.attention = runtime::attention_calls();
    LS_TRY(out.ceilings, runtime::measure_ceilings(gpu, runtime::compute_of(engine.config.run)));
  }
  return out;
}

/// The same model as it is stored, in the same process.
Status measure_unquantized(const BenchOptions& o, Figures& out) {
  LS_TRY(Engine engine, open_engine(o.common));
  engine.config.quantization = {};
  ProgressLine progress;
  for (uint32_t round = 0; round < o.rounds; ++round) {
    LS_TRY(const auto model, load_model(engine, progress));
    out.unquantized_seconds.push_back(model->report().seconds);
    out.unquantized_nbytes = model->report().read_nbytes;
  }
  return {};
}

std::string for_people(const Figures& f) {
  Table table(
      {{"what"}, {"here", Align::right}, {"at most", Align::right}, {"of it", Align::right}, {""}});
  const double load = median(f.load_seconds), step = median(f.step_seconds);
  const double unquantized = median(f.unquantized_seconds);
  const double rate = static_cast<double>(f.read_nbytes) / load;
  const auto rate_text = [](double value) {
    return human_nbytes(static_cast<uint64_t>(value)) + "/s";
  };
  table.add({"load", rate_text(rate), rate_text(f.read_ceiling), percent(rate, f.read_ceiling),
             "plain reads of the same files"});
  if (f.ceilings.copied_nbytes > 0) {
    table.add({"", "", rate_text(f.ceilings.copied_nbytes), percent(rate, f.ceilings.copied_nbytes),
               "copies from pinned memory"});
  }
  if (unquantized > 0) {
    const double plain = static_cast<double>(f.unquantized_nbytes) / unquantized;
    table.add({"", "", rate_text(plain), percent(rate, plain), "loads without quantization"});
  }
  const double least = f.step_flops / f.ceilings.flops;
  table.add({"step", fmt::format("{:.2f} ms", step * 1e3), fmt::format("{:.2f} ms", least * 1e3),
             percent(least, step),
             fmt::format("its products at {:.0f} GFLOP/s", f.ceilings.flops * 1e-9)});
  table.rule();
  const auto memory = [&](const char* name, uint64_t here, uint64_t planned, const char* remark) {
    if (planned != 0) {
      table.add({name, human_nbytes(here), human_nbytes(planned),
                 percent(static_cast<double>(here), static_cast<double>(planned)), remark});
    }
  };
  memory("host", f.report.measured_peak_host, f.report.predicted_peak_host, "peak as planned");
  memory(f.device.c_str(), f.report.measured_peak_device, f.report.predicted_peak_device,
         "peak as planned");
  memory("drawing", f.measured.peak(), f.planned.peak(), "beside the weights, as planned");
  memory("  a step", f.measured.step, f.planned.step, "tensors at once");
  memory("  recorded", f.measured.recorded, f.planned.recorded, "kept by recorded kernels");
  memory("  decoding", f.measured.decode, f.planned.decode, "tensors at once");
  std::string out =
      table.text() + fmt::format(
                         "\n{}: loaded in {:.3f} s, first step after {:.3f} s; attention: {} "
                         "calls by cuDNN, {} by LibTorch's choice\n",
                         f.device, load, f.first_step, f.attention.cudnn, f.attention.torch);
  if (!f.not_recorded.empty()) out += f.not_recorded + "\n";
  return out;
}

Node to_node(const Figures& f) {
  const auto number = [](double value) { return Node::of_number(value); };
  const auto bytes = [](uint64_t value) { return Node::of_integer(static_cast<int64_t>(value)); };
  const auto drawing = [&](const runtime::RunMemory& memory) {
    return Node::of_map({{"peak_nbytes", bytes(memory.peak())},
                         {"step_nbytes", bytes(memory.step)},
                         {"recorded_nbytes", bytes(memory.recorded)},
                         {"decode_nbytes", bytes(memory.decode)}});
  };
  const double load = median(f.load_seconds);
  std::vector<Node> loads, steps, unquantized;
  for (const double value : f.load_seconds) loads.push_back(number(value));
  for (const double value : f.step_seconds) steps.push_back(number(value));
  for (const double value : f.unquantized_seconds) unquantized.push_back(number(value));
  return Node::of_map(
      {{"device", Node::of_text(f.device)},
       {"load",
        Node::of_map({{"seconds", Node::of_list(std::move(loads))},
                      {"unquantized_seconds", Node::of_list(std::move(unquantized))},
                      {"unquantized_read_nbytes", bytes(f.unquantized_nbytes)},
                      {"read_nbytes", bytes(f.read_nbytes)},
                      {"nbytes_per_second", number(static_cast<double>(f.read_nbytes) / load)},
                      {"plain_reads_nbytes_per_second", number(f.read_ceiling)},
                      {"pinned_copy_nbytes_per_second", number(f.ceilings.copied_nbytes)}})},
       {"step", Node::of_map({{"seconds", Node::of_list(std::move(steps))},
                              {"product_flops", number(f.step_flops)},
                              {"flops_per_second_at_most", number(f.ceilings.flops)},
                              {"first_after_seconds", number(f.first_step)}})},
       {"attention", Node::of_map({{"cudnn_calls", bytes(f.attention.cudnn)},
                                   {"libtorch_calls", bytes(f.attention.torch)}})},
       {"not_recorded", Node::of_text(f.not_recorded)},
       {"memory", Node::of_map({{"host_peak_nbytes", bytes(f.report.measured_peak_host)},
                                {"host_planned_nbytes", bytes(f.report.predicted_peak_host)},
                                {"device_peak_nbytes", bytes(f.report.measured_peak_device)},
                                {"device_planned_nbytes", bytes(f.report.predicted_peak_device)},
                                {"drawing", drawing(f.measured)},
                                {"drawing_planned", drawing(f.planned)},
                                {"resident_peak_nbytes", bytes(f.report.resident_peak_nbytes)}})}});
}

}  // namespace

Result<int> run(const BenchOptions& options) {
  interrupt_token();  // from here on, SIGINT cancels
  std::optional<Output> file;
  if (options.output) {
    LS_TRY(Output reserved, Output::reserve(*options.output));
    file.emplace(std::move(reserved));
  }
  if (options.rounds == 0) {
    return Error{
        Code::invalid_argument, "invalid value", "--rounds", "found 0, expected 1 or more", "", {}};
  }
  LS_TRY(Engine engine, open_engine(options.common));
  LS_TRY(Figures figures, measure(engine, options));
  if (options.unquantized) LS_CHECK(measure_unquantized(options, figures));
  const std::string json = to_node(figures).to_json(2) + "\n";
  if (file) LS_CHECK(file->write(json));
  LS_CHECK(print(options.json ? json : for_people(figures)));
  return kFine;
}

}  // namespace loadstone::cli
