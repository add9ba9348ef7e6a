// One method with its fields, read from a tree node; shared by the entry, component maps and rules.
#pragma once

#include <optional>

#include "config/problems.hpp"
#include "config/quant_config.hpp"

namespace loadstone::config {

/// The text of a scalar that is a name whatever it looks like ("no", "010"): a text, or a plain
/// YAML scalar's characters. Null when the node is no such scalar.
const std::string* name_text(const Node& node);

/// Whether a map carries a method: `method`, `quant_method`, or a `producer` whose name is one.
bool names_method(const Node& map, const Schemas& schemas);

/// Reads a name or a map; `kwargs` (null or a map) override a flat map's fields. Adds every problem
/// and returns nothing then.
std::optional<MethodChoice> read_choice(const Node& spec, const Node& kwargs,
                                        const Schemas& schemas, Problems& problems);

/// `value` as the type of `field`, or a problem.
std::optional<Node> read_field(const Field& field, const Node& value, Problems& problems);

/// "error" or "keep".
std::optional<OnUnsupported> read_on_unsupported(const Node& value, Problems& problems);

/// A boolean, else a problem and false.
bool read_flag(std::string_view key, const Node& value, Problems& problems);

}  // namespace loadstone::config
