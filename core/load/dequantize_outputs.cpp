#include "load/dequantize_outputs.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "base/text.hpp"
#include "load/cast.hpp"

namespace loadstone::load {

namespace {

using formats::TensorEntry;

// What quantization adds beside a weight (reference: tool-formats). Written out only as part of
// the weight; dropped where a kept module carries one.
constexpr std::array<std::string_view, 34> kLeavesOfQuantization = {"weight_scale",
                                                                    "weight_scale_inv",
                                                                    "weight_scale_2",
                                                                    "weight_dual_scale",
                                                                    "weight_offset",
                                                                    "weight_zero_point",
                                                                    "weight_global_scale",
                                                                    "weight_shape",
                                                                    "weight_g_idx",
                                                                    "input_scale",
                                                                    "input_offset",
                                                                    "input_zero_point",
                                                                    "input_global_scale",
                                                                    "scale_weight",
                                                                    "scale_input",
                                                                    "scales",
                                                                    "qzeros",
                                                                    "g_idx",
                                                                    "k_scale",
                                                                    "v_scale",
                                                                    "q_scale",
                                                                    "prob_scale",
                                                                    "output_scale",
                                                                    "deq_scale",
                                                                    "quant_bias",
                                                                    "scale_bias",
                                                                    "k_offset",
                                                                    "v_offset",
                                                                    "kv_cache_scale",
                                                                    "kv_cache_offset",
                                                                    "fa_k_scale",
                                                                    "fa_v_scale",
                                                                    "fa_q_scale",
                                                                    "zero_points"};
constexpr std::array<std::string_view, 2> kMarkers = {"comfy_quant", "scaled_fp8"};
// Vectors that the format multiplies into the layer's input.
constexpr std::array<std::string_view, 2> kInputFactors = {"mul_scale", "pre_quant_scale"};
// Prefixes that single files of some tools put before every name.
constexpr std::array<std::string_view, 2> kPrefixes = {"model.diffusion_model.",
                                                       "diffusion_model."};

template <size_t N>
bool contains(const std::array<std::string_view, N>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::string_view leaf_of(std::string_view name) { return name.substr(name.rfind('.') + 1); }

bool is_integer(DType dtype) {
  auto number = static_cast<uint32_t>(dtype);
  return number >= static_cast<uint32_t>(DType::BOOL) &&
         number <= static_cast<uint32_t>(DType::U64);
}

}  // namespace

bool is_input_factor(std::string_view suffix) { return contains(kInputFactors, leaf_of(suffix)); }

namespace {

class Listing {
 public:
  Listing(const plan::Plan& plan, bool fold) : plan_(plan), fold_(fold) {
    for (const formats::Component& component : plan.checkpoint->components) {
      for (const auto& [index, shape] : component.reshaped) {
        reshaped_[&component.tensors[index]].assign(shape.begin(), shape.end());
      }
    }
  }

  Result<std::vector<OutputListing>> run() {
    for (uint32_t i = 0; i < plan_.layers.size(); ++i) LS_CHECK(add_layer(i));
    LS_CHECK(add_unclaimed());
    return std::move(files_);
  }

 private:
  const formats::Component& component_of(const graph::Layer& layer) const {
    return plan_.checkpoint
        ->components[plan_.graph.components[layer.component].checkpoint_component];
  }

  /// The stem of the file that a component goes to.
  std::string file_of(uint32_t component) const {
    const graph::GraphComponent& mine = plan_.graph.components[component];
    return file_of(mine.checkpoint_component, mine.name);
  }

  std::string file_of(uint32_t checkpoint_component, const std::string& name) const {
    const formats::Component& files = plan_.checkpoint->components[checkpoint_component];
    switch (plan_.checkpoint->layout) {
      case formats::Layout::diffusers:
        return files.name;
      case formats::Layout::cascade:
        return files.folder.empty() ? files.name : files.folder;
      default:
        break;
    }
    return plan_.graph.components.size() > 1 ? name : "model";
  }

  /// The component that a file's tensors outside every layer go with.
  std::string owner_of(uint32_t checkpoint_component) const {
    for (const graph::GraphComponent& mine : plan_.graph.components) {
      if (mine.checkpoint_component == checkpoint_component) return mine.name;
    }
    const std::string& name = plan_.checkpoint->components[checkpoint_component].name;
    return name.empty() ? "model" : name;
  }

  OutputListing& listing(const std::string& stem) {
    std::string file = stem + ".safetensors";
    auto [place, fresh] = index_.emplace(file, files_.size());
    if (fresh) files_.push_back({file, {}});
    return files_[place->second];
  }

  std::string public_name(std::string_view stored) const {
    if (plan_.checkpoint->layout == formats::Layout::single_file) {
      for (std::string_view prefix : kPrefixes) {
        if (stored.starts_with(prefix)) return std::string(stored.substr(prefix.size()));
      }
    }
    return std::string(stored);
  }

  /// Public name of the module that a tensor belongs to.
  std::string module_of(const TensorEntry& entry, const std::string& suffix) const {
    std::string name = public_name(entry.name);
    if (suffix.empty() || name.size() <= suffix.size() + 1) return name;
    return name.substr(0, name.size() - suffix.size() - 1);
  }

  Status add_layer(uint32_t index) {
    const plan::LayerPlan& layer = plan_.layers[index];
    if (layer.decision == plan::Decision::split) return {};
    const graph::Layer& shape = plan_.layer_of(layer);
    OutputListing& out = listing(file_of(shape.component));
    for (uint32_t part = 0; part < shape.parts.size(); ++part) {
      if (layer.decision == plan::Decision::keep) {
        LS_CHECK(add_kept_part(out, index, part));
      } else {
        LS_CHECK(add_produced_part(out, index, part));
      }
    }
    return {};
  }

  /// A quantized module: its weight, its bias, its input factors.
  Status add_produced_part(OutputListing& out, uint32_t index, uint32_t part) {
    const plan::LayerPlan& layer = plan_.layers[index];
    const graph::Layer& shape = plan_.layer_of(layer);
    const auto& entries = component_of(shape).tensors;
    bool announced = false;
    std::vector<OutputTensor> beside;
    for (const graph::LayerTensor& tensor : shape.tensors) {
      if (tensor.part != part) continue;
      const TensorEntry& entry = entries[tensor.tensor];
      std::string module = module_of(entry, tensor.suffix);
      if (!announced) {
        announced = true;
        OutputTensor weight;
        weight.produced = true;
        weight.layer = index;
        weight.part = part;
        weight.spec.name = module_itself(shape, part) ? module : module + ".weight";
        weight.spec.dtype = DType::F32;
        take_produced_shape(layer, part, weight.spec.shape);
        LS_CHECK(push(out, std::move(weight)));
      }
      std::string_view leaf = leaf_of(tensor.suffix);
      if (leaf == "bias") LS_CHECK(add_entry(out, module + ".bias", entry, nullptr));
      bool factors = is_input_factor(leaf) && layer.decision == plan::Decision::quantize;
      if (factors && !fold_) LS_CHECK(add_entry(out, module + ".input_mul", entry, nullptr));
    }
    return {};
  }

  static bool module_itself(const graph::Layer& layer, uint32_t part) {
    return std::any_of(layer.tensors.begin(), layer.tensors.end(),
                       [&](const graph::LayerTensor& tensor) {
                         return tensor.part == part && tensor.suffix.empty();
                       });
  }

  /// What the tensor is shaped like, whatever the container made of it.
  const formats::Shape& true_shape(const TensorEntry& entry) const {
    const auto reshaped = reshaped_.find(&entry);
    return reshaped == reshaped_.end() ? entry.shape : reshaped->second;
  }

  /// The unquantized weight's shape: that of a stored tensor with as many values (block formats,
  /// plain codes), else the matrix.
  void take_produced_shape(const plan::LayerPlan& layer, uint32_t part,
                           formats::Shape& matrix) const {
    const graph::Layer& shape = plan_.layer_of(layer);
    bool stacked = shape.groups > 1 && shape.parts.size() == 1;
    // `matrix` stays empty for a module that is none.
    if (stacked && layer.in != 0) matrix.push_back(shape.groups);
    if (layer.in != 0) matrix.push_back(shape.parts[part].out_count);
    if (layer.in != 0) matrix.push_back(layer.in);
    uint64_t elems = 1;
    for (uint64_t dim : matrix) elems *= dim;
    const auto& entries = component_of(shape).tensors;
    for (const graph::LayerTensor& tensor : shape.tensors) {
      if (tensor.part != part || (tensor.suffix != "weight" && !tensor.suffix.empty())) continue;
      const formats::Shape& stored = true_shape(entries[tensor.tensor]);
      uint64_t count = 1;
      for (uint64_t dim : stored) count *= dim;
      if (!matrix.empty() && count != elems) continue;
      matrix = stored;
      return;
    }
  }

  /// A kept module: each of its tensors.
  Status add_kept_part(OutputListing& out, uint32_t index, uint32_t part) {
    const graph::Layer& shape = plan_.layer_of(plan_.layers[index]);
    const formats::Component& component = component_of(shape);
    const TensorEntry* factors = nullptr;
    for (const graph::LayerTensor& tensor : shape.tensors) {
      if (tensor.part == part && is_input_factor(tensor.suffix)) {
        factors = &component.tensors[tensor.tensor];
      }
    }
    for (const graph::LayerTensor& tensor : shape.tensors) {
      if (tensor.part != part) continue;
      const TensorEntry& entry = component.tensors[tensor.tensor];
      std::string_view leaf = leaf_of(tensor.suffix.empty() ? entry.name : tensor.suffix);
      if (dropped(component, leaf)) continue;
      std::string module = module_of(entry, tensor.suffix);
      std::string name = public_name(entry.name);
      // Wrapped names: "X.linear.weight" of module X.
      if (tensor.suffix == "linear.weight" || tensor.suffix == "linear.bias") {
        name = module + "." + std::string(leaf);
      }
      bool is_factors = &entry == factors;
      if (is_factors && fold_) continue;
      if (is_factors) name = module + ".input_mul";
      LS_CHECK(
          add_entry(out, std::move(name), entry, fold_ && leaf == "weight" ? factors : nullptr));
    }
    return {};
  }

  static bool dropped(const formats::Component& component, std::string_view leaf) {
    if (contains(kMarkers, leaf)) return true;
    return !component.declarations.empty() && contains(kLeavesOfQuantization, leaf);
  }

  /// Tensors outside every layer are written all the same.
  Status add_unclaimed() {
    const auto& components = plan_.checkpoint->components;
    std::vector<std::vector<bool>> claimed;
    for (const formats::Component& component : components) {
      claimed.emplace_back(component.tensors.size(), false);
    }
    for (const graph::Layer& layer : plan_.graph.layers) {
      auto& list = claimed[plan_.graph.components[layer.component].checkpoint_component];
      for (const graph::LayerTensor& tensor : layer.tensors) list[tensor.tensor] = true;
    }
    for (uint32_t c = 0; c < components.size(); ++c) {
      for (uint32_t t = 0; t < components[c].tensors.size(); ++t) {
        const TensorEntry& entry = components[c].tensors[t];
        if (claimed[c][t] || dropped(components[c], leaf_of(entry.name))) continue;
        LS_CHECK(
            add_entry(listing(file_of(c, owner_of(c))), public_name(entry.name), entry, nullptr));
      }
    }
    return {};
  }

  Status add_entry(OutputListing& out, std::string name, const TensorEntry& entry,
                   const TensorEntry* factors) {
    OutputTensor tensor;
    tensor.entry = &entry;
    tensor.factors = factors;
    tensor.spec.name = std::move(name);
    tensor.spec.shape = true_shape(entry);
    if (!is_integer(entry.dtype) && !can_cast_from(entry.dtype)) {
      return Error{Code::unsupported, "tensor has no float32 form", escaped(entry.name),
                   "found " + std::string(name_of(entry.dtype)) +
                       " outside a quantized layer, expected floats or integers",
                   ""};
    }
    tensor.spec.dtype = is_integer(entry.dtype) ? entry.dtype : DType::F32;
    return push(out, std::move(tensor));
  }

  Status push(OutputListing& out, OutputTensor tensor) {
    if (names_.emplace(out.file, tensor.spec.name).second) {
      out.tensors.push_back(std::move(tensor));
      return {};
    }
    return Error{Code::internal, "two tensors would take one name", out.file,
                 "found " + quoted(tensor.spec.name) + " twice", ""};
  }

  const plan::Plan& plan_;
  bool fold_;
  std::vector<OutputListing> files_;
  std::map<std::string, size_t> index_;
  std::map<const TensorEntry*, formats::Shape> reshaped_;
  std::set<std::pair<std::string, std::string>> names_;
};

}  // namespace

Result<std::vector<OutputListing>> list_outputs(const plan::Plan& plan, bool fold) {
  return Listing(plan, fold).run();
}

}  // namespace loadstone::load
