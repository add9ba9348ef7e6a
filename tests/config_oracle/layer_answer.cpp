// Entries of kind `layer`: what one linear of a given name gets.
#include "answer.hpp"
#include "plan/routing_configure.hpp"
#include "plan/routing_resolve.hpp"

namespace loadstone::oracle {
namespace {

constexpr int kExperts = 8;  // of a layer that fuses experts; lists name none beyond

/// Names of what a fusion table says the layer is made of; experts are never in it.
std::vector<std::string> parts_of(const std::string& path, const Node& packed) {
  std::vector<std::string> out;
  const size_t dot = path.rfind('.');
  const std::string last = dot == std::string::npos ? path : path.substr(dot + 1);
  if (last == "experts") {
    for (int expert = 0; expert < kExperts; ++expert) {
      for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
        out.push_back(path + "." + std::to_string(expert) + "." + part);
      }
    }
  }
  const Node* names = packed.find(last);
  if (!names) return out;
  const std::string front = dot == std::string::npos ? "" : path.substr(0, dot + 1);
  for (const Node& name : names->items()) out.push_back(front + name.text());
  return out;
}

}  // namespace

bool only_reads(const config::MethodChoice& choice) {
  return choice.method == "autoround" || choice.method == "modelopt";
}

formats::Declaration declaration_like(const Node& spec, const std::string& method) {
  std::vector<Node::Entry> entries = {{"quant_method", Node::of_text(method)}};
  for (const auto& [key, value] : spec.entries()) {
    if (key != "method" && key != "quant_method") entries.emplace_back(key, value);
  }
  return {"quantization_config", "config.json", "", Node::of_map(std::move(entries))};
}

Answer layer(const Node& input, Bench& bench) {
  const Node& spec = at(input, "spec");
  auto made = [&]() -> Result<plan::LayerAnswer> {
    LS_TRY(config::QuantConfig user, config::build_quant_config(spec, Node(), bench.schemas));
    LS_CHECK(plan::configure_all(user, *bench.registry));
    plan::LayerQuestion question;
    question.path = at(input, "layer").text();
    question.parts = parts_of(question.path, at(input, "packed"));
    if (user.flat && user.flat->method == "autoround") {  // its words about layers are declared
      return plan::resolve_layer({}, question, {declaration_like(spec, "auto-round")}, bench.known,
                                 *bench.registry);
    }
    if (at(input, "layer_kind").text() != "linear") question.kind = graph::LayerKind::other;
    return plan::resolve_layer(user, question, {}, bench.known, *bench.registry);
  }();
  if (!made.ok()) return refused(made.error());
  return accepted(Node::of_map({{"quantized", Node::of_bool(!made->method.empty())},
                                {"method", Node::of_text(made->method)},
                                {"reason", Node::of_text(made->reason)}}));
}

}  // namespace loadstone::oracle
