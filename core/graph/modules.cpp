#include "graph/modules.hpp"

#include <numeric>
#include <unordered_map>
#include <unordered_set>

namespace loadstone::graph {
namespace {

std::string_view without_prefix(std::string_view name, const std::vector<std::string>& strip) {
  for (const std::string& prefix : strip) {
    if (name.substr(0, prefix.size()) == prefix) return name.substr(prefix.size());
  }
  return name;
}

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}
bool ends_with(std::string_view text, std::string_view suffix) {
  return text.size() >= suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
}

std::string_view parent_of(std::string_view name) {
  size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}
std::string_view leaf_of(std::string_view name) {
  size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

/// "weight", "qweight", "weight_packed": what makes its parent a module with parameters.
bool is_weight(std::string_view leaf) {
  return starts_with(leaf, "weight") || starts_with(leaf, "qweight");
}

/// Scales of a KV cache, which stand beside an attention module and belong to no weight.
bool is_attention_scale(std::string_view leaf) {
  return leaf == "k_scale" || leaf == "v_scale" || leaf == "q_scale" || leaf == "prob_scale";
}

struct Families {
  std::unordered_set<std::string_view> with_weight;  // parents of weights
  std::unordered_set<std::string_view> with_div;     // X of "X.div.…"
};

/// The module that a tensor belongs to; its length tells where the suffix begins.
std::string_view module_of(std::string_view name, const Families& seen) {
  std::string_view parent = parent_of(name);
  std::string_view leaf = leaf_of(name);
  if (parent.empty()) return name;
  if (std::string_view outer = parent_of(parent); !outer.empty() && seen.with_div.count(outer)) {
    std::string inner = std::string(outer) + ".linear";
    if ((leaf_of(parent) == "linear" || leaf_of(parent) == "div") &&
        seen.with_weight.count(inner)) {
      return outer;
    }
  }
  if (leaf == "weight" || leaf == "bias" || seen.with_weight.count(parent) ||
      is_attention_scale(leaf)) {
    return parent;
  }
  return name;
}

}  // namespace

std::vector<Module> split_modules(const formats::Component& component,
                                  const std::vector<uint32_t>* which,
                                  const std::vector<std::string>& strip) {
  std::vector<uint32_t> all;
  if (!which) {
    all.resize(component.tensors.size());
    std::iota(all.begin(), all.end(), 0u);
    which = &all;
  }
  Families seen;
  for (uint32_t index : *which) {
    std::string_view name = without_prefix(component.tensors[index].name, strip);
    std::string_view parent = parent_of(name);
    if (parent.empty()) continue;
    if (is_weight(leaf_of(name))) seen.with_weight.insert(parent);
    if (ends_with(parent, ".div")) seen.with_div.insert(parent_of(parent));
  }
  std::vector<Module> out;
  std::unordered_map<std::string_view, size_t> index_of;
  for (uint32_t index : *which) {
    std::string_view name = without_prefix(component.tensors[index].name, strip);
    std::string_view module = module_of(name, seen);
    auto [found, fresh] = index_of.emplace(module, out.size());
    if (fresh) out.push_back(Module{std::string(module), {}});
    std::string suffix(module.size() == name.size() ? "" : name.substr(module.size() + 1));
    out[found->second].tensors.push_back(ModuleTensor{index, std::move(suffix)});
  }
  return out;
}

}  // namespace loadstone::graph
