#include "plan/routing_declared.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "config/choice.hpp"
#include "plan/contradiction.hpp"
#include "plugin/format_table.hpp"

namespace loadstone::plan {
namespace {

using ChoicePtr = std::shared_ptr<const config::MethodChoice>;

std::string text_at(const Node& map, std::string_view key) {
  const Node* value = map.find(key);
  return value && value->is_text() ? value->text() : "";
}

std::string first_text(const Node& map, std::initializer_list<std::string_view> keys) {
  for (std::string_view key : keys) {
    std::string text = text_at(map, key);
    if (!text.empty()) return text;
  }
  return "";
}

/// What the claims of manifests compare.
struct Signature {
  std::string quant_method, format, algorithm;
};

Signature signature_of(const Node& value) {
  Signature out;
  out.quant_method = first_text(value, {"quant_method", "method"});
  if (out.quant_method.empty()) {
    if (const Node* producer = value.find("producer")) {
      out.quant_method = text_at(*producer, "name");
    }
  }
  out.format = first_text(value, {"format", "fmt", "packing_format", "checkpoint_format"});
  out.algorithm = text_at(value, "quant_algo");
  if (const Node* inner = value.find("quantization"); inner && out.algorithm.empty()) {
    out.algorithm = text_at(*inner, "quant_algo");
  }
  if (out.algorithm.empty()) {  // AutoRound's: "mx_fp8", "nv_fp4", "int4"
    const Node* bits = value.find("bits");
    out.algorithm = text_at(value, "data_type");
    if (!out.algorithm.empty() && bits && bits->is_integer()) {
      out.algorithm += std::to_string(bits->integer());
    }
  }
  return out;
}

/// "thinker_config.text_config" speaks of component "thinker"; "text_config" of any.
bool scope_fits(const std::string& scope, const graph::GraphComponent& component) {
  std::string first = scope.substr(0, scope.find('.'));
  const std::string tail = "_config";
  if (first.size() <= tail.size() || first.substr(first.size() - tail.size()) != tail) return true;
  first.resize(first.size() - tail.size());
  if (first == "text" || first == "llm" || first == "language") return true;
  return first == component.name || std::find(component.aliases.begin(), component.aliases.end(),
                                              first) != component.aliases.end();
}

Error refused(const formats::Declaration& declaration, const Signature& signature,
              plugin::Registry& registry) {
  Error error{Code::unsupported,
              "declared quantization refused",
              declaration.path + ": " + declaration.origin,
              "",
              "",
              {}};
  const auto table = plugin::format_table(registry);
  if (!table.ok()) return table.error();
  const std::string name = config::fold_name(signature.quant_method);
  std::vector<std::string> methods;
  for (const plugin::DeclaredFormat& line : *table) {
    if (line.quant_method.empty()) continue;
    if (!line.refusal.empty() && config::fold_name(line.quant_method) == name) {
      error.detail = "found " + quoted(signature.quant_method) + ": " + line.refusal;
      return error;
    }
    const bool known =
        std::find(methods.begin(), methods.end(), line.quant_method) != methods.end();
    if (line.refusal.empty() && !known) methods.push_back(line.quant_method);
  }
  std::string found = signature.quant_method.empty()
                          ? "no quant_method"
                          : "quant_method " + quoted(signature.quant_method);
  if (!signature.format.empty()) found += ", format " + quoted(signature.format);
  if (!signature.algorithm.empty()) found += ", quant_algo " + quoted(signature.algorithm);
  error.detail = "found " + found + ", expected a declaration that a plugin reads" +
                 (methods.empty() ? "" : " (" + join(methods, ", ") + ")");
  return error;
}

/// A declaration may name its method by either key, or by both alike.
Status one_method(const formats::Declaration& declaration) {
  const std::string first = text_at(declaration.value, "method");
  const std::string second = text_at(declaration.value, "quant_method");
  if (first.empty() || second.empty() || config::fold_name(first) == config::fold_name(second)) {
    return {};
  }
  return Error{Code::invalid_checkpoint,
               "method declared twice",
               declaration.path + ": " + declaration.origin,
               "found method " + quoted(first) + " and quant_method " + quoted(second) +
                   ", expected one of them",
               "",
               {}};
}

/// The claim on a declaration; a spelling that no claim has counts as the method it is an alias of.
const plugin::Claim* claim_of(const formats::Declaration& declaration, const Signature& signature,
                              plugin::Registry& registry) {
  const plugin::Claim* found = registry.claim_for(declaration.origin, signature.quant_method,
                                                  signature.format, signature.algorithm);
  if (found) return found;
  const auto schemas = registry.schemas();
  const config::MethodSchema* schema =
      schemas.ok() ? schemas->find(signature.quant_method) : nullptr;
  if (!schema) return nullptr;
  for (const plugin::Manifest& manifest : registry.manifests()) {
    for (const plugin::Claim& claim : manifest.claims) {
      if (config::fold_name(claim.method) != config::fold_name(schema->method)) continue;
      found = registry.claim_for(declaration.origin, claim.quant_method, signature.format,
                                 signature.algorithm);
      if (found) return found;
    }
  }
  return nullptr;
}

void add_pattern(config::PatternSet& set, uint32_t style, std::string_view pattern, uint32_t id,
                 Status* status) {
  switch (style) {
    case LS_STYLE_EXACT:
      return set.add_exact(pattern, id);
    case LS_STYLE_SUFFIX:
      return set.add_suffix(pattern, id);
    case LS_STYLE_SEGMENTS:
      return set.add_segments(pattern, id);
    case LS_STYLE_PREFIX:
      return set.add_prefix(pattern, id);
    case LS_STYLE_GLOB:
      *status = set.add_glob(pattern, id);
      return;
    default:
      *status = set.add_regex(pattern, id, true);
      return;
  }
}

/// Exact beats suffix beats the others.
int rank(uint32_t style) { return style == LS_STYLE_EXACT ? 2 : style == LS_STYLE_SUFFIX ? 1 : 0; }

}  // namespace

Result<Declared> Declared::make(const graph::GraphComponent& component,
                                const formats::Declaration& declaration,
                                plugin::DeclarationReading reading,
                                const config::MethodSchema& schema) {
  Declared out;
  out.where_ = declaration.path + ": " + declaration.origin;
  out.schema_ = schema;
  LS_CHECK(out.check_values(reading));
  out.base_ = std::make_shared<config::MethodChoice>();
  out.base_->method = schema.method;
  out.base_->declaration_form = true;
  out.base_->mark = declaration.value.mark();
  for (const config::Field& field : schema.fields) {
    out.base_->fields[field.name] = {field.fallback, config::From::fallback};
  }
  Status status;
  for (uint32_t i = 0; i < reading.fields.size() && status.ok(); ++i) {
    const plugin::DeclaredField& field = reading.fields[i];
    if (field.pattern.empty()) {
      out.base_->fields[field.name] = {field.value, config::From::checkpoint};
    } else {
      add_pattern(out.fields_, field.style, less_strip(field.pattern, component), i, &status);
    }
  }
  for (uint32_t i = 0; i < reading.scopes.size() && status.ok(); ++i) {
    const plugin::DeclaredScope& scope = reading.scopes[i];
    out.any_quantize_scope_ = out.any_quantize_scope_ || !scope.keep;
    add_pattern(out.scopes_, scope.style, less_strip(scope.pattern, component), i, &status);
  }
  if (status.ok()) status = out.scopes_.compile();
  if (status.ok()) status = out.fields_.compile();
  if (!status.ok()) {
    Error error = std::move(status).error();
    error.code = Code::invalid_checkpoint;
    return std::move(error).at(out.where_);
  }
  out.reading_ = std::move(reading);
  return out;
}

Status Declared::check_values(const plugin::DeclarationReading& reading) const {
  config::Problems problems;
  for (const plugin::DeclaredField& declared : reading.fields) {
    for (const config::Field& field : schema_.fields) {
      if (field.name == declared.name) config::read_field(field, declared.value, problems);
    }
  }
  if (problems.empty()) return {};
  Error error = problems.take();
  error.code = Code::invalid_checkpoint;
  return std::move(error).at(where_);
}

bool Declared::keeps(const std::vector<uint32_t>& scopes) const {
  int best = -1;
  bool keep = any_quantize_scope_;
  for (uint32_t id : scopes) {
    const plugin::DeclaredScope& scope = reading_.scopes[id];
    if (rank(scope.style) < best) continue;
    best = rank(scope.style);
    keep = scope.keep;
  }
  return keep;
}

bool Declared::covers(const LayerNames& names) const {
  const NameHits hits = match_names(scopes_, names);
  if (hits.parts.empty() || !hits.own.empty()) return !keeps(hits.own);
  for (const auto& part : hits.parts) {
    if (!keeps(part)) return true;
  }
  return false;
}

ChoicePtr Declared::choice_of(const std::vector<uint32_t>& fields) {
  for (const auto& [known, choice] : made_) {
    if (known == fields) return choice;
  }
  auto out = std::make_shared<config::MethodChoice>(*base_);
  std::vector<uint32_t> order = fields;
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return rank(reading_.fields[a].style) < rank(reading_.fields[b].style);
  });
  for (uint32_t id : order) {
    out->fields[reading_.fields[id].name] = {reading_.fields[id].value, config::From::checkpoint};
  }
  // Different patterns may say the same: such layers share one choice.
  ChoicePtr shared = out;
  for (const auto& [known, choice] : made_) {
    if (config::same_fields(*choice, *out)) shared = choice;
  }
  made_.emplace_back(fields, shared);
  return shared;
}

std::vector<ChoicePtr> Declared::part_choices(const LayerNames& names) {
  const NameHits hits = match_names(fields_, names);
  std::vector<ChoicePtr> out;
  for (const auto& part : hits.parts) {
    std::vector<uint32_t> ids;
    std::set_union(hits.own.begin(), hits.own.end(), part.begin(), part.end(),
                   std::back_inserter(ids));
    out.push_back(choice_of(ids));
  }
  if (out.empty()) out.push_back(choice_of(hits.own));
  return out;
}

ChoicePtr Declared::choice(const LayerNames& names) {
  const std::vector<ChoicePtr> all = part_choices(names);
  const bool equal =
      std::all_of(all.begin(), all.end(), [&](const ChoicePtr& one) { return one == all.front(); });
  return equal ? all.front() : nullptr;
}

ChoicePtr merge_fields(const config::MethodChoice& declared, const config::MethodSchema& schema,
                       const std::string& where, const config::MethodChoice& user,
                       config::Problems& problems) {
  const auto runs = [&](const std::string& name) {
    return std::any_of(schema.fields.begin(), schema.fields.end(), [&](const config::Field& field) {
      return field.name == name && field.user_wins;
    });
  };
  auto out = std::make_shared<config::MethodChoice>(declared);
  for (const auto& [name, field] : user.fields) {
    if (field.from != config::From::user || name == "ignored_layers") continue;
    config::FieldValue& own = out->fields[name];
    if (own.from != config::From::checkpoint || runs(name)) {
      own = field;
    } else if (!(own.value == field.value)) {
      problems.add("configuration disagrees with the checkpoint", field.value.mark(),
                   "found " + name + " " + field.value.describe() + ", expected " +
                       own.value.describe() + " as " + where + " declares");
    }
  }
  return out;
}

config::MethodChoice Declared::normalized() const {
  config::MethodChoice out = *base_;
  const auto list = out.fields.find("ignored_layers");
  if (list == out.fields.end()) return out;
  std::vector<Node> kept;
  for (const plugin::DeclaredScope& scope : reading_.scopes) {
    if (scope.keep) kept.push_back(Node::of_text(scope.pattern));
  }
  if (!kept.empty()) list->second = {Node::of_list(std::move(kept)), config::From::checkpoint};
  return out;
}

void check_agreement(const std::string& component, const Declared& declared, const Entry& entry,
                     config::Problems& problems) {
  if (!entry.given) return;
  constexpr const char* kWhat = "configuration disagrees with the checkpoint";
  const std::string expected = declared.method() + " as " + declared.where() + " declares";
  if (!entry.choice) {
    const std::string found =
        entry.key == "none" ? std::string("\"none\"") : "null for " + quoted(entry.key);
    problems.add(kWhat, entry.mark,
                 "found " + found + ", expected " + expected + " for " + quoted(component) +
                     " (a rule with use: keep decodes its layers)");
  } else if (config::fold_name(entry.choice->method) != config::fold_name(declared.method())) {
    problems.add(
        kWhat, entry.mark,
        "found " + entry.choice->method + " for " + quoted(component) + ", expected " + expected);
  }
}

Result<std::string> reader_of(const formats::Declaration& declaration, plugin::Registry& registry) {
  const Signature signature = signature_of(declaration.value);
  if (const plugin::Claim* claim = claim_of(declaration, signature, registry)) return claim->method;
  return refused(declaration, signature, registry);
}

Result<std::optional<Declared>> declared_by(const graph::GraphComponent& component,
                                            const std::vector<formats::Declaration>& declarations,
                                            plugin::Registry& registry,
                                            std::vector<std::string>& notes) {
  std::optional<Declared> out;
  for (const formats::Declaration& declaration : declarations) {
    if (!scope_fits(declaration.scope, component)) continue;
    Signature signature = signature_of(declaration.value);
    LS_CHECK(one_method(declaration));
    const plugin::Claim* claim = claim_of(declaration, signature, registry);
    if (out) {
      std::string note = contradiction(declaration, claim, *out, registry);
      if (!note.empty()) notes.push_back(component.name + ": " + note);
      continue;
    }
    if (!claim) return refused(declaration, signature, registry);
    LS_TRY(plugin::DeclarationReading reading,
           registry.read_declaration(*claim, declaration.value));
    LS_TRY(plugin::Method method, registry.method(reading.method));
    LS_TRY(out, Declared::make(component, declaration, std::move(reading), method.schema()));
  }
  return out;
}

Result<std::optional<Declared>> declared_for(const graph::Graph& graph, uint32_t component,
                                             const formats::Checkpoint& checkpoint,
                                             plugin::Registry& registry,
                                             std::vector<std::string>& notes) {
  const graph::GraphComponent& owner = graph.components[component];
  return declared_by(owner, checkpoint.components[owner.checkpoint_component].declarations,
                     registry, notes);
}

bool is_serialized(const graph::Layer& layer, const formats::Component& component) {
  for (const graph::LayerTensor& one : layer.tensors) {
    std::string_view suffix = one.suffix;
    if (suffix.substr(0, 7) == "linear.") suffix.remove_prefix(7);
    const DType dtype = component.tensors[one.tensor].dtype;
    if (suffix.empty() || suffix == "weight") {
      const bool plain_integer = dtype == DType::I64 || dtype == DType::BOOL;
      if (!is_plain_float(dtype) && !plain_integer) return true;
    } else if (suffix != "k_scale" && suffix != "v_scale" && suffix != "q_scale" &&
               suffix != "prob_scale") {
      if (suffix[0] == 'q' || suffix.find("scale") != std::string_view::npos ||
          suffix.find("packed") != std::string_view::npos) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace loadstone::plan
