// loadstone plugins check: the conformance kit on one plugin.
#include "commands.hpp"
#include "conformance/conformance.hpp"
#include "exit_code.hpp"

namespace loadstone::cli {

Result<int> run(const PluginsCheckOptions& options) {
  conformance::Options kit;
  kit.seconds = options.seconds;
  kit.method = options.method;
  LS_TRY(const conformance::Report report, conformance::check(options.file, kit));
  LS_CHECK(print(options.json ? report.to_node().to_json(2) + "\n" : report.text()));
  return report.passed() ? kFine : kFailed;
}

}  // namespace loadstone::cli
