// The plan as JSON (design/COMMANDS: plan). Keys only come, none goes.
#include <algorithm>
#include <utility>

#include "plan/flow.hpp"
#include "plan/plan.hpp"

namespace loadstone::plan {

namespace {

Node integer(uint64_t value) { return Node::of_integer(static_cast<int64_t>(value)); }

Node texts(const std::vector<std::string>& values) {
  std::vector<Node> items;
  for (const std::string& value : values) items.push_back(Node::of_text(value));
  return Node::of_list(std::move(items));
}

Node stored_node(const LayerPlan& layer) {
  std::vector<Node> items;
  for (const Stored& stored : layer.stored) {
    std::vector<Node> shape;
    for (uint64_t dim : stored.shape) shape.push_back(integer(dim));
    std::vector<Node::Entry> entries{{"name", Node::of_text(stored.name)},
                                     {"dtype", Node::of_text(std::string(name_of(stored.dtype)))},
                                     {"shape", Node::of_list(std::move(shape))},
                                     {"bytes", integer(stored.slab_nbytes())},
                                     {"offset", integer(stored.offset)}};
    if (stored.packed_nbytes != 0) entries.emplace_back("canonical_bytes", integer(stored.nbytes));
    items.push_back(Node::of_map(std::move(entries)));
  }
  return Node::of_list(std::move(items));
}

Node reads_node(const Plan& plan, const LayerPlan& layer) {
  std::vector<Node> items;
  auto add = [&](uint32_t tensor, const char* mode, uint64_t nbytes) {
    items.push_back(Node::of_map({{"tensor", Node::of_text(plan.entry_of(layer, tensor).name)},
                                  {"mode", Node::of_text(mode)},
                                  {"bytes", integer(nbytes)}}));
  };
  for (const Value& value : layer.values) add(value.tensor, "planning", value.bytes->size());
  for (const Source& source : layer.sources) {
    if (source.from_value) continue;
    add(source.tensor, source.resident ? "resident" : "streamed",
        source.row_count * row_nbytes(plan.entry_of(layer, source.tensor)));
  }
  for (const Identity& identity : layer.identities) {
    add(identity.tensor, identity.checked ? "identical, checked" : "identical",
        identity.rows * identity.row_nbytes);
  }
  for (const Cast& cast : layer.casts) {
    add(cast.tensor, "cast",
        cast.elems * layout_of(plan.entry_of(layer, cast.tensor).dtype)->block_nbytes);
  }
  return Node::of_list(std::move(items));
}

/// Names of the checkpoint tensors that the layer is made of, in checkpoint order.
Node sources_node(const Plan& plan, const LayerPlan& layer) {
  std::vector<std::string> names;
  if (layer.decision != Decision::split) {
    for (uint32_t i = 0; i < plan.layer_of(layer).tensors.size(); ++i) {
      names.push_back(plan.entry_of(layer, i).name);
    }
  }
  return texts(names);
}

Node unused_node(const Plan& plan, const LayerPlan& layer) {
  std::vector<Node> items;
  for (const auto& [tensor, reason] : layer.unused) {
    items.push_back(Node::of_map({{"tensor", Node::of_text(plan.entry_of(layer, tensor).name)},
                                  {"reason", Node::of_text(reason)}}));
  }
  return Node::of_list(std::move(items));
}

/// The fused layer that a layer is, or is a part of; null for one that is neither.
Node group_node(const Plan& plan, const LayerPlan& layer) {
  if (layer.split_from >= 0) {
    return Node::of_text(plan.layer_of(plan.layers[static_cast<size_t>(layer.split_from)]).path);
  }
  const graph::Layer& shape = plan.layer_of(layer);
  return shape.parts.size() > 1 ? Node::of_text(shape.path) : Node();
}

Node layer_node(const Plan& plan, const LayerPlan& layer) {
  const graph::Layer& shape = plan.layer_of(layer);
  std::vector<std::string> parts, shards;
  for (const graph::Part& part : shape.parts) {
    parts.push_back(part.name);
    shards.push_back(part.shard);
  }
  std::vector<Node::Entry> out{
      {"component", Node::of_text(plan.graph.components[shape.component].name)},
      {"layer", Node::of_text(shape.path)},
      {"kind", Node::of_text(std::string(graph::to_string(shape.kind)))},
      {"role", Node::of_text(shape.role)},
      {"group", group_node(plan, layer)},
      {"parts", texts(parts)},
      {"shards", texts(shards)},
      {"method", layer.method.empty() ? Node() : Node::of_text(layer.method)},
      {"decision", Node::of_text(std::string(to_string(layer.decision)))},
      {"rule", Node::of_text(layer.rule)},
      {"reason", Node::of_text(layer.reason)},
      {"overrode", texts(layer.overrode)},
      {"sources", sources_node(plan, layer)},
      {"reads", reads_node(plan, layer)},
      {"unused", unused_node(plan, layer)},
      {"stored", stored_node(layer)},
      {"kernel", layer.kernel.empty() ? Node() : Node::of_text(layer.kernel)},
      {"passes", integer(layer.passes)},
      {"bytes_before", integer(layer.nbytes_before)},
      {"bytes_after", integer(layer.nbytes_after)}};
  const bool on_host = made_on_host(plan, layer);
  if (on_host || made_on_gpu(plan, layer)) {
    out.emplace_back("made_on", Node::of_text(on_host ? "host" : "gpu"));
  }
  if (layer.passes == 2) {
    out.emplace_back("second_pass", Node::of_text(layer.reread ? "read again" : "held"));
  }
  if (layer.shared_with >= 0) {
    out.emplace_back(
        "shared_with",
        Node::of_text(plan.layer_of(plan.layers[static_cast<size_t>(layer.shared_with)]).path));
  }
  return Node::of_map(std::move(out));
}

Node components_node(const Plan& plan) {
  std::vector<Node> items;
  for (uint32_t c = 0; c < plan.graph.components.size(); ++c) {
    uint64_t layers = 0, before = 0, after = 0;
    for (const LayerPlan& layer : plan.layers) {
      if (plan.layer_of(layer).component != c) continue;
      layers += 1;
      before += layer.nbytes_before;
      after += layer.nbytes_after;
    }
    items.push_back(Node::of_map({{"name", Node::of_text(plan.graph.components[c].name)},
                                  {"kind", Node::of_text(plan.graph.components[c].kind)},
                                  {"target", Node::of_text(plan.slabs[c].target.name)},
                                  {"layers", integer(layers)},
                                  {"bytes_before", integer(before)},
                                  {"bytes_after", integer(after)},
                                  {"slab_bytes", integer(plan.slabs[c].nbytes)}}));
  }
  return Node::of_list(std::move(items));
}

}  // namespace

Node Plan::to_node() const {
  std::vector<Node> layer_nodes;
  layer_nodes.reserve(layers.size());
  for (const LayerPlan& layer : layers) layer_nodes.push_back(layer_node(*this, layer));
  std::vector<Node::Entry> out{
      {"model", Node::of_text(checkpoint->path)},
      {"family", Node::of_text(graph.family)},
      {"family_known", Node::of_bool(graph.family_known)},
      {"target", Node::of_text(target.name)},
      {"components", components_node(*this)},
      {"layers", Node::of_list(std::move(layer_nodes))},
      {"peaks", Node::of_map({{"host", integer(peaks.host)},
                              {"device", integer(peaks.device)},
                              {"stored", integer(peaks.stored)},
                              {"ring", integer(peaks.ring)},
                              {"pinned", integer(peaks.pinned)},
                              {"in_flight", integer(peaks.in_flight)},
                              {"staging", integer(peaks.staging)}})},
      {"run", run.to_node()},
      {"rules", texts(rules)},
      {"notes", texts(notes)},
  };
  if (attention) out.emplace_back("attention", attention->to_node(*this));
  return Node::of_map(std::move(out));
}

}  // namespace loadstone::plan
