#include "graph/fit.hpp"

#include <algorithm>
#include <map>

#include "base/checked.hpp"
#include "base/text.hpp"

namespace loadstone::graph {
namespace {

constexpr size_t kMaxShown = 10;

/// What must agree. `columns` is 0 where rows of a matrix can't be told.
struct Extent {
  uint64_t weight = 0, bias = 0, columns = 0;
  bool operator==(const Extent&) const = default;
};

/// Modules that one stored tensor holds; mostly one.
struct Holding {
  std::vector<std::string> modules;
  Extent extent;
};

std::vector<Holding> holdings_of(const BuiltComponent& built) {
  std::vector<Holding> out;
  for (const Layer& layer : built.layers) {
    const size_t first = out.size();
    for (const Part& part : layer.parts) out.push_back({{part.path}, {}});
    if (layer.parts.size() == 1 && layer.holds.size() > 1) out.back().modules = layer.holds;
    for (const LayerTensor& one : layer.tensors) {
      const formats::TensorEntry& tensor = built.component.tensors[one.tensor];
      const auto count = checked_numel({tensor.shape.data(), tensor.shape.size()}).value_or(0);
      Extent& extent = out[first + one.part].extent;
      if (one.suffix == "bias") extent.bias = count;
      if (one.suffix != "weight" && !one.suffix.empty()) continue;
      extent.weight = count;
      const auto& reshaped = built.component.reshaped;
      const bool true_rows = std::none_of(reshaped.begin(), reshaped.end(), [&](const auto& other) {
        return other.first == one.tensor;
      });
      if (tensor.shape.size() == 2 && true_rows) extent.columns = tensor.shape[1];
    }
  }
  return out;
}

std::string list(const std::vector<std::string>& modules) {
  std::vector<std::string> shown;
  for (size_t i = 0; i < std::min(modules.size(), kMaxShown); ++i) {
    shown.push_back(quoted(modules[i]));
  }
  return std::to_string(modules.size()) + " modules (" + join(shown, ", ") +
         (modules.size() > kMaxShown ? ", …)" : ")");
}

std::string say(const Extent& extent) {
  return std::to_string(extent.weight) + " elements" +
         (extent.columns == 0 ? "" : ", " + std::to_string(extent.columns) + " a row") +
         (extent.bias == 0 ? ", no bias" : ", a bias of " + std::to_string(extent.bias));
}

Error misfit(const BuiltComponent& file, const BuiltComponent& base, std::string found,
             std::string expected) {
  return Error{Code::invalid_checkpoint,
               "file doesn't fit its base model",
               escaped(file.component.source),
               "found " + std::move(found) + ", expected " + std::move(expected) + " of " +
                   escaped(base.component.source),
               "",
               {}};
}

}  // namespace

Status check_fit(const BuiltComponent& file, const BuiltComponent& base) {
  std::map<std::string, Extent> wanted;
  for (const Holding& one : holdings_of(base)) {
    // A base in original names: what it holds together counts for the first.
    for (const std::string& module : one.modules) wanted[module] = {};
    wanted[one.modules.front()] = one.extent;
  }
  std::vector<std::string> extra;
  std::map<std::string, bool> seen;
  for (const Holding& one : holdings_of(file)) {
    Extent sum;
    for (const std::string& module : one.modules) {
      const auto at = wanted.find(module);
      if (at == wanted.end()) {
        extra.push_back(module);
        continue;
      }
      seen[module] = true;
      sum.weight += at->second.weight;
      sum.bias += at->second.bias;
      if (at->second.columns != 0) sum.columns = at->second.columns;
    }
    if (!extra.empty()) continue;
    Extent own = one.extent;
    if (own.columns == 0 || sum.columns == 0) own.columns = sum.columns = 0;
    if (own == sum) continue;
    return misfit(file, base, say(own) + " for " + quoted(one.modules.front()), say(sum));
  }
  std::vector<std::string> missing;
  for (const auto& [module, extent] : wanted) {
    if (!seen.contains(module)) missing.push_back(module);
  }
  if (!missing.empty()) return misfit(file, base, "no tensors for " + list(missing), "all modules");
  if (!extra.empty()) return misfit(file, base, list(extra) + " beyond", "only the modules");
  return {};
}

}  // namespace loadstone::graph
