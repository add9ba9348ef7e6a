#include "graph/original_names.hpp"

#include <utility>

#include "base/text.hpp"

namespace loadstone::graph {

OriginalNames::OriginalNames(const AdapterComponent& component) : component_(component) {
  for (uint32_t i = 0; i < component.renames.size(); ++i) {
    const Rename& rename = component.renames[i];
    add(rename.to, {i, 0, 1});
    const auto held = static_cast<uint32_t>(rename.holds.size());
    for (uint32_t k = 0; k < held; ++k) add(rename.holds[k], {i, k, held});
    for (const Fusion& fusion : component.fusions) {
      if (fusion.into != rename.to) continue;
      const auto parts = static_cast<uint32_t>(fusion.parts.size());
      for (uint32_t k = 0; k < parts; ++k) add(fusion.parts[k], {i, k, parts});
    }
  }
}

void OriginalNames::add(std::string_view pattern, const Way& way) {
  if (table_.add(pattern, static_cast<uint32_t>(ways_.size()))) ways_.push_back(way);
}

OriginalPlace OriginalNames::place_of(std::string_view module) const {
  const auto hit = table_.find(module);
  if (!hit) return {std::string(module), 0, 1, ""};
  const Way& way = ways_[hit->value];
  const Rename& rename = component_.renames[way.rename];
  return {fill(rename.from, hit->captures), way.index, way.count, rename.transform};
}

Error no_name_adapter(const Graph& graph, const GraphComponent& component, std::string where) {
  return Error{Code::unsupported,
               "no name adapter for GGUF",
               std::move(where),
               "found component " + quoted(component.name) + " of family " + quoted(graph.family) +
                   ", expected the transformer of " + join(graph.gguf_families, " or "),
               "",
               {}};
}

}  // namespace loadstone::graph
