// What a compressed-tensors dictionary says: which scheme each layer has, and what is left out.
#pragma once

#include <loadstone/plugin.hpp>
#include <string>
#include <vector>

#include "compressed_tensors/scheme.hpp"

namespace loadstone::compressed_tensors {

struct Config {
  std::vector<Scheme> schemes;
  std::string groups_json;  // config_groups as it was written
  std::string format;       // of all groups without one of their own
  std::string kv_cache;     // kv_cache_scheme as it was written
  bool serialized = false;
  std::vector<std::string> ignored_layers, ignored;  // by the user; by the tool
};

/// Errors (thrown): LS_INVALID_CONFIG and LS_UNSUPPORTED naming the key.
Config configure(const sdk::Values& values);

/// The scheme of one part, or null: the first whose targets name the module (whole names, or re:
/// from the name's start), then the first that names its class ("Linear", "Embedding").
const Scheme* scheme_of(const Config& config, const sdk::Layer& layer, std::string_view module);

/// The entry of `entries` (whole names and re: patterns) that leaves out the layer, by its own name
/// or by those of all its parts; or null.
const char* left_out_by(const std::vector<std::string>& entries, const sdk::Layer& layer);

}  // namespace loadstone::compressed_tensors
