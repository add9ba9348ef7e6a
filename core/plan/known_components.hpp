// The components that the adapters' families have: what a configuration without a model can mean.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "graph/graph.hpp"

namespace loadstone::plan {

/// A component name over all families that have it.
struct KnownComponent {
  graph::Reach reach = graph::Reach::map;  // of the family where a flat method gets furthest
};

class KnownComponents {
 public:
  /// Errors: those of graph::read_adapters.
  static Result<KnownComponents> read(const std::string& adapters_dir);

  /// Null for a name that no family has.
  const KnownComponent* find(std::string_view name) const;
  /// Where a flat method goes in most families: what a layer path without a component means.
  const std::string& usual() const { return usual_; }

  /// The component that a layer path begins with, or "".
  std::string named_by(std::string_view path) const;

 private:
  std::map<std::string, KnownComponent, std::less<>> components_;
  std::string usual_;
};

}  // namespace loadstone::plan
