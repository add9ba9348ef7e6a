// Text-driven cases of configurations: tests/cases/config*.yaml, whose head says the format. Each
// case is a text and what the reader makes of it: a rendering, or the lines of the error.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>

#include "case_files.hpp"
#include "config/attention.hpp"
#include "config/engine_keys.hpp"
#include "config/pattern.hpp"
#include "config/quant_config.hpp"

namespace loadstone::config {
namespace {

FieldType type_of(const std::string& name) {
  static const std::map<std::string, FieldType> kTypes = {
      {"boolean", FieldType::boolean},   {"integer", FieldType::integer},
      {"number", FieldType::number},     {"text", FieldType::text},
      {"integers", FieldType::integers}, {"texts", FieldType::texts},
      {"tree", FieldType::tree}};
  return kTypes.at(name);
}

std::vector<std::string> texts_of(const Node* list) {
  std::vector<std::string> out;
  if (!list) return out;
  for (const Node& item : list->items()) out.push_back(item.text());
  return out;
}

Field field_of(const std::string& name, const Node& node) {
  Field out;
  out.name = name;
  out.type = type_of(node.find("type")->text());
  if (const Node* value = node.find("default")) out.fallback = *value;
  out.choices = texts_of(node.find("choices"));
  if (const Node* low = node.find("low")) out.low = low->number();
  if (const Node* high = node.find("high")) out.high = high->number();
  out.declared_only = node.find("declared_only") != nullptr;
  return out;
}

Schemas schemas_of(const Node& file) {
  Schemas out;
  for (const auto& [name, node] : file.find("methods")->entries()) {
    MethodSchema method{name, texts_of(node.find("aliases")), "plugin", {}};
    if (const Node* fields = node.find("fields")) {
      for (const auto& [field, value] : fields->entries()) {
        method.fields.push_back(field_of(field, value));
      }
    }
    if (const Node* implied = node.find("implied")) {
      for (const auto& [alias, values] : implied->entries()) {
        for (const auto& [field, value] : values.entries()) {
          method.implied[alias][field] = value.text();
        }
      }
    }
    out.methods.push_back(std::move(method));
  }
  for (const auto& [name, reason] : file.find("refused")->entries()) {
    out.refused[name] = reason.text();
  }
  return out;
}

std::string say(const Choice& choice) {
  if (!choice) return "keep";
  std::string out = choice->method + (choice->declaration_form ? " (declared)" : "");
  for (const auto& [name, value] : choice->fields) {
    if (value.from != From::fallback) out += " " + name + "=" + value.value.to_json();
  }
  if (choice->on_unsupported) {
    out += *choice->on_unsupported == OnUnsupported::keep ? " or-keep" : " or-error";
  }
  return out;
}

std::string say(const QuantConfig& config) {
  if (config.explicitly_none) return "none";
  if (!config.configured) return "nothing";
  std::string out = config.flat ? say(config.flat) : "";
  for (size_t i = 0; i < config.components.size(); ++i) {
    const auto& [key, choice] = config.components[i];
    out += (i == 0 ? "" : "; ") + key + ": " + say(choice);
  }
  return out;
}

std::string say(const Rule& rule) {
  std::string out = rule.mark.text();
  const auto add = [&](const char* name, const auto& value) {
    if (value) out += " " + std::string(name) + "=" + *value;
  };
  add("component", rule.component);
  add("layer", rule.layer);
  add("role", rule.role);
  add("kind", rule.kind);
  add("dtype", rule.dtype);
  if (rule.min_elements) out += " from " + std::to_string(*rule.min_elements);
  if (rule.max_elements) out += " to " + std::to_string(*rule.max_elements);
  out += " → " + say(rule.use) + (rule.allow_unmatched ? " allow_unmatched" : "");
  if (rule.on_unsupported) {
    out += *rule.on_unsupported == OnUnsupported::keep ? ", or keep" : ", or error";
  }
  return out;
}

std::string say(const PipelineConfig& config) {
  std::string out = "model " + config.model + "\nquantization " + say(config.quantization);
  if (config.quantization.on_unsupported == OnUnsupported::keep) out += "\nor keep";
  if (config.quantization.allow_unmatched) out += "\nallow_unmatched";
  for (const Rule& rule : config.quantization.rules) out += "\nrule " + say(rule);
  out += "\nload " + config.load.device + " " + config.load.dtype + " ring " +
         std::to_string(config.load.ring_nbytes) + " threads " +
         std::to_string(config.load.threads);
  if (config.load.io != "pread") out += " io " + config.load.io;
  for (const auto& [name, target] : config.load.place)
    out += "\nplace " + name + " " + target.device;
  if (const std::string run = config.run.text(); !run.empty()) out += "\nrun " + run;
  for (const auto& one : config.components) {
    out += "\ncomponent " + one.name + " " + one.path + " at " + one.mark.text();
  }
  if (!config.attention.is_null()) out += "\nattention " + config.attention.to_json();
  return out;
}

std::string say(const std::optional<std::vector<uint64_t>>& selected) {
  if (!selected) return "none";
  if (selected->size() > 20) return std::to_string(selected->size()) + " indices";
  std::string out;
  for (uint64_t index : *selected) out += (out.empty() ? "" : " ") + std::to_string(index);
  return out;
}

std::string say(const Node& node) { return node.to_json(); }
std::string say(const std::string& text) { return text; }

/// Kinds and raw characters of scalars, marks of keys: what to_json doesn't tell.
std::string scalars(const Node& node) {
  std::string out(to_string(node.kind()));
  out += " " + node.mark().text();
  if (!node.raw().empty()) out += " " + node.raw();
  if (node.is_list()) {
    for (const Node& item : node.items()) out += "; " + scalars(item);
  } else if (node.is_map()) {
    for (const auto& [key, value] : node.entries()) {
      out += "; " + key + " " + value.key_mark().text() + " = " + scalars(value);
    }
  }
  return out;
}

Status add(PatternSet& set, const std::string& style, const std::string& pattern, uint32_t id) {
  if (style == "exact") set.add_exact(pattern, id);
  if (style == "segments") set.add_segments(pattern, id);
  if (style == "prefix") set.add_prefix(pattern, id);
  if (style == "suffix") set.add_suffix(pattern, id);
  if (style == "glob") return set.add_glob(pattern, id);
  if (style == "regex") return set.add_regex(pattern, id);
  if (style == "search") return set.add_regex(pattern, id, true);
  if (style == "layer") return set.add_layer(pattern, id);
  if (style == "entry") return set.add_entry(pattern, id);
  return {};
}

/// Which of `names` the patterns of some style match, with their numbers where there are several.
Result<std::string> matching(const Node& one, const std::string& text) {
  const std::string& style = one.find("style")->text();
  if (style == "check") {
    LS_CHECK(check_pattern(text));
    return std::string(is_pattern(text) ? "pattern" : "name");
  }
  PatternSet set;
  uint32_t count = 0;
  for (size_t begin = 0; begin <= text.size(); ++count) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (count > 0 && begin == text.size()) break;
    LS_CHECK(add(set, style, text.substr(begin, end - begin), count));
    begin = end + 1;
  }
  LS_CHECK(set.compile());
  const Node* component = one.find("component");
  std::string out;
  for (const Node& name : one.find("names")->items()) {
    std::vector<uint32_t> ids;
    set.match(component ? component->text() : "", name.raw(), &ids);
    if (ids.empty()) continue;
    out += (out.empty() ? "" : " ") + name.raw();
    for (size_t i = 0; count > 1 && i < ids.size(); ++i) {
      if (ids.size() < 4 || i == 0 || i + 1 == ids.size()) out += ":" + std::to_string(ids[i]);
    }
    if (count > 3) out += "(" + std::to_string(ids.size()) + ")";
  }
  return out;
}

std::string say(const MethodChoice& choice) { return say(Choice(choice)); }

template <class T>
std::string outcome(const Result<T>& result) {
  return result.ok() ? say(*result) : result.error().text();
}

std::string run(const Node& one, const std::string& text, const Schemas& schemas) {
  const std::string& what = one.find("do")->text();
  if (what == "match") return outcome(matching(one, text));
  if (what == "inline") return outcome(parse_inline(text));
  if (what == "size") {
    const auto read = parse_yaml(text, "c.yaml");
    return read.ok() ? "read" : read.error().text();
  }
  if (what == "inline-build") {
    const auto value = parse_inline(text);
    return value.ok() ? outcome(build_quant_config(*value, Node(), schemas)) : outcome(value);
  }
  const bool json = one.find("from") != nullptr;
  const Result<Node> tree = json ? parse_json(text, "c.json") : parse_yaml(text, "c.yaml");
  if (!tree.ok() || what == "yaml") return outcome(tree);
  if (what == "scalars") return scalars(*tree);
  if (what == "file") return outcome(build_pipeline_config(*tree, schemas));
  if (what == "print-file") {
    const auto made = build_pipeline_config(*tree, schemas);
    return made.ok() ? made->quantization.to_node().to_json() : made.error().text();
  }
  if (what == "method") return outcome(build_method_choice(*tree, schemas));
  if (what == "selector") return outcome(parse_selector(*tree));
  if (what == "engine") return outcome(fold_engine_keys(*tree));
  if (what == "attention") {
    Problems problems;
    const Attention read = read_attention(*tree, problems);
    const std::string refused = problems.empty() ? "" : problems.take().text() + "\n";
    return refused + read.kv_cache_dtype + "; " + say(read.skip_steps) + "; " +
           say(read.skip_layers);
  }
  const Node* given = one.find("kwargs");
  const Result<Node> kwargs = parse_yaml(given ? given->text() : "", "k");
  if (!kwargs.ok()) return outcome(kwargs);
  const bool again = what == "again";
  const auto made = build_quant_config(*tree, again ? Node() : *kwargs, schemas);
  if (again && made.ok()) return outcome(build_quant_config(*made, *kwargs, schemas));
  if (what == "print" && made.ok()) return made->to_node().to_json();
  return outcome(made);
}

/// `in`, repeated `times`, with `after` repeated as often behind it, and `bytes`.
std::string text_of(const Node& one) {
  const Node* times = one.find("times");
  const Node* after = one.find("after");
  std::string out, tail;
  for (int64_t i = 0; i < (times ? times->integer() : 1); ++i) {
    out += one.find("in")->text();
    if (after) tail += after->text();
  }
  if (const Node* bytes = one.find("bytes")) {
    for (const Node& byte : bytes->items()) tail += static_cast<char>(byte.integer());
  }
  return out + tail;
}

TEST(Config, Cases) {
  size_t count = 0;
  for (const auto& path : testing::case_files("config")) {
    const Node file = testing::read_cases(path);
    const Schemas schemas = schemas_of(file);
    for (const Node& one : file.find("cases")->items()) {
      ++count;
      if (!testing::runs(one)) continue;
      const std::string got = run(one, text_of(one), schemas);
      EXPECT_EQ(got, one.find("out")->text()) << one.mark().text() << " gives\n"
                                              << Node::of_text(got).to_json();
    }
  }
  EXPECT_GE(count, 400u);
}

}  // namespace
}  // namespace loadstone::config
