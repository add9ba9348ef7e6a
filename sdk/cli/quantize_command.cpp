// loadstone quantize: a model written in its method's serialized form.
#include <fmt/format.h>

#include "base/text.hpp"
#include "commands.hpp"
#include "exit_code.hpp"
#include "interrupt.hpp"
#include "progress_line.hpp"
#include "session.hpp"
#include "table.hpp"

namespace loadstone::cli {
namespace {

std::string for_people(const load::QuantizeReport& report) {
  Table table({{"component"},
               {"method"},
               {"layers", Align::right},
               {"before", Align::right},
               {"after", Align::right}});
  for (const auto& component : report.components) {
    table.add({escaped(component.name), component.method.empty() ? "copied" : component.method,
               std::to_string(component.layers), human_nbytes(component.nbytes_before),
               human_nbytes(component.nbytes_after)});
  }
  return table.text() + fmt::format("\n{:.3f} s\n", report.seconds);
}

}  // namespace

Result<int> run(const QuantizeOptions& options) {
  interrupt_token();  // from here on, SIGINT cancels
  LS_TRY(Engine engine, open_engine(options.common));
  ProgressLine progress;
  plugin::set_host_cancel(&interrupt_token());
  LS_TRY(const load::QuantizeReport report,
         engine.loader.quantize(engine.config, {options.output, options.overwrite},
                                {&interrupt_token(), progress.sink()}));
  progress.clear();
  for (const std::string& note : report.notes) print_note(note);
  LS_CHECK(print(for_people(report)));
  return kFine;
}

}  // namespace loadstone::cli
