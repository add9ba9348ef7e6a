// All names under which a layer can be meant, and patterns matched against them.
#pragma once

#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "config/pattern.hpp"
#include "graph/graph.hpp"

namespace loadstone::plan {

/// The names of one layer inside its component.
struct LayerNames {
  std::string component;
  std::vector<std::string> own;                 // path, aliases, with every accepted beginning
  std::vector<std::vector<std::string>> parts;  // of a fused layer: each part's names; else empty
};

LayerNames names_of(const graph::Layer& layer, const graph::GraphComponent& component);

/// `pattern` less a strip prefix of the component ("model.diffusion_model.").
std::string_view less_strip(std::string_view pattern, const graph::GraphComponent& component);

/// Ids of patterns that match one layer, ascending.
struct NameHits {
  std::vector<uint32_t> own;                 // by its own names
  std::vector<std::vector<uint32_t>> parts;  // by each part's names; empty for a layer of one part

  /// Ids that name the layer itself or every part of it.
  std::vector<uint32_t> whole() const;
  /// Ids that name some parts only.
  std::vector<uint32_t> partial() const;
};

NameHits match_names(const config::PatternSet& patterns, const LayerNames& names);

/// The parts that `names_part` says no to, quoted and joined.
std::string missing_parts(const LayerNames& names, const std::vector<bool>& named);

/// The real name nearest to an entry that matched nothing: a layer's name, or a segment of one.
class NearestName {
 public:
  void add(const LayerNames& names);
  /// Quoted, or "" when nothing is near.
  std::string to(std::string_view entry) const;

 private:
  std::unordered_set<std::string> known_;
  std::vector<std::string> names_, segments_;
};

}  // namespace loadstone::plan
