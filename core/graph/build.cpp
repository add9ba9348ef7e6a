#include <algorithm>
#include <unordered_map>

#include "base/text.hpp"
#include "graph/adapter.hpp"
#include "graph/fit.hpp"
#include "graph/graph.hpp"
#include "graph/modules.hpp"
#include "graph/original_names.hpp"
#include "graph/recognise.hpp"
#include "graph/shapes.hpp"

namespace loadstone::graph {
namespace {

/// Layers of one component.
class LayerBuilder {
 public:
  LayerBuilder(const formats::Component& component, const AdapterComponent& knowledge,
               const CommonModules& common, uint32_t index, Graph& graph)
      : component_(component),
        knowledge_(knowledge),
        common_(common),
        index_(index),
        graph_(graph),
        originals_(knowledge),
        first_(graph.layers.size()) {}

  Status build(const std::vector<Module>& modules) {
    PathTable mark;
    original_ = knowledge_.original_mark.empty();
    if (!original_) mark.add(knowledge_.original_mark, 0);
    for (const Module& module : modules) {
      if (original_) break;
      original_ = mark.find(module.name).has_value();
    }
    for (const Module& module : modules) add(module);
    for (size_t i = first_; i < graph_.layers.size(); ++i) LS_CHECK(finish(graph_.layers[i]));
    return {};
  }

 private:
  struct Rule {
    const ModuleRule* rule = nullptr;
    std::vector<std::string_view> captures;
  };

  Rule rule_of(std::string_view path) const {
    if (auto hit = knowledge_.modules.find(path)) {
      return {&knowledge_.rules[hit->value], std::move(hit->captures)};
    }
    if (auto hit = common_.table.find(path)) return {&common_.rules[hit->value], {}};
    return {};
  }

  void add(const Module& module) {
    std::string path = module.name;
    const Rename* rename = nullptr;
    std::vector<std::string> holds;
    auto hit = original_ ? knowledge_.original.find(module.name) : std::nullopt;
    if (hit) {
      rename = &knowledge_.renames[hit->value];
      path = fill(rename->to, hit->captures);
      for (const std::string& held : rename->holds) holds.push_back(fill(held, hit->captures));
    }
    Rule found = rule_of(path);
    const bool stacked = found.rule && found.rule->kind == to_string(LayerKind::grouped_linear);
    Matrix matrix = matrix_of(component_, module, stacked);
    Part part;
    part.name = module.name;
    part.path = path;
    part.role = found.rule ? found.rule->role : "";
    part.transform = rename ? rename->transform : "";
    if (!knowledge_.gguf_architecture.empty()) {
      part.original = rename ? OriginalPlace{module.name, 0, 1, ""} : originals_.place_of(path);
    }
    part.out_count = part.file_total = matrix.out;
    if (matrix.kind == LayerKind::linear && add_to_fusion(module, matrix, part, found)) return;
    Layer layer = alone(path, matrix, found);
    layer.holds = std::move(holds);
    if (matrix.kind == LayerKind::linear) describe_fused_file(layer, part);
    layer.parts.push_back(std::move(part));
    put_tensors(layer, module, 0, 0);
    graph_.layers.push_back(std::move(layer));
  }

  /// Adds the module to the runtime layer that it is a part of; false when it is none.
  bool add_to_fusion(const Module& module, const Matrix& matrix, Part& part, const Rule& found) {
    auto hit = knowledge_.parts.find(part.path);
    if (!hit) return false;
    const FusionPart& fused = knowledge_.fusion_parts[hit->value];
    const Fusion& fusion = knowledge_.fusions[fused.fusion];
    part.shard = fused.shard;
    if (fused.group_at >= 0) {
      auto at = hit->captures.begin() + fused.group_at;
      std::string expert(*at);
      hit->captures.erase(at);
      if (expert.empty() || expert.size() > 6 ||
          expert.find_first_not_of("0123456789") != std::string::npos) {
        return false;
      }
      part.group = static_cast<uint32_t>(std::stoul(expert));
      size_t mark = part.shard.find("<e>");
      if (mark != std::string::npos) part.shard.replace(mark, 3, expert);
    }
    std::string into = fill(fusion.into, hit->captures);
    auto [place, fresh] = fused_.emplace(into, graph_.layers.size());
    if (fresh) {
      Layer layer = alone(into, matrix, found);
      layer.aliases.clear();
      layer.role = fusion.role.empty() ? part.role : fusion.role;
      if (fused.group_at >= 0) layer.kind = LayerKind::grouped_linear;
      graph_.layers.push_back(std::move(layer));
    }
    Layer& layer = graph_.layers[place->second];
    Default fallback = default_of(into, matrix, found);
    layer.fallback.quantize = layer.fallback.quantize && fallback.quantize;
    if (!fallback.quantize && layer.fallback.why.empty()) layer.fallback.why = fallback.why;
    layer.fallback.named = layer.fallback.named && fallback.named;
    layer.has_bias = layer.has_bias || matrix.has_bias;
    if (matrix.in != layer.in) layer.in = layer.in == 0 ? matrix.in : layer.in;
    orders_[place->second].push_back(fused.order);
    put_tensors(layer, module, static_cast<uint32_t>(layer.parts.size()), part.group);
    layer.parts.push_back(std::move(part));
    return true;
  }

  /// A file that already holds a fused matrix: role, default and names from its parts.
  void describe_fused_file(Layer& layer, Part& part) {
    auto hit = knowledge_.into.find(layer.path);
    if (!hit) return;
    const Fusion& fusion = knowledge_.fusions[hit->value];
    if (layer.holds.empty()) {
      for (const std::string& pattern : fusion.parts) {
        layer.holds.push_back(fill(pattern, hit->captures));
      }
    }
    if (layer.role.empty()) layer.role = part.role = fusion.role;
    if (layer.holds.empty() || layer.holds.front() == layer.path) return;
    Matrix matrix;
    matrix.kind = layer.kind;
    layer.fallback = default_of(layer.path, matrix, rule_of(layer.holds.front()));
  }

  Layer alone(const std::string& path, const Matrix& matrix, const Rule& found) {
    Layer layer;
    layer.component = index_;
    layer.path = path;
    layer.kind = kind_of(matrix, found);
    layer.role = found.rule ? found.rule->role : "";
    layer.out = matrix.out;
    layer.in = matrix.in;
    layer.groups = static_cast<uint32_t>(matrix.groups);
    layer.has_bias = matrix.has_bias;
    layer.fallback = default_of(path, matrix, found);
    for (size_t s = 0; s < knowledge_.scopes.size(); ++s) {
      if (path.compare(0, knowledge_.scopes[s].prefix.size(), knowledge_.scopes[s].prefix) == 0) {
        layer.scope = static_cast<int32_t>(s);
      }
    }
    if (found.rule && !found.rule->alias.empty()) {
      layer.aliases.push_back(fill(found.rule->alias, found.captures));
    }
    return layer;
  }

  static LayerKind kind_of(const Matrix& matrix, const Rule& found) {
    if (matrix.kind != LayerKind::linear) return matrix.kind;
    const std::string kind = found.rule ? found.rule->kind : "";
    if (kind == "other") return LayerKind::other;
    if (kind == "gather" || (kind.empty() && found.rule && found.rule->role == "embedding")) {
      return LayerKind::gather;
    }
    return LayerKind::linear;
  }

  Default default_of(const std::string& path, const Matrix& matrix, const Rule& found) const {
    LayerKind kind = kind_of(matrix, found);
    const bool product = kind == LayerKind::linear || kind == LayerKind::grouped_linear;
    const std::string keep = found.rule ? found.rule->keep : "";
    Default out;
    out.named = product && keep.empty();
    if (!knowledge_.keep.empty()) {
      out.why = knowledge_.keep;
      return out;
    }
    for (size_t s = 0; s < knowledge_.scopes.size(); ++s) {
      const std::string& prefix = knowledge_.scopes[s].prefix;
      if (!knowledge_.scope_keep[s].empty() && path.compare(0, prefix.size(), prefix) == 0) {
        out.why = knowledge_.scope_keep[s];
        return out;
      }
    }
    if (!keep.empty()) {
      out.why = keep;
    } else if (!product) {
      out.why = "not_linear";
    } else if (!found.rule) {
      out.why = "unknown";
    } else {
      out.quantize = true;
    }
    return out;
  }

  static void put_tensors(Layer& layer, const Module& module, uint32_t part, uint32_t group) {
    for (const ModuleTensor& one : module.tensors) {
      layer.tensors.push_back(LayerTensor{one.tensor, part, group, one.suffix});
    }
  }

  /// Orders the parts of a fused layer and lays their rows out.
  Status finish(Layer& layer) {
    auto orders = orders_.find(static_cast<size_t>(&layer - graph_.layers.data()));
    if (orders == orders_.end()) return {};
    std::vector<uint32_t> order(layer.parts.size());
    for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
      if (layer.parts[a].group != layer.parts[b].group) {
        return layer.parts[a].group < layer.parts[b].group;
      }
      return orders->second[a] < orders->second[b];
    });
    std::vector<Part> parts;
    std::vector<uint32_t> new_place(order.size());
    for (uint32_t i = 0; i < order.size(); ++i) {
      new_place[order[i]] = i;
      parts.push_back(std::move(layer.parts[order[i]]));
    }
    layer.parts = std::move(parts);
    for (LayerTensor& tensor : layer.tensors) tensor.part = new_place[tensor.part];
    std::stable_sort(layer.tensors.begin(), layer.tensors.end(),
                     [](const LayerTensor& a, const LayerTensor& b) { return a.part < b.part; });
    return lay_out(layer);
  }

  Status lay_out(Layer& layer) const {
    std::vector<uint64_t> rows(1, 0);
    for (Part& part : layer.parts) {
      if (part.group > rows.size() || (part.group == rows.size() && part.group >= 65536)) {
        return incomplete(
            layer, "no expert " + std::to_string(rows.size()) + " before " + quoted(part.name));
      }
      if (part.group == rows.size()) rows.push_back(0);
      part.out_begin = rows[part.group];
      rows[part.group] += part.out_count;
    }
    for (uint64_t sum : rows) {
      if (sum != rows[0])
        return incomplete(layer, "experts of " + std::to_string(rows[0]) + " and " +
                                     std::to_string(sum) + " rows");
    }
    layer.out = rows[0];
    layer.groups = static_cast<uint32_t>(rows.size());
    return {};
  }

  Error incomplete(const Layer& layer, const std::string& found) const {
    return Error{Code::invalid_checkpoint,
                 "fused layer incomplete",
                 layer.path,
                 "found " + found + ", expected experts from 0 on, each with the same parts",
                 "",
                 {}};
  }

  const formats::Component& component_;
  const AdapterComponent& knowledge_;
  const CommonModules& common_;
  uint32_t index_;
  Graph& graph_;
  OriginalNames originals_;
  size_t first_;
  bool original_ = true;  // the file's names may be the original ones
  std::unordered_map<std::string, size_t> fused_;
  std::unordered_map<size_t, std::vector<uint32_t>>
      orders_;  // of each fused layer's parts, as added
};

/// Holds a component from elsewhere against the base model's that it replaces. One that brings a
/// config of another model is that model (plans note it); a base without tensors says nothing.
Status check_against_base(const formats::Component& component, std::span<const Layer> layers,
                          std::span<const formats::FileEntry> files,
                          const AdapterComponent& knowledge, const Adapter& adapter,
                          const CommonModules& common) {
  const formats::Component& base = *component.replaced;
  if (base.tensors.empty()) return {};
  if (!other_geometry(component.config, base.config).empty()) return {};
  Graph graph;
  graph.components.emplace_back();
  LayerBuilder builder(base, knowledge, common, 0, graph);
  LS_CHECK(builder.build(split_modules(base, nullptr, adapter.strip)));
  return check_fit({component, layers, files}, {base, graph.layers, {}});
}

GraphComponent describe(const Assignment& one, const Adapter& adapter) {
  GraphComponent out;
  out.name = one.name;
  out.checkpoint_component = one.checkpoint_component;
  out.kind = one.knowledge->kind;
  out.aliases = one.knowledge->aliases;
  out.strip = adapter.strip;
  out.gguf_architecture = one.knowledge->gguf_architecture;
  out.reach = one.knowledge->reach;
  out.default_scope = out.reach == Reach::flat;
  out.scopes = one.knowledge->scopes;
  out.prefix_aliases = one.knowledge->prefix_aliases;
  return out;
}

}  // namespace

std::string_view to_string(LayerKind kind) {
  switch (kind) {
    case LayerKind::linear:
      return "linear";
    case LayerKind::grouped_linear:
      return "grouped_linear";
    case LayerKind::gather:
      return "gather";
    case LayerKind::attention:
      return "attention";
    case LayerKind::other:
      return "other";
  }
  return "other";
}

std::string_view to_string(Reach reach) {
  switch (reach) {
    case Reach::flat:
      return "flat";
    case Reach::map:
      return "map";
    case Reach::declared:
      return "declared";
    case Reach::stage:
      return "stage";
  }
  return "map";
}

std::string adapters_dir(const std::string& program_dir) {
  return program_dir + "/../share/loadstone/model_adapters";
}

Result<Graph> build_graph(const formats::Checkpoint& checkpoint, const std::string& dir) {
  LS_TRY(const Adapters adapters, read_adapters(dir));
  return build_graph(checkpoint, adapters);
}

Result<Graph> build_graph(const formats::Checkpoint& checkpoint, const Adapters& adapters) {
  LS_TRY(Recognition found, recognise(checkpoint, adapters));
  Graph graph;
  graph.family = found.adapter->family;
  graph.variant = found.variant;
  graph.adapter = found.adapter->path;
  graph.family_known = found.known;
  graph.notes = found.notes;
  graph.absent_components = found.absent;
  if (found.support) graph.support = *found.support;
  for (const Adapter& adapter : adapters.families) {
    const bool reads = std::any_of(adapter.components.begin(), adapter.components.end(),
                                   [](const auto& one) { return !one.gguf_architecture.empty(); });
    if (reads) graph.gguf_families.push_back(adapter.family);
  }
  for (const Assignment& one : found.components) {
    const formats::Component& component = checkpoint.components[one.checkpoint_component];
    const auto index = static_cast<uint32_t>(graph.components.size());
    graph.components.push_back(describe(one, *found.adapter));
    LayerBuilder builder(component, *one.knowledge, adapters.common, index, graph);
    auto modules =
        split_modules(component, one.tensors ? &*one.tensors : nullptr, found.adapter->strip);
    const size_t first = graph.layers.size();
    auto status = builder.build(modules);
    if (component.replaced && component.gguf && one.knowledge->gguf_architecture.empty()) {
      return no_name_adapter(graph, graph.components.back(), component.source);
    }
    if (status.ok() && component.replaced) {
      const std::span<const Layer> layers(graph.layers);
      status = check_against_base(component, layers.subspan(first), checkpoint.files,
                                  *one.knowledge, *found.adapter, adapters.common);
    }
    if (!status.ok()) return std::move(status).error().at(checkpoint.path + ": " + one.name);
  }
  for (const Edge& edge : found.adapter->edges) graph.edges.push_back(edge);
  return graph;
}

}  // namespace loadstone::graph
