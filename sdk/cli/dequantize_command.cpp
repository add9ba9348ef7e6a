// loadstone dequantize: a checkpoint as float32 safetensors.
#include "commands.hpp"
#include "exit_code.hpp"
#include "outputs.hpp"
#include "session.hpp"

namespace loadstone::cli {

Result<int> run(const DequantizeOptions& options) {
  LS_TRY(const OutputFolder folder, OutputFolder::reserve(options.output));
  LS_TRY(Engine engine, open_engine(options.common));
  LS_TRY(const plan::Plan plan, plan_model(engine));
  return Error{Code::unsupported, "not supported yet", "dequantize", "", "", {}};
}

}  // namespace loadstone::cli
