// loadstone load: into memory as planned, and a report of it.
#include <fmt/format.h>

#include "base/text.hpp"
#include "commands.hpp"
#include "exit_code.hpp"
#include "interrupt.hpp"
#include "load/loaded_model.hpp"
#include "outputs.hpp"
#include "progress_line.hpp"
#include "session.hpp"
#include "table.hpp"

namespace loadstone::cli {
namespace {

std::string rate(uint64_t nbytes, double seconds) {
  if (nbytes == 0 || !(seconds > 0)) return "";
  return human_nbytes(static_cast<uint64_t>(static_cast<double>(nbytes) / seconds)) + "/s";
}

std::string for_people(const load::LoadedModel& model) {
  const load::Report& report = model.report();
  Table table(
      {{"phase"}, {"seconds", Align::right}, {"read", Align::right}, {"rate", Align::right}});
  for (const auto& phase : report.phases) {
    table.add({phase.name, fmt::format("{:.3f}", phase.seconds),
               phase.nbytes ? human_nbytes(phase.nbytes) : "", rate(phase.nbytes, phase.seconds)});
  }
  table.rule();
  table.add({"total", fmt::format("{:.3f}", report.seconds), human_nbytes(report.read_nbytes),
             rate(report.read_nbytes, report.seconds)});
  std::string out = table.text() + "\n";
  out += fmt::format(
      "stored {}, peak {} (predicted {}), resident at most {}\n",
      human_nbytes(model.plan().peaks.stored), human_nbytes(report.measured_peak_host),
      human_nbytes(report.predicted_peak_host), human_nbytes(report.resident_peak_nbytes));
  return out;
}

}  // namespace

Result<int> run(const LoadOptions& options) {
  std::optional<Output> file;
  if (options.report) {
    LS_TRY(Output reserved, Output::reserve(*options.report));
    file.emplace(std::move(reserved));
  }
  LS_TRY(Engine engine, open_engine(options.common));
  LS_TRY(plan::Plan plan, plan_model(engine));
  for (const std::string& note : plan.notes) print_note(note);
  ProgressLine progress;
  plugin::set_host_cancel(&interrupt_token());
  LS_TRY(const load::LoadedModel model,
         load::load(std::make_shared<const plan::Plan>(std::move(plan)),
                    {&interrupt_token(), progress.sink()}));
  progress.clear();
  const std::string json = model.report().to_node(model.plan()).to_json(2) + "\n";
  if (file) LS_CHECK(file->write(json));
  LS_CHECK(print(options.json ? json : for_people(model)));
  return kFine;
}

}  // namespace loadstone::cli
