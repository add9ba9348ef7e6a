// --compute and --graphs: how networks are run.
#pragma once

#include <loadstone/runtime.hpp>

#include "base/text.hpp"
#include "near_name.hpp"
#include "options.hpp"

namespace loadstone::cli {

/// Errors: invalid_argument.
inline Result<runtime::Compute> compute_of(const CommonOptions& common) {
  if (!common.compute || *common.compute == "f32") return runtime::Compute::f32;
  if (*common.compute == "bf16") return runtime::Compute::bf16;
  const std::vector<std::string> names{"f32", "bf16"};
  return Error{Code::invalid_argument,
               "invalid value",
               "--compute",
               "found " + loadstone::quoted(*common.compute) + ", expected f32 or bf16",
               near_name(*common.compute, names),
               {}};
}

/// Errors: invalid_argument.
inline Result<bool> graphs_of(const CommonOptions& common) {
  if (!common.graphs || *common.graphs == "on") return true;
  if (*common.graphs == "off") return false;
  const std::vector<std::string> names{"on", "off"};
  return Error{Code::invalid_argument,
               "invalid value",
               "--graphs",
               "found " + loadstone::quoted(*common.graphs) + ", expected on or off",
               near_name(*common.graphs, names),
               {}};
}

}  // namespace loadstone::cli
