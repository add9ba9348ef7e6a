// QuantConfig: what the user asked for, typed and marked, before it meets a model.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/tree.hpp"
#include "config/run_section.hpp"

namespace loadstone::config {

/// Type of a method's field. Values equal LS_FIELD_* of the plugin interface.
enum class FieldType : uint32_t {
  boolean = 1,
  integer = 2,
  number = 3,
  text = 4,
  integers = 5,  // list of integers
  texts = 6,     // list of texts
  tree = 7,      // a map handed over as it is (extra_config, config_groups)
};

/// One field of a method's schema, as its plugin declares it.
struct Field {
  std::string name;
  FieldType type = FieldType::text;
  std::string doc;
  Node fallback;                     // the default (null: none)
  std::vector<std::string> choices;  // allowed texts; empty: any
  std::optional<double> low, high;   // inclusive, for integers and numbers (and items of lists)
  bool declared_only = false;        // only a checkpoint's declaration may set it
  bool user_wins = false;            // a user's value beats a declared one
};

/// Schema of one method. `aliases` fold case and '-'/'_' like the canonical name does.
struct MethodSchema {
  std::string method;  // canonical: "fp8", "mxfp4_dualscale", "autoround"
  std::vector<std::string> aliases;
  std::string plugin;
  std::vector<Field> fields;
  /// Folded alias → text fields that it stands for when it is given without any field.
  using Implied = std::map<std::string, std::map<std::string, std::string>>;
  Implied implied = {};
};

/// Lower case, '-' as '_': how method names and their aliases compare.
std::string fold_name(std::string_view name);

/// All methods that can be named. Made by the plugin registry.
struct Schemas {
  std::vector<MethodSchema> methods;
  /// Known formats that no plugin serves, name → reason ("bitsandbytes", "torchao", …).
  std::map<std::string, std::string> refused;

  /// The schema of a spelling ("FP8", "auto-round"), or null.
  const MethodSchema* find(std::string_view spelling) const;
};

/// What happens to a layer that the chosen method can't do.
enum class OnUnsupported : uint8_t { error, keep };

enum class From : uint8_t { user, checkpoint, fallback };
std::string_view to_string(From from);  // "user", "checkpoint", "default"

struct FieldValue {
  Node value;
  From from = From::user;
};

/// A method with its fields, every default filled in (null where a field has none: unset).
struct MethodChoice {
  std::string method;  // canonical name
  std::map<std::string, FieldValue> fields;
  bool declaration_form = false;                // came with `quant_method`: a checkpoint's own dict
  std::optional<OnUnsupported> on_unsupported;  // its own; else the rule's, else the file's
  Mark mark;

  /// The value of a field, or null when it is unset or unknown.
  const Node* field(std::string_view name) const;
};

/// Whether two choices of one method set the same values, wherever they come from.
bool same_fields(const MethodChoice& a, const MethodChoice& b);

/// keep: leave what the checkpoint has (null in a component map, `use: keep`).
struct Keep {};
using Choice = std::optional<MethodChoice>;  // nullopt: keep

/// One entry under `rules:`. All given conditions must hold.
struct Rule {
  std::optional<std::string> component;  // exact name or shell pattern
  std::optional<std::string> layer;      // shell pattern with {a..b} ranges, or "re:…"
  std::optional<std::string> role;       // shell pattern
  std::optional<std::string> kind;       // "linear", "gather", …
  std::optional<std::string> dtype;      // stored dtype, "BF16"
  std::optional<uint64_t> min_elements, max_elements;
  Choice use;
  bool allow_unmatched = false;
  std::optional<OnUnsupported> on_unsupported;
  Mark mark;
};

struct QuantConfig {
  bool configured = false;           // false: nothing given, take what the checkpoint declares
  bool explicitly_none = false;      // the string "none"
  std::optional<MethodChoice> flat;  // one method for the default scope
  bool is_component_map = false;
  std::vector<std::pair<std::string, Choice>> components;  // incl. "default", file order
  std::vector<Mark> component_marks;                       // parallel to components
  std::vector<Rule> rules;
  OnUnsupported on_unsupported = OnUnsupported::error;
  bool allow_unmatched = false;

  /// {"method", "fields", "components", …}: what `config check` prints, less "layer".
  Node to_node() const;
};

/// Where a component goes, and the line that says so.
struct Placement {
  std::string device;
  Mark mark = {};
  /// "pipeline.yaml:7:5"; "load.place" where no file says it.
  std::string where() const { return mark.line == 0 ? "load.place" : mark.text(); }
};

/// `load:` and `components:` of a whole file.
struct LoadSection {
  std::string device = "cpu";
  Mark device_mark = {};  // empty where no file says it
  std::string dtype = "auto";
  uint64_t ring_nbytes = 0;                // 0: default
  unsigned threads = 0;                    // 0: auto
  std::string io = "pread";                // or map
  std::map<std::string, Placement> place;  // by component
};

struct ComponentSource {
  std::string name;
  std::string path;
  Mark mark;
};

/// A whole configuration file.
struct PipelineConfig {
  int64_t version = 1;
  std::string model;  // "" if not given
  QuantConfig quantization;
  LoadSection load;
  RunSection run;
  std::vector<ComponentSource> components;
  Node attention;  // checked (config/attention.hpp)
};

/// Everything the reference's entry accepts: null, "none", a method string, a flat map, a
/// component map, ModelOpt's forms; `kwargs` (a map or null) are keyword options of a string or
/// flat map, and an error beside a component map. Reports all problems at once.
Result<QuantConfig> build_quant_config(const Node& spec, const Node& kwargs,
                                       const Schemas& schemas);
/// An existing QuantConfig is taken as it is; keyword options beside it are an error.
Result<QuantConfig> build_quant_config(const QuantConfig& existing, const Node& kwargs,
                                       const Schemas& schemas);

/// One method: a name, or a map with `method` (or `quant_method`) whose fields are checked against
/// the schema; defaults filled in.
Result<MethodChoice> build_method_choice(const Node& spec, const Schemas& schemas);

/// YAML text or file → tree with marks (security checklist S35, S36).
Result<Node> parse_yaml(std::string_view text, std::string file);
/// `--quantization` value: JSON if it starts with '{', '[' or '"', else a method name.
Result<Node> parse_inline(std::string_view text);
/// A whole configuration (map with version/model/quantization/rules …).
Result<PipelineConfig> build_pipeline_config(const Node& root, const Schemas& schemas);

}  // namespace loadstone::config
