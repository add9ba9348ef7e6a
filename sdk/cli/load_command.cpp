// loadstone load: into memory as planned, and a report of it.
#include <fmt/format.h>

#include "base/text.hpp"
#include "commands.hpp"
#include "exit_code.hpp"
#include "interrupt.hpp"
#include "loading.hpp"
#include "outputs.hpp"
#include "session.hpp"
#include "table.hpp"

namespace loadstone::cli {
namespace {

std::string rate(double nbytes_per_second) {
  return human_nbytes(static_cast<uint64_t>(nbytes_per_second)) + "/s";
}

std::string phases_table(const load::Report& report) {
  Table table({{"phase"},
               {"seconds", Align::right},
               {"bytes", Align::right},
               {"rate", Align::right},
               {""}});
  const auto add = [&table](const std::string& name, double seconds, uint64_t nbytes,
                            const char* remark) {
    const bool measured = nbytes != 0 && seconds > 0;
    table.add({name, fmt::format("{:.3f}", seconds), nbytes != 0 ? human_nbytes(nbytes) : "",
               measured ? rate(static_cast<double>(nbytes) / seconds) : "", remark});
  };
  for (const auto& phase : report.phases) {
    add(phase.name, phase.seconds, phase.nbytes, phase.summed ? "over all threads" : "");
  }
  table.rule();
  add("total", report.seconds, report.read_nbytes, "");
  return table.text();
}

std::string for_people(const load::LoadedModel& model) {
  const load::Report& report = model.report();
  std::string out = phases_table(report) + "\n";
  if (report.ceiling_nbytes_per_second > 0) {
    out +=
        fmt::format("plain reads of the same files: {}\n", rate(report.ceiling_nbytes_per_second));
  }
  out += fmt::format(
      "stored {}, peak {} (predicted {}), resident at most {}\n",
      human_nbytes(model.plan().peaks.stored), human_nbytes(report.measured_peak_host),
      human_nbytes(report.predicted_peak_host), human_nbytes(report.resident_peak_nbytes));
  return out;
}

}  // namespace

Result<int> run(const LoadOptions& options) {
  interrupt_token();  // from here on, SIGINT cancels
  std::optional<Output> file;
  if (options.report) {
    LS_TRY(Output reserved, Output::reserve(*options.report));
    file.emplace(std::move(reserved));
  }
  LS_TRY(Engine engine, open_engine(options.common));
  ProgressLine progress;
  LS_TRY(const auto model, load_model(engine, progress, file.has_value() || options.json));
  const std::string json = model->report().to_node(model->plan()).to_json(2) + "\n";
  if (file) LS_CHECK(file->write(json));
  LS_CHECK(print(options.json ? json : for_people(*model)));
  return kFine;
}

}  // namespace loadstone::cli
