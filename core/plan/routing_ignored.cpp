#include "plan/routing_ignored.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace loadstone::plan {

void IgnoreLists::compile(const ChoicePtr& choice, config::Problems& problems) {
  auto [found, fresh] = lists_.emplace(choice.get(), List());
  if (!fresh) return;
  List& list = found->second;
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
    problems.add(std::move(status).error().at(list.entries[i].mark().text()));
    list.matched[i] = true;  // one problem is enough
  }
  Status status = list.patterns.compile();
  if (!status.ok()) problems.add(std::move(status).error());
}

Ignored IgnoreLists::find(const ChoicePtr& choice, const graph::Layer& layer,
                          const LayerNames& names, config::Problems& problems) {
  compile(choice, problems);
  List& list = lists_.at(choice.get());
  Ignored out{nullptr, list.field, false};
  if (list.entries.empty()) return out;
  const NameHits hits = match_names(list.patterns, names);
  for (uint32_t id : hits.own) list.matched[id] = true;
  const uint32_t* entry = hits.own.empty() ? nullptr : &hits.own.front();
  std::vector<bool> named;
  for (const auto& part : hits.parts) {
    for (uint32_t id : part) list.matched[id] = true;
    named.push_back(!part.empty());
    if (!entry && !part.empty()) entry = &part.front();
  }
  if (!entry) return out;
  const Node& text = list.entries[*entry];
  const bool all = std::find(named.begin(), named.end(), false) == named.end();
  if (hits.own.empty() && !all) {
    if (reported_.insert({choice.get(), layer.component, *entry}).second) {
      problems.add(list.field + " names part of a fused layer", text.mark(),
                   "found " + quoted(text.raw()) + " for part of " + quoted(layer.path) +
                       ", expected " + missing_parts(names, named) + " too");
    }
    out.in_part = true;
    return out;
  }
  out.entry = &text;
  return out;
}

void IgnoreLists::mark(const ChoicePtr& choice, const LayerNames& names) {
  List& list = lists_.at(choice.get());
  if (list.entries.empty()) return;
  const NameHits hits = match_names(list.patterns, names);
  for (uint32_t id : hits.own) list.matched[id] = true;
  for (const auto& part : hits.parts) {
    for (uint32_t id : part) list.matched[id] = true;
  }
}

void IgnoreLists::check(const NearestName& nearest, config::Problems& problems) const {
  for (const auto& [choice, list] : lists_) {
    for (size_t i = 0; i < list.entries.size(); ++i) {
      if (list.matched[i]) continue;
      const Node& entry = list.entries[i];
      problems.add(list.field + " entry matches no layer", entry.mark(),
                   "found " + quoted(entry.raw()) + ", expected a layer that " + choice->method +
                       " would quantize",
                   nearest.to(entry.raw()));
    }
  }
}

}  // namespace loadstone::plan
