// Entries of kinds `gguf_model` (what a reference to a file means) and `gguf_adapter` (which
// family's names a model's GGUF file has).
#include <map>

#include "answer.hpp"
#include "base/file.hpp"
#include "formats/gguf_reference.hpp"
#include "graph/original_names.hpp"

namespace loadstone::oracle {
namespace {

/// A model of that class, or of that type, with one tensor.
formats::Checkpoint imagined(const Node& class_name, const Node& model_type) {
  formats::Checkpoint out;
  formats::Component component;
  component.name = component.folder = "transformer";
  component.tensors.push_back({"x.weight", DType::BF16, {2, 2}, 0, 0, 8});
  if (!model_type.is_null()) component.config = Node::of_map({{"model_type", model_type}});
  out.components.push_back(std::move(component));
  if (!class_name.is_null()) out.model_index = Node::of_map({{"_class_name", class_name}});
  return out;
}

/// The recorder's name of a family's adapter.
std::string adapter_name(const std::string& family) {
  static const std::map<std::string, std::string> kNames = {
      {"qwen_image", "QwenImageDiffusionGGUFAdapter"},
      {"z_image", "ZImageDiffusionGGUFAdapter"},
      {"flux2", "Flux2KleinDiffusionGGUFAdapter"}};
  const auto found = kNames.find(family);
  return found == kNames.end() ? family : found->second;
}

}  // namespace

Answer gguf_model(const Node& input, Bench&) {
  const auto made = formats::parse_gguf_reference(system_files(), at(input, "gguf_model").text());
  if (!made.ok()) return refused(made.error());
  switch (made->kind) {
    case formats::GgufReference::Kind::in_repository:
      return accepted(Node::of_text("HUB_FILE " + made->place + " " + made->name));
    case formats::GgufReference::Kind::by_type:
      return accepted(Node::of_text("HUB_QUANT " + made->place + " " + made->name));
    default:
      return accepted(Node::of_text("FILE " + made->place));
  }
}

Answer gguf_adapter(const Node& input, Bench& bench) {
  const auto graph = graph::build_graph(
      imagined(at(input, "model_class_name"), at(input, "model_type")), bench.adapters_dir);
  if (!graph.ok()) return refused(graph.error());
  const graph::GraphComponent& component = graph->components.front();
  if (component.gguf_architecture.empty()) {
    return refused(graph::no_name_adapter(*graph, component, "transformer"));
  }
  return accepted(Node::of_text(adapter_name(graph->family)));
}

}  // namespace loadstone::oracle
