#include "answer.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "base/text.hpp"
#include "config/attention.hpp"
#include "config/engine_keys.hpp"
#include "formats/declarations.hpp"
#include "plan/routing_configure.hpp"
#include "plan/routing_resolve.hpp"
#include "runtime/compare/metrics.hpp"
#include "runtime/compare/variant.hpp"

namespace loadstone::oracle {
namespace {

Answer of_config(const Result<config::QuantConfig>& made, Bench& bench) {
  if (!made.ok()) return refused(made.error());
  Status configured = plan::configure_all(*made, *bench.registry);
  if (!configured.ok()) return refused(configured.error());
  return accepted(made->to_node());
}

Answer build(const Node& input, Bench& bench) {
  return of_config(
      config::build_quant_config(at(input, "spec"), at(input, "kwargs"), bench.schemas), bench);
}

Answer selector(const Node& input, Bench&) {
  auto parsed = config::parse_selector(*input.find("selector"));
  if (!parsed.ok()) return refused(parsed.error());
  if (!*parsed) return accepted(Node());
  std::vector<Node> items;
  for (uint64_t index : **parsed) items.push_back(Node::of_integer(static_cast<int64_t>(index)));
  return accepted(Node::of_list(std::move(items)));
}

Answer alias(const Node& input, Bench&) {
  auto folded = config::fold_engine_keys(*input.find("kwargs"));
  if (!folded.ok()) return refused(folded.error());
  return accepted(std::move(*folded));
}

// ---- a checkpoint's declaration ---------------------------------------------------------------

/// What `component` gets from a recorded wish and declaration; `whole`: the configuration with it.
Answer with_declaration(const Node& wish, const Node& declaration, const std::string& component,
                        bool whole, Bench& bench) {
  auto made = [&]() -> Result<config::QuantConfig> {
    LS_TRY(config::QuantConfig user, config::build_quant_config(wish, Node(), bench.schemas));
    LS_TRY(Node map, formats::declared_map(declaration, "config.json"));
    std::vector<formats::Declaration> declared;
    if (!map.is_null()) {
      declared.push_back({"quantization_config", "config.json", "", std::move(map)});
    }
    if (whole) {
      return plan::resolve_declared(user, component, declared, bench.known, *bench.registry);
    }
    config::QuantConfig one;
    LS_TRY(one.flat,
           plan::resolve_component(user, component, declared, bench.known, *bench.registry));
    return one;
  }();
  return of_config(made, bench);
}

Answer disk(const Node& input, Bench& bench) {
  return with_declaration(at(input, "user"), at(input, "disk"), "transformer", true, bench);
}

Answer adopt(const Node& input, Bench& bench) {
  const Node& given = at(input, "transformer_quantization_config");
  const bool absent = given.is_text() && given.text() == "(absent)";
  return with_declaration(at(input, "user"), absent ? Node() : given, "transformer", true, bench);
}

Answer build_later(const Node& input, Bench& bench) {
  return with_declaration(at(input, "spec"), at(input, "checkpoint"), "transformer", true, bench);
}

Answer expert(const Node& input, Bench& bench) {
  return with_declaration(at(input, "user"), at(input, "disk"), at(input, "component").text(),
                          false, bench);
}

/// The reader of one method's declarations: a map that names no method means it.
Answer from_config(const Node& input, Bench& bench) {
  Node declaration = at(input, "config");
  if (declaration.is_map() && !declaration.find("quant_method")) {
    declaration.entries().emplace_back("quant_method", at(input, "method"));
  }
  return with_declaration(Node(), declaration, "transformer", true, bench);
}

Answer component(const Node& input, Bench& bench) {
  const std::string& name = at(input, "component").text();
  return with_declaration(at(input, "spec"), Node(), name.substr(0, name.find('.')), false, bench);
}

Answer encoder(const Node& input, Bench& bench) {
  return with_declaration(at(input, "spec"), Node(), "text_encoder", false, bench);
}

// ---- the comparison tool ----------------------------------------------------------------------

Node number_or_inf(double value) {
  return std::isinf(value) ? Node::of_text("inf") : Node::of_number(value);
}

void add_samples(const Node& array, std::vector<uint8_t>& out) {
  if (array.is_integer()) out.push_back(static_cast<uint8_t>(array.integer()));
  if (!array.is_list()) return;
  for (const Node& item : array.items()) add_samples(item, out);
}

Answer metrics(const Node& input, Bench&) {
  std::vector<uint8_t> reference, candidate;
  add_samples(at(input, "reference"), reference);
  add_samples(at(input, "candidate"), candidate);
  auto made = compare::metrics_of(reference, candidate);
  if (!made.ok()) return refused(made.error());
  return accepted(Node::of_map({{"cosine_similarity", number_or_inf(made->cosine_similarity)},
                                {"mae", number_or_inf(made->mae)},
                                {"mse", number_or_inf(made->mse)},
                                {"rmse", number_or_inf(made->rmse)},
                                {"max_abs", number_or_inf(made->max_abs)},
                                {"l2", number_or_inf(made->l2)},
                                {"relative_l2", number_or_inf(made->relative_l2)},
                                {"psnr_db", number_or_inf(made->psnr_db)}}));
}

std::optional<std::string> text_of(const Node& node) {
  return node.is_text() ? std::optional(node.text()) : std::nullopt;
}

Answer tool_config(const Node& input, Bench&) {
  auto made = compare::variant_quantization(
      system_files(),
      {"candidate", text_of(at(input, "quantization")),
       text_of(at(input, "quantization_config_json")), text_of(at(input, "ignored_layers"))});
  if (!made.ok()) return refused(made.error());
  const Node spec = made->spec();
  if (!spec.is_text()) return accepted(spec);
  return accepted(Node::of_map({{"method", spec}}));
}

using Answerer = std::function<Answer(const Node&, Bench&)>;
const std::map<std::string, Answerer> kAnswerers = {
    {"build", build},
    {"build_gguf", build},
    {"selector", selector},
    {"alias", alias},
    {"disk", disk},
    {"adopt", adopt},
    {"build_later", build_later},
    {"expert", expert},
    {"from_config", from_config},
    {"component", component},
    {"encoder", encoder},
    {"layer", layer},
    {"family", family},
    {"norm_layer", norm_layer},
    {"gguf_model", gguf_model},
    {"gguf_adapter", gguf_adapter},
    {"metrics", metrics},
    {"tool_config", tool_config},
};

}  // namespace

const Node& at(const Node& map, const char* key) {
  static const Node nothing;
  const Node* value = map.find(key);
  return value ? *value : nothing;
}

Answer accepted(Node value) { return Answer{Answer::Kind::accepted, std::move(value), ""}; }
Answer refused(const Error& error) { return Answer{Answer::Kind::refused, {}, error.text()}; }
Answer pending(std::string why) { return Answer{Answer::Kind::pending, {}, std::move(why)}; }

Answer answer(const std::string& kind, const Node& input, Bench& bench) {
  auto found = kAnswerers.find(kind);
  return found == kAnswerers.end() ? pending("kind " + kind) : found->second(input, bench);
}

}  // namespace loadstone::oracle
