// Entries of kinds `family` and `norm_layer`: a small model of the family, routed.
#include <filesystem>

#include "answer.hpp"
#include "base/file.hpp"
#include "formats/checkpoint.hpp"
#include "plan/routing.hpp"
#include "plan/routing_configure.hpp"
#include "plan/routing_declared.hpp"

namespace loadstone::oracle {
namespace {

constexpr const char* kComponent = "transformer";  // the one that the recorder built

/// "wan2.2-t2v-a14b" → "wan22_t2v_a14b".
std::string folder_of(const std::string& family) {
  std::string out;
  for (const char c : family) {
    if (c != '.') out.push_back(c == '-' ? '_' : c);
  }
  return out;
}

/// What a method that only reads finds: codes in every product that its declaration covers.
Status store_as_declared(const graph::Graph& graph, uint32_t component,
                         formats::Checkpoint& checkpoint, plugin::Registry& registry) {
  const graph::GraphComponent& owner = graph.components[component];
  formats::Component& stored = checkpoint.components[owner.checkpoint_component];
  std::vector<std::string> notes;
  LS_TRY(const auto declared, plan::declared_by(owner, stored.declarations, registry, notes));
  for (const graph::Layer& layer : graph.layers) {
    if (layer.component != component || layer.kind != graph::LayerKind::linear) continue;
    if (!declared->covers(plan::names_of(layer, owner))) continue;
    for (const graph::LayerTensor& tensor : layer.tensors) {
      if (tensor.suffix == "weight") stored.tensors[tensor.tensor].dtype = DType::F8_E4M3;
    }
  }
  return {};
}

/// `user` less what it says of the component, which the checkpoint declares instead.
Node without_component(const Node& spec) {
  std::vector<Node::Entry> entries;
  for (const auto& [key, value] : spec.entries()) {
    if (key != kComponent) entries.emplace_back(key, value);
  }
  return entries.empty() ? Node() : Node::of_map(std::move(entries));
}

/// The recorder's models have up to two blocks of a kind: "layers.0." becomes "layers.1." too.
void add_second_blocks(formats::Component& component) {
  constexpr std::string_view kFirst = ".0.";
  std::vector<formats::TensorEntry> more;
  for (const formats::TensorEntry& tensor : component.tensors) {
    const size_t dot = tensor.name.find('.');
    if (dot == std::string::npos || tensor.name.compare(dot, kFirst.size(), kFirst) != 0) continue;
    formats::TensorEntry second = tensor;
    second.name[dot + 1] = '1';
    if (component.find(second.name) == nullptr) more.push_back(std::move(second));
  }
  component.tensors.insert(component.tensors.end(), more.begin(), more.end());
}

struct Model {
  formats::Checkpoint checkpoint;
  graph::Graph graph;
  std::vector<plan::Routed> routed;  // by layer
};

/// `lenient`: methods may find nothing to do.
Result<Model> route_family(const std::string& family, const Node& spec, bool lenient,
                           Bench& bench) {
  Model out;
  LS_TRY(config::QuantConfig user, config::build_quant_config(spec, Node(), bench.schemas));
  LS_CHECK(plan::configure_all(user, *bench.registry));
  LS_TRY(out.checkpoint,
         formats::open_checkpoint(system_files(), bench.models_dir + "/" + folder_of(family), {}));
  for (formats::Component& component : out.checkpoint.components) {
    if (component.name == kComponent) add_second_blocks(component);
  }
  LS_TRY(out.graph, graph::build_graph(out.checkpoint, bench.adapters_dir));
  uint32_t component = 0;
  while (component + 1 < out.graph.components.size() &&
         out.graph.components[component].name != kComponent) {
    ++component;
  }
  const Node* own = spec.find(kComponent);
  const config::MethodChoice* choice = user.flat ? &*user.flat : nullptr;
  for (const auto& [key, one] : user.components) {
    if (key == kComponent && one) choice = &*one;
  }
  if (choice && only_reads(*choice)) {
    const Node& words = user.flat || !own ? spec : *own;
    auto& declarations =
        out.checkpoint.components[out.graph.components[component].checkpoint_component]
            .declarations;
    declarations.push_back(declaration_like(words, choice->method));
    LS_CHECK(store_as_declared(out.graph, component, out.checkpoint, *bench.registry));
    LS_TRY(user, config::build_quant_config(user.flat ? Node() : without_component(spec), Node(),
                                            bench.schemas));
  }
  user.allow_unmatched = lenient;
  LS_TRY(out.routed,
         plan::route(out.graph, out.checkpoint, user, *bench.registry, nullptr, nullptr));
  return out;
}

}  // namespace

Answer family(const Node& input, Bench& bench) {
  const Node& spec = at(input, "spec");
  const std::string& name = at(input, "family").text();
  if (!std::filesystem::exists(bench.models_dir + "/" + folder_of(name))) {
    return pending("no small model of " + name);
  }
  auto made = route_family(name, spec, false, bench);
  if (!made.ok()) return refused(made.error());
  std::vector<Node::Entry> out;
  for (size_t i = 0; i < made->routed.size(); ++i) {
    const graph::Layer& layer = made->graph.layers[i];
    const graph::GraphComponent& component = made->graph.components[layer.component];
    if (component.name != kComponent) continue;
    const bool quantized = made->routed[i].wish == plan::Decision::quantize;
    for (const std::string& own : plan::names_of(layer, component).own) {
      out.emplace_back(own, Node::of_bool(quantized));
    }
  }
  return accepted(Node::of_map({{"layers", Node::of_map(std::move(out))}}));
}

Answer norm_layer(const Node& input, Bench& bench) {
  constexpr const char* kLayer = "transformer_blocks.0.txt_mod.1";  // the layer that asks there
  const Node& spec = at(input, "spec");
  if (!std::filesystem::exists(bench.models_dir + "/qwen_image")) {
    return pending("no small model of qwen-image");
  }
  auto made = route_family("qwen-image", spec, true, bench);
  if (!made.ok()) return refused(made.error());
  config::QuantConfig out;
  for (size_t i = 0; i < made->routed.size(); ++i) {
    const plan::Routed& one = made->routed[i];
    if (made->graph.layers[i].path != kLayer || one.wish != plan::Decision::quantize) continue;
    out.flat = *one.choice;
  }
  return accepted(out.to_node());
}

}  // namespace loadstone::oracle
