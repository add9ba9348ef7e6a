#include "plan/routing.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "base/text.hpp"
#include "plan/routing_declared.hpp"
#include "plan/routing_default.hpp"
#include "plan/routing_entries.hpp"
#include "plan/routing_ignored.hpp"
#include "plan/routing_names.hpp"
#include "plan/routing_rules.hpp"
#include "plan/routing_stored.hpp"

namespace loadstone::plan {
namespace {

std::string place_of(const Mark& mark, const std::string& otherwise) {
  std::string text = mark.text();
  return text.empty() ? otherwise : text;
}

class Router {
 public:
  Router(const graph::Graph& graph, const formats::Checkpoint& checkpoint,
         const config::QuantConfig& quantization, plugin::Registry& registry,
         std::vector<std::string>& notes)
      : graph_(graph),
        checkpoint_(checkpoint),
        quantization_(quantization),
        registry_(registry),
        notes_(notes) {}

  Result<std::vector<Routed>> run(std::vector<std::string>* listing) {
    LS_CHECK(read_declarations());
    LS_TRY(rules_, CompiledRules::make(quantization_.rules));
    std::vector<bool> declared;
    for (const auto& one : declared_) declared.push_back(one.has_value());
    entries_ = resolve_entries(graph_, quantization_, declared, notes_, problems_);
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (!declared_[i]) continue;
      check_agreement(graph_.components[i].name, *declared_[i], entries_[i].whole, problems_);
    }
    if (!problems_.empty()) return take_problems();
    std::vector<Routed> out;
    out.reserve(graph_.layers.size());
    for (const graph::Layer& layer : graph_.layers) out.push_back(decide(layer));
    finish();
    if (!problems_.empty()) return take_problems();
    if (listing) list(*listing);
    return out;
  }

 private:
  const formats::Component& stored(const graph::Layer& layer) const {
    return checkpoint_.components[graph_.components[layer.component].checkpoint_component];
  }

  Status read_declarations() {
    for (uint32_t i = 0; i < graph_.components.size(); ++i) {
      LS_TRY(auto one, declared_for(graph_, i, checkpoint_, registry_, notes_));
      declared_.push_back(std::move(one));
    }
    return {};
  }

  Routed decide(const graph::Layer& layer) {
    const graph::GraphComponent& component = graph_.components[layer.component];
    const LayerNames names = names_of(layer, component);
    nearest_.add(names);
    const bool serialized = layer.role != "marker" && is_serialized(layer, stored(layer));
    auto& declared = declared_[layer.component];
    if (declared) stored_forms_.add(layer, *declared, names, serialized);
    Routed out;
    bool done = false;
    for (uint32_t id : rules_->matching(layer, component, stored(layer), names, problems_)) {
      const config::Rule& rule = quantization_.rules[id];
      if (rule.use && !is_product(layer) && !rules_->names_kind(id)) continue;
      if (done) {
        rules_->outvoted(id);
        out.overrode.push_back(rule.mark.text() + ": " + use_of(rule.use));
        continue;
      }
      rules_->decided(id);
      by_rule(layer, names, rule, id, serialized, out);
      done = true;
    }
    const Entry& entry = entry_of(layer);
    if (done) {
      if (entry.given) out.overrode.push_back(say(entry));
    } else {
      done = by_entry(layer, names, entry, serialized, out);
    }
    if (declared && serialized) {
      if (!done) by_declaration(layer, names, *declared, out);
      done = true;
    }
    if (!done) by_default(layer, serialized, out);
    if (out.rule != default_name(layer)) out.overrode.push_back(default_name(layer));
    return out;
  }

  const Entry& entry_of(const graph::Layer& layer) const {
    const ComponentEntries& entries = entries_[layer.component];
    if (layer.scope >= 0 && entries.scopes[static_cast<size_t>(layer.scope)].given) {
      return entries.scopes[static_cast<size_t>(layer.scope)];
    }
    return entries.whole;
  }

  static std::string say(const Entry& entry) {
    std::string what = entry.choice ? entry.choice->method : "keep";
    std::string key = entry.key.empty() ? "default scope" : "component " + quoted(entry.key);
    return place_of(entry.mark, "quantization") + ": " + key + " → " + what;
  }

  void by_rule(const graph::Layer& layer, const LayerNames& names, const config::Rule& rule,
               uint32_t id, bool serialized, Routed& out) {
    out.rule = place_of(rule.mark, "rules");
    out.on_unsupported = rule.on_unsupported.value_or(quantization_.on_unsupported);
    if (!rule.use) {
      out.reason = "a rule keeps it";
      return keep_or_decode(layer, names, serialized, out);
    }
    if (!is_product(layer) && layer.kind != graph::LayerKind::gather) {
      problems_.add("rule asks for the impossible", rule.mark,
                    "found " + rule.use->method + " for layer " + quoted(layer.path) + " of kind " +
                        std::string(to_string(layer.kind)) + ", expected a layer with a matrix");
      return;
    }
    auto& choice = rule_choices_[id];
    if (!choice) choice = std::make_shared<const config::MethodChoice>(*rule.use);
    out.reason = "a rule asks for it";
    use(layer, names, choice, rule.mark, serialized, out);
  }

  /// Quantizes with a user's choice: online, or the layer's own serialized form.
  void use(const graph::Layer& layer, const LayerNames& names, const ChoicePtr& choice,
           const Mark& mark, bool serialized, Routed& out) {
    if (choice->on_unsupported) out.on_unsupported = *choice->on_unsupported;
    auto& declared = declared_[layer.component];
    if (serialized && declared &&
        config::fold_name(declared->method()) != config::fold_name(choice->method)) {
      if (reported_.insert({choice.get(), layer.component}).second) {
        problems_.add("configuration disagrees with the checkpoint", mark,
                      "found " + choice->method + " for " + quoted(layer.path) + ", expected " +
                          declared->method() + " as " + declared->where() + " declares");
      }
      return;
    }
    if (keep_if_ignored(layer, names, choice, serialized, out)) return;
    if (!serialized && keep_if_method_ignores(layer, choice, out)) return;
    out.wish = Decision::quantize;
    out.choice = choice;
    if (serialized && declared) {
      out.reason += ", as " + declared->where() + " declares";
      set_declared(*declared, names, choice, out);
    }
  }

  /// The declared settings of a layer with the user's (`user` may be null) in them.
  void set_declared(Declared& declared, const LayerNames& names, const ChoicePtr& user,
                    Routed& out) {
    const auto with_user = [&](const ChoicePtr& one) {
      if (!user) return one;
      auto& made = merged_[{one.get(), user.get()}];
      if (!made) {
        made = merge_fields(*one, declared.schema(), declared.where(), *user, problems_);
      }
      return made;
    };
    out.from_declaration = true;
    if (const ChoicePtr one = declared.choice(names)) {
      out.choice = with_user(one);
      return;
    }
    out.reason += "; its parts are declared differently and treated apart";
    std::vector<Routed> parts;
    for (const ChoicePtr& one : declared.part_choices(names)) {
      parts.push_back(out);
      parts.back().choice = with_user(one);
    }
    out.choice = parts.front().choice;
    out.parts = std::move(parts);
  }

  void keep_or_decode(const graph::Layer& layer, const LayerNames& names, bool serialized,
                      Routed& out) {
    auto& declared = declared_[layer.component];
    if (!serialized || !declared) return;  // undeclared codes are found by finish()
    out.wish = Decision::decode;
    set_declared(*declared, names, nullptr, out);
  }

  /// True when the choice's ignore list names the layer, by its own name or all parts' names.
  bool keep_if_ignored(const graph::Layer& layer, const LayerNames& names, const ChoicePtr& choice,
                       bool serialized, Routed& out) {
    const Ignored found = ignored_.find(choice, layer, names, problems_);
    if (found.entry == nullptr) return found.in_part;
    const Node& text = *found.entry;
    out.ignored = text.raw();
    out.reason = found.field + " entry " + quoted(out.ignored);
    out.rule = place_of(text.mark(), out.rule);
    keep_or_decode(layer, names, serialized, out);
    return true;
  }

  /// A method's own filter, beyond the common list.
  bool keep_if_method_ignores(const graph::Layer& layer, const ChoicePtr& choice, Routed& out) {
    auto [found, fresh] = filters_.emplace(choice.get(), nullptr);
    if (fresh) {
      auto method = registry_.method(choice->method);
      if (!method.ok() || method->table().ignored == nullptr) return false;
      auto config = plugin::MethodConfig::make(*method, *choice);
      if (config.ok()) found->second = *config;  // planning reports what it refuses
    }
    if (!found->second) return false;
    const plugin::Method& method = found->second->method();
    const LayerView view(checkpoint_, graph_, layer, LS_WANT_QUANTIZE, DType::BF16);
    const char* entry = nullptr;
    const int32_t answer = method.table().ignored(found->second->handle(), &view.get(), &entry);
    Status status = plugin::check_call(answer, method, "ignored", layer.path);
    if (!status.ok()) problems_.add(std::move(status).error());
    if (!status.ok() || entry == nullptr) return !status.ok();
    out.ignored = entry;
    out.reason = method.name();
    out.reason += " leaves it alone: entry " + quoted(out.ignored);
    return true;
  }

  /// True when the map or the flat method decides the layer.
  bool by_entry(const graph::Layer& layer, const LayerNames& names, const Entry& entry,
                bool serialized, Routed& out) {
    if (!entry.given) return false;
    const std::string place = place_of(entry.mark, "quantization");
    if (!entry.choice) {
      if (const auto& declared = declared_[layer.component]; serialized && declared) {
        check_agreement(names.component, *declared, entry, problems_);  // of a scope
      }
      out.rule = place;
      out.reason = entry.key == "none" ? "unquantized on request"
                                       : "component " + quoted(entry.key) + " stays unquantized";
      return true;
    }
    ignored_.compile(entry.choice, problems_);
    const bool named = entry.named && layer.fallback.named && (layer.scope < 0 || entry.scope);
    const bool wanted = layer.fallback.quantize || named || (serialized && is_product(layer));
    if (!wanted) {
      ignored_.mark(entry.choice, names);
      return false;
    }
    if (!serialized && declared_[layer.component]) {
      ignored_.mark(entry.choice, names);
      return by_plain_declared(layer, out);
    }
    out.rule = place;
    out.reason = entry.key.empty() ? "in the default scope"
                                   : "component " + quoted(entry.key) + " asks for it";
    out.on_unsupported = quantization_.on_unsupported;
    use(layer, names, entry.choice, entry.mark, serialized, out);
    if (out.wish != Decision::keep) ++used_[entry.choice.get()];
    return true;
  }

  /// A layer that its component's declaration covers but the file holds plain: kept.
  bool by_plain_declared(const graph::Layer& layer, Routed& out) {
    out.rule = declared_[layer.component]->where();
    out.reason = "stored unquantized in a quantized checkpoint";
    out.from_declaration = true;
    return true;
  }

  void by_declaration(const graph::Layer& layer, const LayerNames& names, Declared& declared,
                      Routed& out) {
    out.rule = declared.where();
    out.reason = "as the checkpoint declares";
    out.on_unsupported = quantization_.on_unsupported;
    const bool usable = is_product(layer) || layer.kind == graph::LayerKind::gather;
    out.wish = usable ? Decision::quantize : Decision::decode;
    set_declared(declared, names, nullptr, out);
  }

  void by_default(const graph::Layer& layer, bool serialized, Routed& out) {
    if (serialized && (is_product(layer) || layer.kind == graph::LayerKind::gather)) {
      stored_forms_.add_orphan(layer);
    }
    out.rule = default_name(layer);
    out.reason = default_reason(layer);
  }

  /// What only the whole model tells.
  void finish() {
    stored_forms_.check(checkpoint_.path, notes_, problems_);
    const size_t before = problems_.size();
    rules_->check(quantization_.allow_unmatched, nearest_, problems_);
    if (problems_.size() == before) check_entries();  // rules in error may leave a method nothing
    if (!quantization_.allow_unmatched) ignored_.check(nearest_, problems_);
  }

  void check_entries() {
    for (size_t i = 0; i < entries_.size(); ++i) {
      std::vector<const Entry*> all = {&entries_[i].whole};
      for (const Entry& scope : entries_[i].scopes) all.push_back(&scope);
      for (const Entry* entry : all) {
        if (!entry->choice) continue;
        if (used_[entry->choice.get()] > 0 || quantization_.allow_unmatched) continue;
        const std::string name = entry->key.empty() ? "the default scope" : quoted(entry->key);
        problems_.add("method quantizes nothing", entry->mark,
                      "found " + entry->choice->method + " for " + name +
                          ", expected a layer that it applies to and no rule decides");
      }
    }
  }

  /// All problems, each text once.
  Error take_problems() {
    Error all = problems_.take();
    std::set<std::string> seen;
    std::vector<Error> more = std::move(all.more);
    all.more.clear();
    seen.insert(all.text());
    for (Error& one : more) {
      if (seen.insert(one.text()).second) all.more.push_back(std::move(one));
    }
    return all;
  }

  void list(std::vector<std::string>& listing) const {
    listing = rules_->listing();
    for (std::string& line : entry_listing(quantization_)) listing.push_back(std::move(line));
    std::set<std::string> seen;
    for (const auto& declared : declared_) {
      if (!declared || !seen.insert(declared->where()).second) continue;
      listing.push_back(declared->where() + " → " + declared->method());
    }
    listing.push_back("defaults of family " + quoted(graph_.family));
  }

  const graph::Graph& graph_;
  const formats::Checkpoint& checkpoint_;
  const config::QuantConfig& quantization_;
  plugin::Registry& registry_;
  std::vector<std::string>& notes_;
  config::Problems problems_;
  std::vector<std::optional<Declared>> declared_;  // by component
  std::vector<ComponentEntries> entries_;          // by component
  std::optional<CompiledRules> rules_;
  NearestName nearest_;
  std::map<uint32_t, ChoicePtr> rule_choices_;
  std::map<std::pair<const config::MethodChoice*, const config::MethodChoice*>, ChoicePtr> merged_;
  IgnoreLists ignored_;
  StoredForms stored_forms_;
  std::map<const config::MethodChoice*, std::shared_ptr<const plugin::MethodConfig>> filters_;
  std::map<const config::MethodChoice*, uint64_t> used_;
  std::set<std::pair<const config::MethodChoice*, uint32_t>> reported_;  // disagreements
};

}  // namespace

Result<std::vector<Routed>> route(const graph::Graph& graph, const formats::Checkpoint& checkpoint,
                                  const config::QuantConfig& quantization,
                                  plugin::Registry& registry,
                                  std::vector<std::string>* compiled_rules,
                                  std::vector<std::string>* notes) {
  std::vector<std::string> remarks;
  Router router(graph, checkpoint, quantization, registry, remarks);
  LS_TRY(auto routed, router.run(compiled_rules));
  if (notes) notes->insert(notes->end(), remarks.begin(), remarks.end());
  return routed;
}

}  // namespace loadstone::plan
