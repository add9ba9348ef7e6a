// From a whole configuration to what planning needs: the checkpoint with its parts from elsewhere,
// the target, the load options.
#pragma once

#include <memory>
#include <string>

#include "base/file.hpp"
#include "config/quant_config.hpp"
#include "formats/checkpoint.hpp"
#include "plan/plan.hpp"

namespace loadstone::load {

/// Opens `model:` and puts the parts that `components:` names, and those that come from a GGUF file
/// by `gguf_model`, in the place of its own.
/// Errors: as open_checkpoint and find_gguf; invalid_config (a component that doesn't exist, a path
/// that holds several, a file that is no GGUF), with the entry's place.
Result<std::shared_ptr<const formats::Checkpoint>> open_model(
    FileSystem& files, const config::PipelineConfig& pipeline);

/// parse_target; "cuda:N" must be here and tells its SM. Errors: invalid_argument, unsupported
/// ("cannot use cuda:0: …").
Result<plan::Target> find_target(const std::string& name);

/// `load:` as options; GPUs in `place` must be here. Errors: invalid_config, unsupported.
Result<plan::LoadOptions> load_options(const config::LoadSection& section);

}  // namespace loadstone::load
