// AutoRound's MX exports: a dictionary of `bits`, `act_bits` and, per layer in `extra_config`,
// others. Layers of 4 bits hold "weight_packed" (e2m1), layers of 8 bits "weight" (e4m3), whatever
// the rest has. Source: tool-formats, section 1; numeric-definitions, section 8.
#pragma once

#include <loadstone/plugin.hpp>

#include "common/mx/form.hpp"

namespace loadstone::common::mx {

/// Fields that only such a declaration sets; 0: as the method says.
constexpr ls_field bits_field(const char* name, const char* what) {
  ls_field out = sdk::integer_field(name, what, "0", 0, 32);
  out.declared_only = 1;
  return out;
}
constexpr ls_field kWeightBits =
    bits_field("weight_bits", "bits of a layer's elements where AutoRound mixes 4 and 8");
constexpr ls_field kActivationBits =
    bits_field("activation_bits", "bits of AutoRound's activations; 16 and more: as they are");

/// Scopes, and the fields above by layer. Errors (thrown): LS_UNSUPPORTED for bits that no MX
/// format has, LS_INVALID_CHECKPOINT for values of a wrong type.
void read_autoround(const sdk::Node& node, sdk::Declaration& out);

/// What the two fields make of `config`. Errors (thrown): LS_INVALID_CONFIG for 8-bit weights under
/// 4-bit activations.
void configure_bits(const sdk::Values& values, Config& config);

/// The two fields as entries of a native declaration, each with a comma before it: what `config`
/// has otherwise than a method of `own` elements.
std::string declared_bits(const Config& config, MxElement own);

}  // namespace loadstone::common::mx
