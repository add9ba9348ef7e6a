// loadstone inspect: what a checkpoint holds.
#include <fmt/format.h>

#include <map>

#include "base/text.hpp"
#include "commands.hpp"
#include "exit_code.hpp"
#include "load/pipeline.hpp"
#include "plan/routing_declared.hpp"
#include "session.hpp"
#include "table.hpp"

namespace loadstone::cli {
namespace {

std::string dtypes_of(const formats::Component& component) {
  std::map<std::string, uint64_t> nbytes;
  for (const auto& tensor : component.tensors) {
    nbytes[std::string(name_of(tensor.dtype))] += tensor.nbytes;
  }
  std::vector<std::pair<uint64_t, std::string>> ordered;
  for (const auto& [name, count] : nbytes) ordered.emplace_back(count, name);
  std::sort(ordered.rbegin(), ordered.rend());
  std::vector<std::string> names;
  for (const auto& [count, name] : ordered) names.push_back(name);
  return join(names, ", ", 4);
}

/// "fp8", "auto-round → mxfp8", "torchao (refused)".
std::string declared_by(const formats::Component& component, plugin::Registry& registry) {
  std::vector<std::string> texts;
  for (const auto& declaration : component.declarations) {
    const Node* method = declaration.value.find("quant_method");
    std::string text = method && method->is_text() ? escaped(method->text()) : declaration.origin;
    const auto reader = plan::reader_of(declaration, registry);
    if (!reader.ok()) {
      text += " (refused)";
    } else if (config::fold_name(text) != config::fold_name(*reader)) {
      text += " → " + *reader;
    }
    texts.push_back(std::move(text));
  }
  return join(texts, ", ");
}

/// Who reads each declaration, or why nobody does.
Node readers_node(const formats::Checkpoint& checkpoint, plugin::Registry& registry) {
  std::vector<Node> out;
  for (const auto& component : checkpoint.components) {
    for (const auto& declaration : component.declarations) {
      const auto reader = plan::reader_of(declaration, registry);
      out.push_back(
          Node::of_map({{"component", Node::of_text(component.name)},
                        {"declared", Node::of_text(declaration.path + ": " + declaration.origin)},
                        {"method", reader.ok() ? Node::of_text(*reader) : Node()},
                        {"refusal", reader.ok() ? Node() : Node::of_text(reader.error().text())}}));
    }
  }
  return Node::of_list(std::move(out));
}

uint64_t nbytes_of(const formats::Component& component) {
  uint64_t total = 0;
  for (const auto& tensor : component.tensors) total += tensor.nbytes;
  return total;
}

std::string shape_text(const formats::Shape& shape) {
  std::vector<std::string> dims;
  for (uint64_t dim : shape) dims.push_back(std::to_string(dim));
  return "[" + join(dims, ", ") + "]";
}

/// Layers per checkpoint component, as the family's adapter sees them.
std::map<uint32_t, uint64_t> layer_counts(const graph::Graph& graph) {
  std::map<uint32_t, uint64_t> counts;
  for (const auto& layer : graph.layers) {
    ++counts[graph.components[layer.component].checkpoint_component];
  }
  return counts;
}

std::string components_table(const formats::Checkpoint& checkpoint, const graph::Graph& graph,
                             plugin::Registry& registry) {
  Table table({{"component"},
               {"class"},
               {"layers", Align::right},
               {"tensors", Align::right},
               {"size", Align::right},
               {"dtypes"},
               {"declares"}});
  const auto layers = layer_counts(graph);
  uint64_t tensors = 0, layer_total = 0;
  for (uint32_t i = 0; i < checkpoint.components.size(); ++i) {
    const auto& component = checkpoint.components[i];
    const uint64_t count = layers.contains(i) ? layers.at(i) : 0;
    const bool empty = component.tensors.empty();
    table.add(
        {component.name.empty() ? "(root)" : escaped(component.name), escaped(component.class_name),
         empty ? "" : std::to_string(count), empty ? "" : std::to_string(component.tensors.size()),
         empty ? "" : human_nbytes(nbytes_of(component)), dtypes_of(component),
         declared_by(component, registry)},
        empty ? Style::dim : Style::plain);
    tensors += component.tensors.size();
    layer_total += count;
  }
  table.rule();
  table.add({"total", "", std::to_string(layer_total), std::to_string(tensors),
             human_nbytes(checkpoint.tensor_nbytes())});
  return table.text();
}

std::string edges_text(const graph::Graph& graph) {
  std::string out;
  for (const auto& edge : graph.edges) {
    out += fmt::format("  {} → {}: {}\n", edge.from, edge.to, edge.carries);
  }
  return out.empty() ? "" : "\n" + styled("edges", Style::bold) + "\n" + out;
}

std::string tensors_text(const formats::Checkpoint& checkpoint) {
  Table table({{"component"}, {"tensor"}, {"dtype"}, {"shape"}, {"bytes", Align::right}, {"file"}});
  for (const auto& component : checkpoint.components) {
    for (const auto& tensor : component.tensors) {
      table.add({escaped(component.name), escaped(tensor.name), std::string(name_of(tensor.dtype)),
                 shape_text(tensor.shape), std::to_string(tensor.nbytes),
                 escaped(checkpoint.files[tensor.file].path)});
    }
  }
  return "\n" + table.text();
}

std::string for_people(const formats::Checkpoint& checkpoint, const graph::Graph& graph,
                       plugin::Registry& registry, bool tensors) {
  std::string out = fmt::format(
      "{}  {}, {}, family {}\n\n", styled(escaped(checkpoint.path), Style::bold),
      formats::to_string(checkpoint.layout),
      checkpoint.files.size() == 1 ? "1 file" : std::to_string(checkpoint.files.size()) + " files",
      graph.family_known ? graph.family : "not known (generic adapter)");
  out += components_table(checkpoint, graph, registry) + edges_text(graph);
  if (tensors) out += tensors_text(checkpoint);
  return out;
}

}  // namespace

Result<int> run(const InspectOptions& options) {
  LS_TRY(Engine engine, open_engine(options.common));
  LS_TRY(const auto opened, load::open_model(system_files(), engine.config));
  const formats::Checkpoint& checkpoint = *opened;
  LS_TRY(const graph::Graph graph, graph::build_graph(checkpoint, engine.places.adapters_dir));
  for (const std::string& note : checkpoint.notes) print_note(note);
  for (const std::string& note : graph.notes) print_note(note);
  const Node readers = readers_node(checkpoint, engine.loader.registry());
  for (const Node& reader : readers.items()) {
    if (const Node* refusal = reader.find("refusal"); refusal->is_text()) {
      print_note(refusal->text());
    }
  }
  if (!options.json) {
    LS_CHECK(print(for_people(checkpoint, graph, engine.loader.registry(), options.tensors)));
    return kFine;
  }
  const Node out = Node::of_map({{"checkpoint", checkpoint.to_node(options.tensors)},
                                 {"graph", graph.to_node()},
                                 {"declarations", readers}});
  LS_CHECK(print(out.to_json(2) + "\n"));
  return kFine;
}

}  // namespace loadstone::cli
