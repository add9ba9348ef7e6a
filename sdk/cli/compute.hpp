// --compute and --graphs: how networks are run.
#pragma once

#include <loadstone/runtime.hpp>

#include "base/text.hpp"
#include "near_name.hpp"
#include "options.hpp"

namespace loadstone::cli {

/// Errors: invalid_argument.
inline Result<runtime::Compute> compute_of(const CommonOptions& common) {
  using runtime::Compute;
  struct Spelling {
    const char* name;
    Compute compute;
  };
  constexpr Spelling kSpellings[] = {{"f32", Compute::f32},
                                     {"fp32", Compute::f32},
                                     {"bf16", Compute::bf16},
                                     {"f16", Compute::f16},
                                     {"fp16", Compute::f16}};
  if (!common.compute) return Compute::f32;
  std::vector<std::string> names;
  for (const Spelling& spelling : kSpellings) {
    if (*common.compute == spelling.name) return spelling.compute;
    names.emplace_back(spelling.name);
  }
  return Error{Code::invalid_argument,
               "invalid value",
               "--compute",
               "found " + loadstone::quoted(*common.compute) + ", expected f32, bf16 or f16",
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
