#include "plan/known_components.hpp"

#include <algorithm>
#include <array>

#include "graph/adapter.hpp"

namespace loadstone::plan {
namespace {

/// How far a method without a component gets; a stage refuses it only in its own family.
bool farther(graph::Reach a, graph::Reach b) {
  using graph::Reach;
  static constexpr std::array kOrder = {Reach::stage, Reach::map, Reach::declared, Reach::flat};
  return std::find(kOrder.begin(), kOrder.end(), a) > std::find(kOrder.begin(), kOrder.end(), b);
}

}  // namespace

Result<KnownComponents> KnownComponents::read(const std::string& adapters_dir) {
  LS_TRY(const graph::Adapters adapters, graph::read_adapters(adapters_dir));
  KnownComponents out;
  std::map<std::string, int> flat;
  for (const graph::Adapter& family : adapters.families) {
    for (const graph::AdapterComponent& component : family.components) {
      if (component.name == "*") continue;  // the generic family has whatever a checkpoint has
      const auto [at, fresh] = out.components_.emplace(component.name, KnownComponent{});
      KnownComponent& known = at->second;
      if (fresh || farther(component.reach, known.reach)) known.reach = component.reach;
      if (component.reach == graph::Reach::flat) ++flat[component.name];
    }
  }
  int most{};
  for (const auto& [name, count] : flat) {
    if (count > most) out.usual_ = name;
    most = std::max(most, count);
  }
  return out;
}

const KnownComponent* KnownComponents::find(std::string_view name) const {
  const auto found = components_.find(name);
  return found == components_.end() ? nullptr : &found->second;
}

std::string KnownComponents::named_by(std::string_view path) const {
  const size_t dot = path.find('.');
  if (dot == std::string_view::npos || !find(path.substr(0, dot))) return "";
  return std::string(path.substr(0, dot));
}

}  // namespace loadstone::plan
