#include "plan/routing_resolve.hpp"

#include <algorithm>

#include "config/pattern.hpp"
#include "plan/routing.hpp"
#include "plan/routing_declared.hpp"
#include "plan/routing_entries.hpp"

namespace loadstone::plan {
namespace {

/// A model of the components that a configuration names, `component` first.
graph::Graph imagined(const config::QuantConfig& user, const std::string& component,
                      const KnownComponents& known) {
  graph::Graph graph;
  std::vector<std::string> names = {component};
  for (const auto& [key, choice] : user.components) {
    if (!config::is_pattern(key)) names.push_back(key);
  }
  for (const std::string& name : names) {
    graph::GraphComponent one;
    one.name = name;
    if (const KnownComponent* found = known.find(name)) one.reach = found->reach;
    graph.components.push_back(std::move(one));
  }
  return graph;
}

/// Both lists hold in a load: the user's entries behind the declared ones.
void add_ignored(const config::MethodChoice& user, config::MethodChoice& out) {
  const Node* more = user.field("ignored_layers");
  if (!more || more->items().empty()) return;
  config::FieldValue& list = out.fields["ignored_layers"];
  std::vector<Node> all = list.value.items();
  for (const Node& one : more->items()) {
    if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(one);
  }
  list = {Node::of_list(std::move(all)), config::From::user};
}

}  // namespace

Result<config::Choice> resolve_component(const config::QuantConfig& user,
                                         const std::string& component,
                                         const std::vector<formats::Declaration>& declarations,
                                         const KnownComponents& known, plugin::Registry& registry) {
  const graph::Graph graph = imagined(user, component, known);
  std::vector<std::string> notes;
  LS_TRY(const auto declared, declared_by(graph.components[0], declarations, registry, notes));
  const bool flat_elsewhere =
      user.flat && !declared && graph.components[0].reach != graph::Reach::flat;
  if (flat_elsewhere) return config::Choice();
  std::vector<bool> declares(graph.components.size(), false);
  declares[0] = declared.has_value();
  config::Problems problems;
  const Entry entry = resolve_entries(graph, user, declares, notes, problems)[0].whole;
  if (declared) check_agreement(component, *declared, entry, problems);
  if (!problems.empty()) return problems.take();
  if (!declared) return entry.choice ? config::Choice(*entry.choice) : config::Choice();
  const config::MethodChoice own = declared->normalized();
  if (!entry.choice) return config::Choice(own);
  const auto merged =
      merge_fields(own, declared->schema(), declared->where(), *entry.choice, problems);
  if (!problems.empty()) return problems.take();
  config::MethodChoice out = *merged;
  add_ignored(*entry.choice, out);
  return config::Choice(std::move(out));
}

Result<config::QuantConfig> resolve_declared(const config::QuantConfig& user,
                                             const std::string& component,
                                             const std::vector<formats::Declaration>& declarations,
                                             const KnownComponents& known,
                                             plugin::Registry& registry) {
  if (declarations.empty()) return user;
  LS_TRY(config::Choice choice, resolve_component(user, component, declarations, known, registry));
  config::QuantConfig out = user;
  out.configured = true;
  if (!user.is_component_map) {
    out.flat = std::move(choice);
    return out;
  }
  const auto at = std::find_if(out.components.begin(), out.components.end(),
                               [&](const auto& one) { return one.first == component; });
  if (at != out.components.end()) {
    at->second = std::move(choice);
  } else {
    out.component_marks.push_back(choice->mark);
    out.components.emplace_back(component, std::move(choice));
  }
  return out;
}

namespace {

constexpr uint64_t kSide = 1024;  // rows and columns: any method's groups fit

/// The component that a path begins with, if it is one of a family's or the map's.
std::string component_of(const std::string& path, const config::QuantConfig& user,
                         const KnownComponents& known) {
  const std::string first = path.substr(0, path.find('.'));
  for (const auto& [key, choice] : user.components) {
    if (key == first && first.size() < path.size()) return first;
  }
  return known.named_by(path);
}

void add_tensor(const std::string& module, bool serialized, uint64_t rows, uint32_t part,
                formats::Component& stored, graph::Layer& layer) {
  formats::TensorEntry tensor;
  tensor.name = module + ".weight";
  tensor.dtype = serialized ? DType::F8_E4M3 : DType::BF16;
  tensor.shape = {rows, kSide};
  tensor.nbytes = rows * kSide * layout_of(tensor.dtype)->block_nbytes;
  layer.tensors.push_back({static_cast<uint32_t>(stored.tensors.size()), part, 0, "weight"});
  stored.tensors.push_back(std::move(tensor));
}

graph::Layer imagined_layer(const LayerQuestion& question, const std::string& path,
                            const std::vector<std::string>& parts) {
  graph::Layer layer;
  layer.path = path;
  layer.kind = question.kind;
  layer.fallback.quantize = question.kind == graph::LayerKind::linear;
  if (!layer.fallback.quantize) layer.fallback.why = "not_linear";
  layer.in = kSide;
  for (const std::string& name : parts) {
    graph::Part part;
    part.name = part.path = name;
    part.out_begin = layer.out;
    part.out_count = part.file_total = kSide;
    layer.out += kSide;
    layer.parts.push_back(std::move(part));
  }
  return layer;
}

}  // namespace

Node LayerAnswer::to_node() const {
  const auto text_or_null = [](const std::string& text) {
    return text.empty() ? Node() : Node::of_text(text);
  };
  const bool begins = path.starts_with(component + ".");
  return Node::of_map({{"path", Node::of_text(begins ? path : component + "." + path)},
                       {"method", text_or_null(method)},
                       {"reason", Node::of_text(reason)},
                       {"matched", text_or_null(matched)}});
}

Result<LayerAnswer> resolve_layer(const config::QuantConfig& user, const LayerQuestion& question,
                                  const std::vector<formats::Declaration>& declarations,
                                  const KnownComponents& known, plugin::Registry& registry) {
  const std::string named = component_of(question.path, user, known);
  LayerAnswer answer{named.empty() ? known.usual() : named, question.path, "", "", ""};
  graph::Graph graph = imagined(user, answer.component, known);
  std::vector<std::string> parts = question.parts;
  if (parts.empty()) parts.push_back(question.path);
  graph.layers.push_back(imagined_layer(question, answer.path, parts));
  graph::Layer& layer = graph.layers.front();

  std::vector<std::string> notes;
  LS_TRY(const auto declared, declared_by(graph.components[0], declarations, registry, notes));
  const bool serialized =
      declared && layer.fallback.quantize && declared->covers(names_of(layer, graph.components[0]));
  formats::Checkpoint checkpoint;
  checkpoint.components.resize(graph.components.size());
  for (uint32_t i = 0; i < graph.components.size(); ++i) {
    graph.components[i].checkpoint_component = i;
    checkpoint.components[i].name = graph.components[i].name;
  }
  for (uint32_t i = 0; i < parts.size(); ++i) {
    add_tensor(parts[i], serialized, kSide, i, checkpoint.components[0], layer);
  }
  // A declaration that keeps this layer has nothing behind it here.
  if (serialized) checkpoint.components[0].declarations = declarations;
  if (declared && !serialized) {
    LS_CHECK(resolve_component(user, answer.component, declarations, known, registry));
    answer.reason = "the checkpoint declares it kept";
    answer.matched = declared->where();
    return answer;
  }
  config::QuantConfig lenient = user;
  lenient.allow_unmatched = true;  // the entries that mean other layers
  const graph::Reach reach = graph.components[0].reach;
  const bool elsewhere =
      user.flat && !declared && (reach == graph::Reach::map || reach == graph::Reach::declared);
  if (elsewhere) lenient.flat.reset();  // alone here, it would be said to apply to nothing
  LS_TRY(const auto routed, route(graph, checkpoint, lenient, registry, nullptr, nullptr));
  const Routed& one = routed.front();
  if (one.wish == Decision::quantize) answer.method = one.choice->method;
  answer.reason = one.reason;
  const bool by_default = one.rule.starts_with("default:");
  if (by_default && elsewhere) answer.reason = "its component is outside the default scope";
  if (!by_default) answer.matched = one.ignored.empty() ? one.rule : one.ignored;
  return answer;
}

}  // namespace loadstone::plan
