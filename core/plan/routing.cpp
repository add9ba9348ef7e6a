#include "plan/routing.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "base/text.hpp"
#include "plan/routing_declared.hpp"
#include "plan/routing_entries.hpp"
#include "plan/routing_names.hpp"
#include "plan/routing_rules.hpp"

namespace loadstone::plan {
namespace {

using ChoicePtr = std::shared_ptr<const config::MethodChoice>;

/// Why a family keeps a layer, in words.
std::string reason_of(const std::string& why) {
  static const std::map<std::string, std::string> kReasons = {
      {"precision", "small and sensitive: errors here multiply"},
      {"io", "entry or exit of the model"},
      {"norm_mod", "modulation: its errors multiply into every block"},
      {"double_block", "double-stream block: the reference quantizes single-stream blocks only"},
      {"plain", "an ordinary product in the reference, never offered to a method"},
      {"component", "its component is outside the default scope"},
      {"stage", "its stage is outside the default scope"},
      {"router", "expert router"},
      {"head", "logits head"},
      {"not_linear", "no matrix product"},
      {"unknown", "no pattern of the family names it"},
      {"unknown_family", "no adapter knows this model"},
  };
  auto found = kReasons.find(why);
  return found == kReasons.end() ? why : found->second;
}

bool is_product(const graph::Layer& layer) {
  return layer.kind == graph::LayerKind::linear || layer.kind == graph::LayerKind::grouped_linear;
}

std::string place_of(const Mark& mark, const std::string& otherwise) {
  std::string text = mark.text();
  return text.empty() ? otherwise : text;
}

/// A user's ignore list, compiled once for each choice. `field` is what its method calls it.
struct IgnoreList {
  std::string field = "ignored_layers";
  std::vector<Node> entries;
  config::PatternSet patterns;
  std::vector<bool> matched;
};

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
  struct Counts {
    uint64_t serialized = 0;
    uint64_t plain = 0;       // declared, stored plain
    uint64_t undeclared = 0;  // serialized although the declaration keeps it
    std::string method, first_plain, first_undeclared;
  };

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
    if (declared) count(layer, *declared, names, serialized);
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

  static std::string default_name(const graph::Layer& layer) {
    return layer.fallback.quantize ? "default:quantize" : "default:" + layer.fallback.why;
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
      if (reported_.insert({choice.get(), layer.component, UINT32_MAX}).second) {
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
    IgnoreList* list = ignore_list(choice);
    if (!list) return false;
    const NameHits hits = match_names(list->patterns, names);
    for (uint32_t id : hits.own) list->matched[id] = true;
    const uint32_t* entry = hits.own.empty() ? nullptr : &hits.own.front();
    std::vector<bool> named;
    for (const auto& part : hits.parts) {
      for (uint32_t id : part) list->matched[id] = true;
      named.push_back(!part.empty());
      if (!entry && !part.empty()) entry = &part.front();
    }
    if (!entry) return false;
    const Node& text = list->entries[*entry];
    const bool all = std::find(named.begin(), named.end(), false) == named.end();
    if (hits.own.empty() && !all) {
      if (reported_.insert({choice.get(), layer.component, *entry}).second) {
        problems_.add(list->field + " names part of a fused layer", text.mark(),
                      "found " + quoted(text.raw()) + " for part of " + quoted(layer.path) +
                          ", expected " + missing_parts(names, named) + " too");
      }
      return true;
    }
    out.ignored = text.raw();
    out.reason = list->field + " entry " + quoted(out.ignored);
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

  IgnoreList* ignore_list(const ChoicePtr& choice) {
    auto [found, fresh] = ignore_lists_.emplace(choice.get(), IgnoreList());
    IgnoreList& list = found->second;
    if (fresh) {
      const Node* entries = choice->field(list.field);
      if (const Node* other = choice->field("unquantized_modules")) {  // gguf's word for it
        list.field = "unquantized_modules";
        entries = other;
      }
      if (entries) list.entries = entries->items();
      list.matched.assign(list.entries.size(), false);
      for (uint32_t i = 0; i < list.entries.size(); ++i) {
        Status status = list.patterns.add_entry(list.entries[i].raw(), i);
        if (status.ok()) continue;
        problems_.add(std::move(status).error().at(list.entries[i].mark().text()));
        list.matched[i] = true;  // one problem is enough
      }
      Status status = list.patterns.compile();
      if (!status.ok()) problems_.add(std::move(status).error());
    }
    return list.entries.empty() ? nullptr : &list;
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
    IgnoreList* list = ignore_list(entry.choice);
    const bool named = entry.named && layer.fallback.named && (layer.scope < 0 || entry.scope);
    const bool wanted = layer.fallback.quantize || named || (serialized && is_product(layer));
    if (!wanted) {
      if (list) mark_ignored(*list, names);
      return false;
    }
    if (!serialized && declared_[layer.component]) {
      if (list) mark_ignored(*list, names);
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

  /// An entry of a list counts as matched by layers that something else keeps.
  void mark_ignored(IgnoreList& list, const LayerNames& names) {
    const NameHits hits = match_names(list.patterns, names);
    for (uint32_t id : hits.own) list.matched[id] = true;
    for (const auto& part : hits.parts) {
      for (uint32_t id : part) list.matched[id] = true;
    }
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
      if (orphan_.empty()) orphan_ = layer.path;
      ++orphans_;
    }
    out.rule = default_name(layer);
    if (layer.role == "marker") {
      out.reason = "marks the file's format";
    } else if (layer.fallback.quantize) {
      out.reason = "no method asked for";
    } else {
      out.reason = reason_of(layer.fallback.why);
    }
  }

  void count(const graph::Layer& layer, const Declared& declared, const LayerNames& names,
             bool serialized) {
    Counts& counts = counts_[declared.where()];
    counts.method = declared.method();
    if (serialized) ++counts.serialized;
    if (!is_product(layer)) return;
    const bool covered = declared.covers(names);
    if (covered && !serialized) {
      if (counts.plain++ == 0) counts.first_plain = layer.path;
    } else if (!covered && serialized) {
      if (counts.undeclared++ == 0) counts.first_undeclared = layer.path;
    }
  }

  /// What only the whole model tells.
  void finish() {
    for (const auto& [where, counts] : counts_) {
      if (counts.serialized == 0 && counts.plain == 0) {
        notes_.push_back(where + ": declares no layer quantized");
        continue;
      }
      if (counts.serialized == 0) {
        problems_.add(Error{Code::invalid_checkpoint,
                            "declaration without quantized tensors",
                            where,
                            "found " + counts.method +
                                " declared and every layer stored plain, "
                                "expected quantized weights or scales",
                            "",
                            {}});
        continue;
      }
      if (counts.plain > 0) {
        notes_.push_back(where + ": " + std::to_string(counts.plain) + " layers, the first " +
                         quoted(counts.first_plain) +
                         ", are declared quantized and stored plain: kept");
      }
      if (counts.undeclared > 0) {
        notes_.push_back(where + ": " + std::to_string(counts.undeclared) + " layers, the first " +
                         quoted(counts.first_undeclared) +
                         ", are declared kept and stored quantized: read as stored");
      }
    }
    if (orphans_ > 0) {
      problems_.add(Error{Code::invalid_checkpoint,
                          "quantized tensors without a declaration",
                          checkpoint_.path,
                          "found " + std::to_string(orphans_) + " layers, the first " +
                              quoted(orphan_) +
                              ", expected a quantization_config beside them, or "
                              "a method for their component",
                          "",
                          {}});
    }
    const size_t before = problems_.size();
    rules_->check(quantization_.allow_unmatched, nearest_, problems_);
    if (problems_.size() == before) check_entries();  // rules in error may leave a method nothing
    check_ignored();
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

  void check_ignored() {
    if (quantization_.allow_unmatched) return;
    for (const auto& [choice, list] : ignore_lists_) {
      for (size_t i = 0; i < list.entries.size(); ++i) {
        if (list.matched[i]) continue;
        const Node& entry = list.entries[i];
        problems_.add(list.field + " entry matches no layer", entry.mark(),
                      "found " + quoted(entry.raw()) + ", expected a layer that " + choice->method +
                          " would quantize",
                      nearest_.to(entry.raw()));
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
  std::map<const config::MethodChoice*, IgnoreList> ignore_lists_;
  std::map<const config::MethodChoice*, std::shared_ptr<const plugin::MethodConfig>> filters_;
  std::map<const config::MethodChoice*, uint64_t> used_;
  std::map<std::string, Counts> counts_;  // by declaration
  std::set<std::tuple<const config::MethodChoice*, uint32_t, uint32_t>> reported_;
  std::string orphan_;
  uint64_t orphans_ = 0;
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
