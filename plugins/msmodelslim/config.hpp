// Fields of the method: the type of a layer, and layers left out.
#pragma once

#include <loadstone/plugin.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "msmodelslim/types.hpp"

namespace loadstone::msmodelslim {

inline constexpr const char* kSerialized = "is_checkpoint_msmodelslim_serialized";

constexpr ls_field declared(ls_field field) {
  field.declared_only = 1;
  return field;
}

inline constexpr ls_field kFields[] = {
    sdk::field(LS_FIELD_TEXT, "quant_type",
               "the type of the weights, as msModelSlim names it; a description says it by layer"),
    sdk::ignored_layers_field(),
    declared(sdk::field(LS_FIELD_TREE, "quant_description", "type: the modules that have it")),
    declared(sdk::field(LS_FIELD_TEXT, "model_quant_type",
                        "the type that the description names for the model; shown")),
    declared(
        sdk::field(LS_FIELD_BOOL, kSerialized, "the checkpoint declares this method", "false")),
};

struct Config {
  std::optional<Type> type;                     // of all layers
  std::unordered_map<std::string, Type> types;  // by module, where a description says it
  bool serialized = false;
  std::vector<std::string> ignored_layers;

  /// The type of a part; nothing: it is said nowhere. A description has the file's names: below the
  /// component, or below what single files put before it.
  std::optional<Type> of(std::string_view component, std::string_view module) const;
};

/// Errors (thrown): LS_INVALID_CONFIG naming the field.
Config configure(const sdk::Values& values);

}  // namespace loadstone::msmodelslim
