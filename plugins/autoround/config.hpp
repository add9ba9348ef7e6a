// The fields of `autoround`, checked, and what a layer of its own gets.
#pragma once

#include <cstdint>
#include <loadstone/plugin.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/int_packs/int_packs.hpp"

namespace loadstone::autoround {

/// How one module is packed.
struct Setting {
  uint32_t bits = 0;       // 2 to 8; 0: nobody said
  int64_t group_size = 0;  // -1: the whole row; 0: nobody said
  bool kept = false;       // 16 bits and more: stored as it was
  bool operator==(const Setting&) const = default;
};

/// One entry of extra_config: what it changes for the modules that `key` names.
struct Override {
  std::string key;
  bool is_regex = false;
  std::optional<int64_t> bits, group_size;
};

struct Config {
  Setting all;
  int_packs::Packing packing = int_packs::Packing::gptq;
  uint32_t zero_bias = 1;
  std::string packing_format;          // as configured, for texts
  bool nvfp4 = false;                  // data_type nv_fp: floats instead of integers
  bool quantizes_activations = false;  // nv_fp: to e2m1
  bool desc_act = false;
  bool declared = false;            // by the checkpoint: layers stored plain are its own choice
  std::string refusal;              // why no layer can be read ("" otherwise)
  std::vector<std::string> blocks;  // block_name_to_quantize
  std::vector<Override> overrides;

  /// The setting of a module: the block list, then extra_config (exact, longest suffix, first
  /// regular expression).
  Setting of(std::string_view module) const;
};

/// Errors: LS_INVALID_CONFIG for values that no checkpoint can have.
Config configure(const sdk::Values& values);

/// Whether a key of extra_config is a regular expression: auto-round's own rule.
bool is_regex(std::string_view key);

}  // namespace loadstone::autoround
