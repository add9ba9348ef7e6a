// loadstone dequantize: a checkpoint as float32 safetensors.
#include <fmt/format.h>

#include "base/text.hpp"
#include "commands.hpp"
#include "exit_code.hpp"
#include "interrupt.hpp"
#include "load/dequantize.hpp"
#include "outputs.hpp"
#include "progress_line.hpp"
#include "session.hpp"
#include "table.hpp"

namespace loadstone::cli {
namespace {

std::string for_people(const load::DequantizeReport& report) {
  Table table(
      {{"file"}, {"tensors", Align::right}, {"dequantized", Align::right}, {"size", Align::right}});
  for (const auto& file : report.files) {
    table.add({escaped(file.path), std::to_string(file.tensors), std::to_string(file.weights),
               human_nbytes(file.nbytes)});
  }
  return table.text() + fmt::format("\n{:.3f} s\n", report.seconds);
}

}  // namespace

Result<int> run(const DequantizeOptions& options) {
  interrupt_token();  // from here on, SIGINT cancels
  LS_TRY(const OutputFolder folder, OutputFolder::reserve(options.output));
  LS_TRY(Engine engine, open_engine(options.common));
  ProgressLine progress;
  plugin::set_host_cancel(&interrupt_token());
  LS_TRY(const load::DequantizeReport report,
         engine.loader.dequantize(engine.config.model,
                                  {options.output, options.fold, engine.config.load.threads},
                                  {&interrupt_token(), progress.sink()}));
  progress.clear();
  for (const std::string& note : report.notes) print_note(note);
  LS_CHECK(print(for_people(report)));
  return kFine;
}

}  // namespace loadstone::cli
