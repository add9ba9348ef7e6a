// Graph as the tree that reports print.
#include "graph/graph.hpp"

namespace loadstone::graph {
namespace {

Node text(std::string value) { return Node::of_text(std::move(value)); }

Node layer_node(const Graph& graph, const Layer& layer) {
  std::vector<Node> parts;
  for (const Part& part : layer.parts) {
    parts.push_back(
        Node::of_map({{"name", text(part.name)},
                      {"shard", text(part.shard)},
                      {"role", text(part.role)},
                      {"rows", Node::of_integer(static_cast<int64_t>(part.out_count))}}));
  }
  return Node::of_map({{"component", text(graph.components[layer.component].name)},
                       {"layer", text(layer.path)},
                       {"kind", text(std::string(to_string(layer.kind)))},
                       {"role", text(layer.role)},
                       {"out", Node::of_integer(static_cast<int64_t>(layer.out))},
                       {"in", Node::of_integer(static_cast<int64_t>(layer.in))},
                       {"groups", Node::of_integer(layer.groups)},
                       {"default", text(layer.fallback.quantize ? "quantize" : "keep")},
                       {"why", layer.fallback.quantize ? Node() : text(layer.fallback.why)},
                       {"parts", Node::of_list(std::move(parts))}});
}

}  // namespace

Node Graph::to_node() const {
  std::vector<Node> parts, links, all, remarks;
  for (const GraphComponent& component : components) {
    parts.push_back(Node::of_map({{"name", text(component.name)},
                                  {"kind", text(component.kind)},
                                  {"reach", text(std::string(to_string(component.reach)))}}));
  }
  for (const Edge& edge : edges) {
    links.push_back(Node::of_map(
        {{"from", text(edge.from)}, {"to", text(edge.to)}, {"carries", text(edge.carries)}}));
  }
  for (const Layer& layer : layers) all.push_back(layer_node(*this, layer));
  for (const std::string& note : notes) remarks.push_back(text(note));
  return Node::of_map({{"family", text(family)},
                       {"variant", text(variant)},
                       {"family_known", Node::of_bool(family_known)},
                       {"components", Node::of_list(std::move(parts))},
                       {"edges", Node::of_list(std::move(links))},
                       {"layers", Node::of_list(std::move(all))},
                       {"support", support},
                       {"notes", Node::of_list(std::move(remarks))}});
}

}  // namespace loadstone::graph
