#include "graph/fit.hpp"

#include <algorithm>
#include <map>
#include <set>

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
  const formats::TensorEntry* weight = nullptr;
  const formats::TensorEntry* bias = nullptr;
  bool named = false;       // one module under the family's own name: shapes can be compared
  bool codes = false;       // elements of the weight can't be told from its shape
  bool beside = false;      // it has tensors other than weight and bias
  bool parameters = false;  // some tensor of it is a weight, a bias or the module itself
};

/// As many elements as the shape says; GGUF's shapes are those of the elements.
bool is_whole(const formats::Component& component, DType dtype) {
  return component.gguf || is_plain_float(dtype) || dtype == DType::F8_E4M3 ||
         dtype == DType::F8_E5M2;
}

void put_tensor(const formats::Component& component, const LayerTensor& one, Holding& out) {
  const formats::TensorEntry& tensor = component.tensors[one.tensor];
  const auto count = checked_numel({tensor.shape.data(), tensor.shape.size()}).value_or(0);
  if (one.suffix == "bias") {
    out.parameters = true;
    out.extent.bias = count;
    out.bias = &tensor;
    return;
  }
  if (one.suffix != "weight" && !one.suffix.empty()) {
    out.beside = true;
    out.parameters = out.parameters || one.suffix.find("weight") != std::string::npos;
    return;
  }
  out.parameters = true;
  out.extent.weight = count;
  out.weight = &tensor;
  out.codes = !is_whole(component, tensor.dtype);
  const bool true_rows = std::none_of(component.reshaped.begin(), component.reshaped.end(),
                                      [&](const auto& other) { return other.first == one.tensor; });
  if (tensor.shape.size() == 2 && true_rows) out.extent.columns = tensor.shape[1];
}

std::vector<Holding> holdings_of(const BuiltComponent& built) {
  std::vector<Holding> out;
  for (const Layer& layer : built.layers) {
    if (layer.role == "marker") continue;
    const size_t first = out.size();
    for (const Part& part : layer.parts) {
      out.emplace_back();
      out.back().modules = {part.path};
      out.back().named = part.name == part.path && !built.component.gguf;
    }
    if (layer.parts.size() == 1 && layer.holds.size() > 1) {
      out.back().modules = layer.holds;
      out.back().named = false;
    }
    for (const LayerTensor& one : layer.tensors) {
      put_tensor(built.component, one, out[first + one.part]);
    }
    for (size_t i = first; i < out.size(); ++i) {
      const bool packed = out[i].weight == nullptr && out[i].beside && !built.component.gguf;
      out[i].codes = out[i].codes || packed;
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

std::string say(const formats::TensorEntry& tensor) {
  std::vector<std::string> extents;
  for (const uint64_t one : tensor.shape) extents.push_back(std::to_string(one));
  return "[" + join(extents, ", ") + "] for " + quoted(tensor.name);
}

/// One tensor of a module against the base's, by shape; either may be null.
Status check_tensor(const BuiltComponent& file, const BuiltComponent& base,
                    const formats::TensorEntry* own, const formats::TensorEntry* wanted) {
  if (own == nullptr && wanted == nullptr) return {};
  if (own == nullptr) return misfit(file, base, "no tensor", say(*wanted));
  const std::string path = file.files.empty() ? "" : file.files[own->file].path;
  const auto in_file = [&](Error error) {
    if (!path.empty()) error.where = escaped(path);
    return error;
  };
  if (wanted == nullptr) {
    return in_file(misfit(file, base, say(*own) + " beyond", "only the tensors"));
  }
  if (own->shape == wanted->shape) return {};
  return in_file(misfit(file, base, say(*own), say(*wanted)));
}

/// The base's modules that one tensor of the file holds: one, or several that count together.
using Wanted = std::map<std::string, Holding>;

Status check_holding(const BuiltComponent& file, const BuiltComponent& base, const Holding& own,
                     const Wanted& wanted) {
  Extent sum;
  bool codes = own.codes, beside = own.beside;
  for (const std::string& module : own.modules) {
    const Holding& one = wanted.at(module);
    codes = codes || one.codes;
    beside = beside || one.beside;
    sum.weight += one.extent.weight;
    sum.bias += one.extent.bias;
    if (one.extent.columns != 0) sum.columns = one.extent.columns;
  }
  const Holding& first = wanted.at(own.modules.front());
  if (own.named && first.named) {
    if (!codes) LS_CHECK(check_tensor(file, base, own.weight, first.weight));
    // Methods add biases of their own beside scales.
    if (!beside) LS_CHECK(check_tensor(file, base, own.bias, first.bias));
    return {};
  }
  if (codes || (beside && !file.component.gguf)) return {};
  Extent extent = own.extent;
  if (extent.columns == 0 || sum.columns == 0) extent.columns = sum.columns = 0;
  if (extent == sum) return {};
  return misfit(file, base, say(extent) + " for " + quoted(own.modules.front()), say(sum));
}

Wanted wanted_of(const BuiltComponent& base) {
  Wanted out;
  for (const Holding& one : holdings_of(base)) {
    // A base in original names: what it holds together counts for the first.
    for (const std::string& module : one.modules) out[module] = {};
    out[one.modules.front()] = one;
  }
  return out;
}

/// What a format keeps of its own beside the weights: scales, and in a model that declares it any
/// tensor that isn't called a weight or bias.
bool is_of_format(const BuiltComponent& file, const Holding& one) {
  if (file.component.gguf) return false;
  if (!one.parameters) return true;
  const bool lone = one.weight != nullptr && one.bias == nullptr && !one.beside;
  return lone && !one.weight->name.ends_with("weight") && !file.component.declarations.empty();
}

/// How a module is missed: by the tensor of its weight where shapes can be compared.
std::string expected_of(const std::vector<std::string>& missing, const Wanted& wanted) {
  const Holding& first = wanted.at(missing.front());
  if (!first.named || first.weight == nullptr) return "all modules";
  return say(*first.weight) + (missing.size() == 1 ? "" : " and all other modules");
}

}  // namespace

Status check_fit(const BuiltComponent& file, const BuiltComponent& base) {
  const Wanted wanted = wanted_of(base);
  std::vector<std::string> extra, missing, known;
  std::set<std::string> seen;
  for (const Holding& one : holdings_of(file)) {
    bool foreign = false;
    for (const std::string& module : one.modules) {
      if (wanted.contains(module)) {
        seen.insert(module);
        continue;
      }
      foreign = true;
      if (!is_of_format(file, one)) extra.push_back(module);
    }
    if (extra.empty() && !foreign) LS_CHECK(check_holding(file, base, one, wanted));
  }
  for (const auto& [module, one] : wanted) {
    known.push_back(module);
    if (!seen.contains(module)) missing.push_back(module);
  }
  const auto with_hint = [](Error error, const std::string& near) {
    if (!near.empty()) error.hint = quoted(near);
    return error;
  };
  if (!missing.empty()) {
    return with_hint(
        misfit(file, base, "no tensors for " + list(missing), expected_of(missing, wanted)),
        nearest(missing.front(), extra));
  }
  if (extra.empty()) return {};
  return with_hint(misfit(file, base, list(extra) + " beyond", "only the modules"),
                   nearest(extra.front(), known));
}

std::string other_geometry(const Node& own, const Node& base) {
  std::vector<std::pair<const Node*, const Node*>> open = {{&own, &base}};
  while (!open.empty()) {
    const auto [mine, theirs] = open.back();
    open.pop_back();
    if (!mine->is_map() || !theirs->is_map()) continue;
    for (const auto& [key, value] : mine->entries()) {
      const Node* other = theirs->find(key);
      if (other == nullptr || key.find("quantization") != std::string::npos) continue;
      if (value.is_map()) {
        open.emplace_back(&value, other);
      } else if ((value.is_numeric() || value.is_list()) && !(value == *other)) {
        return escaped(key) + ": found " + value.to_json() + ", base has " + other->to_json();
      }
    }
  }
  return "";
}

}  // namespace loadstone::graph
