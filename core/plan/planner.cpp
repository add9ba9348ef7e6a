#include "plan/planner.hpp"

#include <algorithm>
#include <unordered_map>

#include "base/parallel.hpp"
#include "base/text.hpp"
#include "plan/adopt.hpp"
#include "plan/ask.hpp"
#include "plan/flow.hpp"
#include "plan/keep.hpp"

namespace loadstone::plan {

namespace {

constexpr unsigned kMinAutoThreads = 4;  // some wait for the disk while others compute
constexpr unsigned kMaxAutoThreads = 16;

/// What to do with one layer, as routed and asked.
struct Wish {
  const Routed* routed = nullptr;
  std::shared_ptr<const plugin::MethodConfig> config;
  int64_t split_from = -1;
};

/// What a user's choice of a method came to.
struct Use {
  uint64_t asked = 0, kept = 0;  // layers; kept: left alone by the method itself
  std::string reason;            // of the first that it left alone
};

class Planner {
 public:
  Planner(std::shared_ptr<const formats::Checkpoint> checkpoint, graph::Graph graph,
          const config::QuantConfig& quantization, std::vector<Routed> routed,
          plugin::Registry& registry, const Target& target, const LoadOptions& options)
      : registry_(registry), routed_(std::move(routed)), asked_layers_(std::move(graph.layers)) {
    graph.layers.clear();
    plan_.checkpoint = std::move(checkpoint);
    plan_.graph = std::move(graph);
    plan_.quantization = quantization;
    plan_.target = target;
    plan_.options = options;
    if (options.threads == 0) {
      plan_.options.threads = std::clamp(usable_threads(), kMinAutoThreads, kMaxAutoThreads);
    }
  }

  Result<Plan> run() {
    LS_CHECK(make_slabs());
    for (uint32_t component = 0; component < plan_.graph.components.size(); ++component) {
      float_dtypes_.push_back(main_float(component));
    }
    plan_.graph.layers.reserve(asked_layers_.size());
    plan_.layers.reserve(asked_layers_.size());
    for (size_t i = 0; i < asked_layers_.size(); ++i) {
      auto config = config_of(routed_[i]);
      if (!config.ok()) continue;  // reported once, when its choice was first met
      take(std::move(asked_layers_[i]), Wish{&routed_[i], *std::move(config), -1});
    }
    if (!plan_.quantization.allow_unmatched) find_idle();
    if (!problems_.empty()) return all_problems();
    note_unclaimed();
    share_stored(plan_);
    LS_CHECK(lay_out(plan_));
    schedule(plan_);
    return std::move(plan_);
  }

 private:
  const formats::Component& component_of(const graph::Layer& layer) const {
    return plan_.checkpoint
        ->components[plan_.graph.components[layer.component].checkpoint_component];
  }

  Error all_problems() {
    Error first = std::move(problems_.front());
    for (size_t i = 1; i < problems_.size(); ++i) first.more.push_back(std::move(problems_[i]));
    return first;
  }

  Status make_slabs() {
    auto named = [](const graph::GraphComponent& component, const std::string& name) {
      return component.name == name || std::find(component.aliases.begin(), component.aliases.end(),
                                                 name) != component.aliases.end();
    };
    for (uint32_t i = 0; i < plan_.graph.components.size(); ++i) {
      plan_.slabs.push_back({i, 0, plan_.target});
    }
    for (const auto& [name, placement] : plan_.options.place) {
      auto parsed = parse_target(placement.device);
      if (!parsed) return std::move(parsed).error().at(placement.where());
      Target target = *std::move(parsed);
      if (auto sm = plan_.options.device_sm.find(placement.device);
          sm != plan_.options.device_sm.end()) {
        target.sm = sm->second;
      }
      bool found = false;
      std::vector<std::string> names;
      for (uint32_t i = 0; i < plan_.graph.components.size(); ++i) {
        names.push_back(plan_.graph.components[i].name);
        if (!named(plan_.graph.components[i], name)) continue;
        plan_.slabs[i].target = target;
        found = true;
      }
      if (found) continue;
      std::string hint = nearest(name, names);
      return Error{Code::invalid_config, "component does not exist", placement.where(),
                   "found " + quoted(name) + ", expected " + join(names),
                   hint.empty() ? "" : quoted(hint)};
    }
    return {};
  }

  /// The plain float type that holds most bytes of a component; BF16 if there is none.
  DType main_float(uint32_t component) const {
    std::map<DType, uint64_t> nbytes;
    const auto& entries =
        plan_.checkpoint->components[plan_.graph.components[component].checkpoint_component]
            .tensors;
    for (const formats::TensorEntry& entry : entries) {
      if (is_plain_float(entry.dtype)) nbytes[entry.dtype] += entry.nbytes;
    }
    DType best = DType::BF16;
    uint64_t most = nbytes[best];
    for (const auto& [dtype, count] : nbytes) {
      if (count > most) {
        best = dtype;
        most = count;
      }
    }
    return best;
  }

  DType load_dtype(const graph::Layer& layer) const {
    DType asked = plan_.options.dtype;
    return asked == DType::invalid ? float_dtypes_[layer.component] : asked;
  }

  /// One config for equal choices; null for keep.
  Result<std::shared_ptr<const plugin::MethodConfig>> config_of(const Routed& routed) {
    if (routed.choice == nullptr) return std::shared_ptr<const plugin::MethodConfig>();
    auto known = by_pointer_.find(routed.choice.get());
    if (known != by_pointer_.end()) return known->second;
    std::string key = content_key(*routed.choice);
    auto equal = by_content_.find(key);
    if (equal == by_content_.end()) {
      auto made = make_config(*routed.choice);
      if (!made.ok()) problems_.push_back(made.error());
      equal = by_content_.emplace(std::move(key), std::move(made)).first;
    }
    by_pointer_.emplace(routed.choice.get(), equal->second);
    return equal->second;
  }

  Result<std::shared_ptr<const plugin::MethodConfig>> make_config(
      const config::MethodChoice& choice) {
    auto made = [&]() -> Result<std::shared_ptr<const plugin::MethodConfig>> {
      LS_TRY(plugin::Method method, registry_.method(choice.method));
      return plugin::MethodConfig::make(method, choice);
    }();
    const std::string where = choice.mark.text();
    if (made.ok() || made.error().where.starts_with(where)) return made;
    return std::move(made).error().at(where);
  }

  static std::string content_key(const config::MethodChoice& choice) {
    std::string key = choice.method;
    for (const auto& [name, field] : choice.fields) {
      key += '\n' + name + '=' + field.value.to_json();
    }
    return key;
  }

  /// Appends the layer with its plan (or its parts' plans), or a problem.
  void take(graph::Layer layer, const Wish& wish) {
    LayerPlan plan;
    plan.layer = static_cast<uint32_t>(plan_.graph.layers.size());
    plan.rule = wish.routed->rule;
    plan.reason = wish.routed->reason;
    plan.overrode = wish.routed->overrode;
    plan.split_from = wish.split_from;
    plan.load_dtype = load_dtype(layer);
    plan.in = layer.in;
    plan.want = wish.routed->wish == Decision::decode ? LS_WANT_DECODE : LS_WANT_QUANTIZE;
    for (const graph::LayerTensor& tensor : layer.tensors) {
      plan.nbytes_before += component_of(layer).tensors[tensor.tensor].nbytes;
    }
    if (wish.config == nullptr) return keep(std::move(layer), std::move(plan));
    if (!wish.routed->parts.empty()) return split(std::move(layer), std::move(plan), wish);
    plan.method = wish.config->method().name();
    if (plan_.options.apart && layer.parts.size() > 1) {
      return split(std::move(layer), std::move(plan), wish);
    }
    const Target& target = plan_.slabs[layer.component].target;
    auto asked = ask(*plan_.checkpoint, plan_.graph, layer, *wish.config, target, plan.want,
                     plan.load_dtype);
    if (!asked.ok()) return refuse(wish, std::move(asked).error());
    follow(std::move(layer), std::move(plan), wish, *asked);
  }

  void count(const Wish& wish, const Asked& asked) {
    const uint32_t verdict = asked.answer.work.verdict;
    const bool parts_follow = verdict == LS_VERDICT_SPLIT;
    if (wish.routed->from_declaration || wish.routed->wish != Decision::quantize || parts_follow) {
      return;
    }
    const config::MethodChoice* choice = wish.routed->choice.get();
    auto known = std::find_if(uses_.begin(), uses_.end(),
                              [&](const auto& one) { return one.first == choice; });
    if (known == uses_.end()) known = uses_.emplace(known, choice, Use{});
    Use& use = known->second;
    ++use.asked;
    if (verdict != LS_VERDICT_KEEP) return;
    if (use.kept++ == 0) use.reason = asked.answer.reason;
  }

  /// A method that was asked for and leaves every layer alone would do nothing without a word.
  void find_idle() {
    for (const auto& [choice, use] : uses_) {
      if (use.kept < use.asked) continue;
      if (choice->field("gguf_model")) continue;  // its floats are what was asked for
      const std::string where = choice->mark.text();
      problems_.push_back(Error{
          Code::invalid_config, "method quantizes nothing", where.empty() ? "quantization" : where,
          "found " + choice->method + " and all " + std::to_string(use.asked) + " layers kept" +
              (use.reason.empty() ? "" : " (" + use.reason + ")") +
              ", expected a layer that it quantizes",
          ""});
    }
  }

  void follow(graph::Layer layer, LayerPlan plan, const Wish& wish, const Asked& asked) {
    count(wish, asked);
    const std::string& reason = asked.answer.reason;
    if (!reason.empty()) plan.reason += plan.reason.empty() ? reason : "; " + reason;
    switch (asked.answer.work.verdict) {
      case LS_VERDICT_KEEP:
        if (const std::string codes = codes_beside_a_scale(component_of(layer), layer);
            !codes.empty()) {
          return refuse(wish, Error{Code::invalid_checkpoint, "quantized weight kept as it is",
                                    escaped(layer.path) + " (" + plan.method + ")",
                                    "found " + codes + ", expected a method that reads it", ""});
        }
        return keep(std::move(layer), std::move(plan));
      case LS_VERDICT_SPLIT:
        return split(std::move(layer), std::move(plan), wish);
      case LS_VERDICT_UNSUPPORTED:
        return unsupported(std::move(layer), std::move(plan), wish, reason);
      case LS_VERDICT_DECODE:
        plan.decision = Decision::decode;
        break;
      default:
        plan.decision = Decision::quantize;
        break;
    }
    if (wish.routed->wish == Decision::decode && plan.decision == Decision::quantize) {
      return refuse(wish, Error{Code::internal, "method answered the wrong question",
                                escaped(layer.path) + " (" + plan.method + ")",
                                "found quantize, expected decode, keep or unsupported", ""});
    }
    plan.config = wish.config;
    if (layer.in == 0) layer.in = asked.answer.work.in;  // packed: only the method can tell
    Status adopted = adopt_answer(component_of(layer), layer, asked, plan_.options.dtype, plan);
    if (!adopted.ok()) return refuse(wish, std::move(adopted).error());
    if (!plan_.options.repack) {
      for (Stored& stored : plan.stored) stored.packed_nbytes = 0;
    }
    push(std::move(layer), std::move(plan));
  }

  void keep(graph::Layer layer, LayerPlan plan) {
    plan.decision = Decision::keep;
    plan.method.clear();
    Status kept = keep_layer(component_of(layer), layer, plan_.options.dtype, plan);
    if (!kept.ok()) {
      problems_.push_back(std::move(kept).error());
      return;
    }
    push(std::move(layer), std::move(plan));
  }

  void unsupported(graph::Layer layer, LayerPlan plan, const Wish& wish,
                   const std::string& reason) {
    bool may_keep = wish.routed->on_unsupported == config::OnUnsupported::keep &&
                    !wish.routed->from_declaration;
    if (may_keep) {
      plan.reason += plan.reason.empty() ? "" : "; ";
      plan.reason += plan.method + " can't do it (on_unsupported: keep)";
      return keep(std::move(layer), std::move(plan));
    }
    refuse(wish, Error{Code::unsupported, "layer does not fit the method",
                       escaped(layer.path) + " (" + plan.method + ")",
                       reason.empty() ? "found no reason given by the method" : reason,
                       wish.routed->from_declaration ? "" : "on_unsupported: keep"});
  }

  /// Each part becomes a layer of its own, routed by itself where it is declared so, and is asked
  /// again.
  void split(graph::Layer layer, LayerPlan plan, const Wish& wish) {
    if (layer.parts.size() < 2) {
      return refuse(wish, Error{Code::internal, "method splits a layer of one part",
                                escaped(layer.path) + " (" + plan.method + ")", "", ""});
    }
    std::vector<graph::Layer> parts;
    for (uint32_t p = 0; p < layer.parts.size(); ++p) parts.push_back(part_layer(layer, p));
    plan.decision = Decision::split;
    plan.nbytes_before = 0;  // counted by the parts
    auto index = static_cast<int64_t>(plan_.layers.size());
    push(std::move(layer), std::move(plan));
    for (size_t p = 0; p < parts.size(); ++p) {
      if (wish.routed->parts.empty()) {
        take(std::move(parts[p]), Wish{wish.routed, wish.config, index});
        continue;
      }
      const Routed& own = wish.routed->parts[p];
      auto config = config_of(own);
      if (config.ok()) take(std::move(parts[p]), Wish{&own, *std::move(config), index});
    }
  }

  static graph::Layer part_layer(const graph::Layer& layer, uint32_t index) {
    graph::Layer out;
    out.component = layer.component;
    out.path = layer.parts[index].name;
    out.kind =
        layer.kind == graph::LayerKind::grouped_linear ? graph::LayerKind::linear : layer.kind;
    out.role = layer.role;
    out.out = layer.parts[index].out_count;
    out.in = layer.in;
    out.parts = {layer.parts[index]};
    out.parts[0].group = 0;
    out.parts[0].out_begin = 0;
    out.fallback = layer.fallback;
    for (const graph::LayerTensor& tensor : layer.tensors) {
      if (tensor.part != index) continue;
      out.tensors.push_back({tensor.tensor, 0, 0, tensor.suffix});
      const bool bias = tensor.suffix == "bias" || tensor.suffix == "linear.bias";
      out.has_bias |= bias;
    }
    return out;
  }

  void push(graph::Layer layer, LayerPlan plan) {
    for (const Stored& stored : plan.stored) plan.nbytes_after += stored.slab_nbytes();
    plan_.graph.layers.push_back(std::move(layer));
    plan_.layers.push_back(std::move(plan));
  }

  void refuse(const Wish& wish, Error error) {
    if (!wish.routed->rule.empty()) error = std::move(error).at(wish.routed->rule);
    problems_.push_back(std::move(error));
  }

  /// Tensors outside every layer are not loaded; say which.
  void note_unclaimed() {
    std::vector<std::vector<bool>> claimed;
    for (const auto& component : plan_.checkpoint->components) {
      claimed.emplace_back(component.tensors.size(), false);
    }
    for (const graph::Layer& layer : plan_.graph.layers) {
      auto& list = claimed[plan_.graph.components[layer.component].checkpoint_component];
      for (const graph::LayerTensor& tensor : layer.tensors) list[tensor.tensor] = true;
    }
    std::vector<std::string> names;
    for (size_t c = 0; c < claimed.size(); ++c) {
      const auto& tensors = plan_.checkpoint->components[c].tensors;
      for (size_t t = 0; t < tensors.size(); ++t) {
        if (!claimed[c][t]) names.push_back(quoted(tensors[t].name));
      }
    }
    if (names.empty()) return;
    plan_.notes.push_back("tensors that belong to no layer are not loaded: " +
                          join(names, " and ", 4));
  }

  plugin::Registry& registry_;
  std::vector<Routed> routed_;
  std::vector<graph::Layer> asked_layers_;
  Plan plan_;
  std::vector<DType> float_dtypes_;  // by component
  std::vector<Error> problems_;
  using ConfigResult = Result<std::shared_ptr<const plugin::MethodConfig>>;
  std::unordered_map<const config::MethodChoice*, ConfigResult> by_pointer_;
  std::unordered_map<std::string, ConfigResult> by_content_;
  std::vector<std::pair<const config::MethodChoice*, Use>> uses_;  // in the order first met
};

}  // namespace

Result<Plan> plan_routed(std::shared_ptr<const formats::Checkpoint> checkpoint, graph::Graph graph,
                         const config::QuantConfig& quantization, std::vector<Routed> routed,
                         plugin::Registry& registry, const Target& target,
                         const LoadOptions& options) {
  return Planner(std::move(checkpoint), std::move(graph), quantization, std::move(routed), registry,
                 target, options)
      .run();
}

}  // namespace loadstone::plan
