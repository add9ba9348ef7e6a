#include "config/choice.hpp"

#include "base/text.hpp"

namespace loadstone::config {
namespace {

std::vector<std::string> known_methods(const Schemas& schemas) {
  std::vector<std::string> names;
  for (const MethodSchema& schema : schemas.methods) {
    names.push_back(schema.method);
    names.insert(names.end(), schema.aliases.begin(), schema.aliases.end());
  }
  return names;
}

std::vector<std::string> canonical_methods(const Schemas& schemas) {
  std::vector<std::string> names;
  for (const MethodSchema& schema : schemas.methods) names.push_back(schema.method);
  return names;
}

const std::string* producer_name(const Node& map) {
  const Node* producer = map.find("producer");
  const Node* name = producer ? producer->find("name") : nullptr;
  return name && name->is_text() ? &name->text() : nullptr;
}

/// The schema of a spelling, or a problem that says what is known.
const MethodSchema* find_method(std::string_view spelling, const Mark& mark, const Schemas& schemas,
                                Problems& problems) {
  if (const MethodSchema* schema = schemas.find(spelling)) return schema;
  const std::string folded = fold_name(spelling);
  for (const auto& [name, reason] : schemas.refused) {
    if (fold_name(name) != folded) continue;
    problems.add(Error{Code::unsupported,
                       "method refused",
                       mark.text(),
                       "found " + quoted(spelling) + ": " + reason,
                       "",
                       {}});
    return nullptr;
  }
  auto names = known_methods(schemas);
  std::string hint = nearest(folded, names);
  problems.add("unknown quantization method", mark,
               "found " + quoted(spelling) + ", expected " +
                   (names.empty() ? "no method, since no plugin is loaded"
                                  : join(canonical_methods(schemas))),
               hint.empty() ? "" : quoted(hint));
  return nullptr;
}

/// The method that a map names by `method` and `quant_method` (equal spellings count as one).
const MethodSchema* method_of(const Node& map, const Schemas& schemas, Problems& problems,
                              std::string& spelled) {
  const Node* given = nullptr;
  const std::string* spelling = nullptr;
  for (std::string_view key : {"method", "quant_method"}) {
    const Node* value = map.find(key);
    if (!value || value->is_null()) continue;
    const std::string* text = name_text(*value);
    if (!text) {
      problems.add("value of " + quoted(key) + " rejected", value->mark(),
                   "found " + value->describe() + ", expected a method's name");
      return nullptr;
    }
    if (spelling && fold_name(*spelling) != fold_name(*text)) {
      const MethodSchema* one = schemas.find(*spelling);
      if (!one || one != schemas.find(*text)) {
        problems.add("method given twice", value->key_mark(),
                     "found method " + quoted(*spelling) + " and quant_method " + quoted(*text) +
                         ", expected one of them or equal names");
        return nullptr;
      }
    }
    if (!spelling) {
      spelling = text;
      given = value;
    }
  }
  if (spelling) {
    spelled = *spelling;
    return find_method(spelled, given->mark(), schemas, problems);
  }
  if (const std::string* producer = producer_name(map)) {
    if (const MethodSchema* schema = schemas.find(*producer)) return schema;
  }
  std::string hint;
  for (const auto& [key, value] : map.entries()) {
    if (hint.empty())
      hint = nearest(fold_name(key), std::vector<std::string>{"method", "quant_method"});
  }
  problems.add("method missing", map.mark(),
               "found a map without \"method\" or \"quant_method\", expected one of them or a map "
               "of components",
               hint.empty() ? "" : quoted(hint));
  return nullptr;
}

const Field* find_field(const MethodSchema& schema, std::string_view name) {
  for (const Field& field : schema.fields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

bool is_method_key(std::string_view key) { return key == "method" || key == "quant_method"; }

void unknown_field(const MethodSchema& schema, const std::string& key, const Node& value,
                   Problems& problems) {
  std::vector<std::string> names;
  for (const Field& field : schema.fields) names.push_back(field.name);
  std::string hint = nearest(key, names);
  problems.add("unknown field of " + schema.method,
               value.key_mark().line ? value.key_mark() : value.mark(),
               "found " + quoted(key) + ", expected " +
                   (names.empty() ? "no field" : "one of " + join(names)),
               hint.empty() ? "" : quoted(hint));
}

constexpr std::string_view kList = "ignored_layers";
constexpr std::string_view kOlderList = "modules_to_not_convert";  // in declarations

bool says_something(const Node* list) {
  return list && !list->is_null() && !(list->is_list() && list->items().empty());
}

void read_entries(const MethodSchema& schema, const Node& map, MethodChoice& choice,
                  Problems& problems) {
  for (const auto& [key, value] : map.entries()) {
    const Field* field = find_field(schema, key);
    const bool older = !field && choice.declaration_form && key == kOlderList;
    if (older) field = find_field(schema, kList);
    if (older && field && says_something(map.find(kList))) continue;  // the newer name wins
    const bool renamed = key == kList && !find_field(schema, kOlderList);
    if (renamed && !says_something(&value) && map.find(kOlderList)) continue;
    if (is_method_key(key)) continue;
    if (key == "on_unsupported") {
      choice.on_unsupported = read_on_unsupported(value, problems);
      continue;
    }
    if (!field) {
      unknown_field(schema, key, value, problems);
      continue;
    }
    if (field->declared_only && !choice.declaration_form) {
      problems.add("field of a checkpoint's declaration", value.key_mark(),
                   "found " + quoted(key) +
                       " beside \"method\", expected it only in a checkpoint's "
                       "own dict (with \"quant_method\")");
      continue;
    }
    if (auto read = read_field(*field, value, problems)) {
      choice.fields[field->name] =
          FieldValue{std::move(*read), value.is_null() ? From::fallback : From::user};
    }
  }
}

/// An alias may stand for fields: "modelopt_fp4" by itself is ModelOpt's NVFP4.
void set_implied(const MethodSchema& schema, const std::string& spelled, MethodChoice& choice) {
  const auto implied = schema.implied.find(fold_name(spelled));
  if (implied == schema.implied.end()) return;
  for (const auto& [name, field] : choice.fields) {
    if (field.from != From::fallback) return;
  }
  for (const auto& [name, text] : implied->second) {
    const auto field = choice.fields.find(name);
    if (field == choice.fields.end()) continue;
    field->second = FieldValue{Node::of_text(text, choice.mark), From::user};
  }
}

}  // namespace

bool names_method(const Node& map, const Schemas& schemas) {
  if (map.find("method") || map.find("quant_method")) return true;
  const std::string* producer = producer_name(map);
  return producer && schemas.find(*producer);
}

std::optional<MethodChoice> read_choice(const Node& spec, const Node& kwargs,
                                        const Schemas& schemas, Problems& problems) {
  const size_t before = problems.size();
  const MethodSchema* schema = nullptr;
  MethodChoice choice;
  std::string spelled;
  choice.mark = spec.mark();
  if (const std::string* text = name_text(spec)) {
    spelled = *text;
    schema = find_method(spelled, spec.mark(), schemas, problems);
  } else if (spec.is_map()) {
    schema = method_of(spec, schemas, problems, spelled);
    const Node* method = spec.find("method");
    choice.declaration_form = !method || method->is_null();
  } else {
    problems.add("quantization rejected", spec.mark(),
                 "found " + spec.describe() + ", expected a method's name or a map");
  }
  if (!schema) return std::nullopt;
  choice.method = schema->method;
  for (const Field& field : schema->fields) {
    choice.fields[field.name] = FieldValue{field.fallback, From::fallback};
  }
  if (spec.is_map()) read_entries(*schema, spec, choice, problems);
  if (kwargs.is_map()) {
    for (const auto& [key, value] : kwargs.entries()) {
      if (!is_method_key(key)) continue;
      problems.add("keyword option rejected", value.mark(),
                   "found " + quoted(key) + " beside a method, expected fields of it only");
    }
    read_entries(*schema, kwargs, choice, problems);
  }
  set_implied(*schema, spelled, choice);
  if (problems.size() != before) return std::nullopt;
  return choice;
}

Result<MethodChoice> build_method_choice(const Node& spec, const Schemas& schemas) {
  Problems problems;
  auto choice = read_choice(spec, Node(), schemas, problems);
  if (!choice) return problems.take();
  return std::move(*choice);
}

}  // namespace loadstone::config
