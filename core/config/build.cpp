// build_quant_config: every form of the reference's entry (null, name, flat map, component map).
#include "base/text.hpp"
#include "config/choice.hpp"
#include "config/pattern.hpp"

namespace loadstone::config {
namespace {

bool has_options(const Node& kwargs) { return kwargs.is_map() && !kwargs.entries().empty(); }

void refuse_options(const Node& kwargs, const std::string& beside, Problems& problems) {
  if (!has_options(kwargs)) return;
  std::vector<std::string> names;
  for (const auto& [key, value] : kwargs.entries()) names.push_back(quoted(key));
  problems.add("keyword options rejected", kwargs.mark(),
               "found " + join(names, " and ") + " beside " + beside +
                   ", expected options only beside one method");
}

bool is_none(const Node& node) {
  const std::string* text = name_text(node);
  return text && fold_name(*text) == "none";
}

/// "METHOD", "quantMethod": a misspelt key of one method, not a component.
bool resembles_method_key(const std::string& key) {
  std::string letters;
  for (char c : fold_name(key)) {
    if (c != '_') letters += c;
  }
  return letters == "method" || letters == "quantmethod";
}

/// A map without a method whose values are names, maps with a method, or null. A map of names alone
/// counts when each is a method: otherwise its keys are more likely the fields of one.
bool is_component_map(const Node& map, const Schemas& schemas) {
  if (map.entries().empty() || names_method(map, schemas)) return false;
  bool certain = false;
  bool all_methods = true;
  for (const auto& [key, value] : map.entries()) {
    if (resembles_method_key(key)) return false;
    const std::string* text = value.is_null() ? nullptr : name_text(value);
    if (!value.is_null() && !text && !value.is_map()) return false;
    certain = certain || value.is_null() || names_method(value, schemas);
    all_methods = all_methods && text && (is_none(value) || schemas.find(*text));
  }
  return certain || all_methods;
}

void read_component_map(const Node& map, const Schemas& schemas, QuantConfig& config,
                        Problems& problems) {
  config.is_component_map = true;
  for (const auto& [key, value] : map.entries()) {
    if (key.empty()) {
      problems.add("component rejected", value.key_mark(),
                   "found an empty name, expected a component's name");
      continue;
    }
    Choice choice;
    if (!value.is_null() && !is_none(value)) {
      choice = read_choice(value, Node(), schemas, problems);
    }
    if (is_pattern(key)) {
      if (Status status = check_pattern(key); !status.ok()) {
        problems.add(std::move(status).error().at(value.key_mark().text()));
      }
    }
    config.components.emplace_back(key, std::move(choice));
    config.component_marks.push_back(value.key_mark());
  }
}

}  // namespace

Result<QuantConfig> build_quant_config(const Node& spec, const Node& kwargs,
                                       const Schemas& schemas) {
  Problems problems;
  QuantConfig config;
  if (!kwargs.is_null() && !kwargs.is_map()) {
    problems.add("keyword options rejected", kwargs.mark(),
                 "found " + kwargs.describe() + ", expected a map");
  }
  if (spec.is_null()) {
    refuse_options(kwargs, "no method", problems);
  } else if (is_none(spec)) {
    config.configured = config.explicitly_none = true;
    refuse_options(kwargs, "\"none\"", problems);
  } else if (spec.is_map() && is_component_map(spec, schemas)) {
    config.configured = true;
    refuse_options(kwargs, "a map of components", problems);
    read_component_map(spec, schemas, config, problems);
  } else {
    config.configured = true;
    config.flat = read_choice(spec, kwargs, schemas, problems);
  }
  if (!problems.empty()) return problems.take();
  return config;
}

Result<QuantConfig> build_quant_config(const QuantConfig& existing, const Node& kwargs,
                                       const Schemas&) {
  Problems problems;
  refuse_options(kwargs, "an existing configuration", problems);
  if (!problems.empty()) return problems.take();
  return existing;
}

}  // namespace loadstone::config
