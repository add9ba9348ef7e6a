// What a build without LibTorch says to commands that draw.
#include "commands.hpp"
#include "compare_models.hpp"

namespace loadstone::cli {
namespace {

Error needs_runtime(const char* command) {
  return Error{Code::unsupported,
               "no runtime in this build",
               command,
               "found LOADSTONE_RUNTIME=OFF, expected a build with LibTorch "
               "(cmake/get-libtorch.sh, then -DLOADSTONE_RUNTIME=ON)",
               "",
               {}};
}

}  // namespace

Result<int> run(const BenchOptions&) { return needs_runtime("bench"); }
Result<int> run(const GenerateOptions&) { return needs_runtime("generate"); }

Result<compare::Outcome> compare_models(const CompareOptions&, const compare::Request&) {
  return needs_runtime("compare");
}

}  // namespace loadstone::cli
