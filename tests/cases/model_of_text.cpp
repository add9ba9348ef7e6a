#include "model_of_text.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "base/file.hpp"
#include "formats/safetensors_writer.hpp"
#include "graph/adapter.hpp"
#include "plan/plan.hpp"

namespace loadstone::testing {
namespace {

namespace fs = std::filesystem;

void put(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

/// "BF16 8x16", "F32 -" (a scalar); "= 63" fills it with that byte, "= rising" with 0, 1, 2, …
void fill_spec(const std::string& name, const std::string& text, formats::TensorSpec& spec,
               std::vector<std::byte>& bytes) {
  std::istringstream in(text);
  std::string dtype, dims, equals, fill = "0";
  in >> dtype >> dims >> equals >> fill;
  spec.name = name;
  spec.dtype = dtype_from_safetensors(dtype).value();
  std::istringstream each(dims);
  for (std::string dim; std::getline(each, dim, 'x');) {
    if (dim != "-") spec.shape.push_back(std::stoull(dim));
  }
  const uint64_t nbytes = plan::tensor_nbytes(spec.dtype, spec.shape).value();
  const bool rising = fill == "rising";
  const uint64_t same = rising ? 0 : std::stoull(fill);
  for (uint64_t i = 0; i < nbytes; ++i) {
    bytes.push_back(static_cast<std::byte>(rising ? i : same));
  }
}

void write_tensors(const fs::path& path, const std::vector<Node::Entry>& tensors) {
  std::vector<formats::TensorSpec> specs;
  std::vector<std::byte> bytes;
  for (const auto& [pattern, text] : tensors) {
    for (const graph::Expanded& one : graph::expand_braces(pattern)) {
      fill_spec(one.text, text.text(), specs.emplace_back(), bytes);
    }
  }
  fs::create_directories(path.parent_path());
  auto writer = formats::SafetensorsWriter::create(path.string(), specs);
  if (!writer.ok()) throw std::runtime_error(writer.error().text());
  if (!writer->append(bytes).ok() || !writer->finish().ok()) throw std::runtime_error("writing");
}

uint64_t number(const Node& map, std::string_view key, uint64_t otherwise) {
  const Node* value = map.find(key);
  return value ? static_cast<uint64_t>(value->integer()) : otherwise;
}

std::string text(const Node& map, std::string_view key, const std::string& otherwise) {
  const Node* value = map.find(key);
  return value ? value->raw() : otherwise;
}

graph::LayerKind kind_of(const std::string& name) {
  for (const auto kind : {graph::LayerKind::linear, graph::LayerKind::grouped_linear,
                          graph::LayerKind::gather, graph::LayerKind::attention}) {
    if (graph::to_string(kind) == name) return kind;
  }
  return graph::LayerKind::other;
}

/// The part's tensors are those below its name; its rows are its weight's unless they are given.
void add_part(const Node& node, const formats::Component& stored, graph::Layer& layer) {
  const bool plain = !node.is_map();
  const Node none = Node::of_map({});
  const Node& given = plain ? none : node;
  graph::Part part;
  part.name = part.path = plain ? node.raw() : text(node, "name", "");
  part.shard = text(given, "shard", std::string(1, static_cast<char>('a' + layer.parts.size())));
  part.role = text(given, "role", "");
  part.transform = text(given, "transform", "");
  part.group = static_cast<uint32_t>(number(given, "group", 0));
  uint64_t rows = 0, columns = 0;
  for (uint32_t i = 0; i < stored.tensors.size(); ++i) {
    const formats::TensorEntry& tensor = stored.tensors[i];
    const bool itself = tensor.name == part.name;
    if (!itself && !tensor.name.starts_with(part.name + ".")) continue;
    const std::string suffix = itself ? "" : tensor.name.substr(part.name.size() + 1);
    layer.tensors.push_back({i, static_cast<uint32_t>(layer.parts.size()), part.group, suffix});
    layer.has_bias = layer.has_bias || suffix == "bias";
    if (tensor.shape.size() != 2 || suffix.ends_with("scale")) continue;
    rows = tensor.shape[0];
    columns = tensor.shape[1];
  }
  part.out_begin = number(given, "begin", layer.out);
  part.out_count = number(given, "count", rows);
  part.file_begin = number(given, "file_begin", 0);
  part.file_total = number(given, "file_total", rows);
  layer.out = std::max(layer.out, part.out_begin + part.out_count);
  layer.in = columns;
  layer.parts.push_back(std::move(part));
}

graph::Layer layer_of(const Node& node, const std::vector<graph::GraphComponent>& components,
                      const formats::Checkpoint& checkpoint) {
  const bool plain = !node.is_map();
  const Node none = Node::of_map({});
  const Node& given = plain ? none : node;
  graph::Layer layer;
  layer.path = plain ? node.raw() : text(node, "path", "");
  layer.component = static_cast<uint32_t>(number(given, "component", 0));
  layer.kind = kind_of(text(given, "kind", "linear"));
  layer.role = text(given, "role", "");
  layer.groups = static_cast<uint32_t>(number(given, "groups", 1));
  const std::vector<graph::Scope>& scopes = components[layer.component].scopes;
  for (size_t i = 0; i < scopes.size(); ++i) {
    if (layer.path.starts_with(scopes[i].prefix)) layer.scope = static_cast<int32_t>(i);
  }
  const auto& stored = checkpoint.components[components[layer.component].checkpoint_component];
  if (const Node* parts = given.find("parts")) {
    for (const Node& part : parts->items()) add_part(part, stored, layer);
  } else {
    add_part(Node::of_map({{"name", Node::of_text(layer.path)}}), stored, layer);
    layer.parts[0].shard.clear();
  }
  layer.out = number(given, "out", layer.out);
  layer.in = number(given, "in", layer.in);
  layer.fallback.why = text(given, "keep", "");
  layer.fallback.quantize = layer.fallback.why.empty();
  return layer;
}

graph::GraphComponent component_of(const std::string& name, uint32_t index, const Node* given) {
  graph::GraphComponent out;
  out.name = name;
  out.checkpoint_component = index;
  out.kind = "case";
  out.reach = graph::Reach::flat;
  if (!given) return out;
  out.kind = text(*given, "kind", out.kind);
  if (const Node* aliases = given->find("aliases")) {
    for (const Node& alias : aliases->items()) out.aliases.push_back(alias.raw());
  }
  if (text(*given, "reach", "flat") == "map") out.reach = graph::Reach::map;
  const Node none = Node::of_map({});
  for (const auto& [scope, prefix] :
       (given->find("scopes") ? *given->find("scopes") : none).entries()) {
    out.scopes.push_back({scope, prefix.raw()});
  }
  for (const auto& [from, to] :
       (given->find("renames") ? *given->find("renames") : none).entries()) {
    out.prefix_aliases.emplace_back(from, to.raw());
  }
  return out;
}

}  // namespace

Result<std::shared_ptr<const formats::Checkpoint>> write_model(const fs::path& dir,
                                                               const Node& model,
                                                               const Node* with) {
  const std::string pipeline = text(model, "pipeline", "CasePipeline");
  std::string index = "{\"_class_name\": " + Node::of_text(pipeline).to_json();
  for (const auto& [name, node] : model.find("components")->entries()) {
    const Node* extra = with ? with->find(name) : nullptr;
    const std::string type = Node::of_text(text(node, "class", "Case")).to_json();
    std::string config = "{\"_class_name\": " + type;
    if (const Node* declares = extra ? extra->find("declares") : nullptr) {
      config += ", \"quantization_config\": " + declares->to_json();
    }
    put(dir / name / "config.json", config + "}");
    std::vector<Node::Entry> tensors = node.find("tensors")->entries();
    if (const Node* more = extra ? extra->find("tensors") : nullptr) {
      for (const auto& [key, value] : more->entries()) {
        const auto same =
            std::find_if(tensors.begin(), tensors.end(),
                         [wanted = key](const auto& one) { return one.first == wanted; });
        same == tensors.end() ? tensors.emplace_back(key, value) : * same = {key, value};
      }
    }
    write_tensors(dir / name / "model.safetensors", tensors);
    index += ", \"" + name + "\": [\"diffusers\", " + type + "]";
  }
  put(dir / "model_index.json", index + "}");
  LS_TRY(auto opened, formats::open_checkpoint(system_files(), dir.string()));
  return std::make_shared<const formats::Checkpoint>(std::move(opened));
}

Result<graph::Graph> graph_of(const formats::Checkpoint& checkpoint, const Node& model) {
  const Node* given = model.find("graph");
  if (!given) return graph::build_graph(checkpoint, LOADSTONE_SOURCE_DIR "/model_adapters");
  graph::Graph out;
  out.family = out.variant = text(*given, "family", "case");
  out.family_known = given->find("unknown") == nullptr;
  if (const Node* support = given->find("support")) out.support = *support;
  const Node* known = given->find("components");
  for (uint32_t i = 0; i < checkpoint.components.size(); ++i) {
    const std::string& name = checkpoint.components[i].name;
    out.components.push_back(component_of(name, i, known ? known->find(name) : nullptr));
  }
  for (const Node& layer : given->find("layers")->items()) {
    for (const graph::Expanded& one : graph::expand_braces(layer.is_map() ? "" : layer.raw())) {
      const Node single = layer.is_map() ? layer : Node::of_text(one.text);
      out.layers.push_back(layer_of(single, out.components, checkpoint));
    }
  }
  return out;
}

}  // namespace loadstone::testing
