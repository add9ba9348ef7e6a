// --compute: the dtype that networks compute in.
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

}  // namespace loadstone::cli
