#include "load/quantize_outputs.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "base/text.hpp"
#include "formats/model_files.hpp"
#include "graph/original_names.hpp"
#include "load/gguf_outputs.hpp"
#include "plugin/saving.hpp"

namespace loadstone::load {

namespace {

Error of_layer(const graph::Layer& layer, std::string what, std::string detail) {
  return Error{Code::unsupported, std::move(what), escaped(layer.path), std::move(detail), ""};
}

class Lister {
 public:
  Lister(const plan::Plan& plan, uint32_t component)
      : plan_(plan), source_(plan.checkpoint->components[component]) {
    out_.component = component;
    uses_.resize(source_.tensors.size(), kCopied);
  }

  Result<SavedComponent> list() {
    std::vector<uint32_t> layers;
    for (uint32_t i = 0; i < plan_.layers.size(); ++i) {
      const plan::LayerPlan& layer = plan_.layers[i];
      if (component_of(layer).checkpoint_component != out_.component) continue;
      if (layer.decision == plan::Decision::decode) {
        return of_layer(plan_.layer_of(layer), "layer can't be written",
                        "found a quantized layer that is to be decoded, expected one to quantize "
                        "(dequantize writes floats)");
      }
      if (layer.decision != plan::Decision::quantize || layer.shared_with >= 0) continue;
      if (is_new(layer)) layers.push_back(i);
    }
    if (layers.empty()) return std::move(out_);
    LS_CHECK(check_source());
    for (uint32_t layer : layers) LS_CHECK(add(layer));
    ignore_kept();
    place_copied();
    fill_files();
    if (blocks_) LS_CHECK(make_gguf(plan_, out_));
    return std::move(out_);
  }

 private:
  static constexpr int64_t kCopied = -1, kGone = -2;  // else: the layer plan written there

  const graph::GraphComponent& component_of(const plan::LayerPlan& layer) const {
    return plan_.graph.components[plan_.layer_of(layer).component];
  }

  /// Made from floats, not read as serialized.
  bool is_new(const plan::LayerPlan& layer) const {
    const graph::Layer& shape = plan_.layer_of(layer);
    return std::any_of(layer.sources.begin(), layer.sources.end(), [&](const plan::Source& one) {
      const graph::LayerTensor& tensor = shape.tensors[one.tensor];
      return tensor.suffix != "bias" && !one.resident &&
             is_plain_float(source_.tensors[tensor.tensor].dtype);
    });
  }

  Status check_source() const {
    if (!source_.declarations.empty()) {
      return Error{Code::unsupported, "component is quantized already",
                   escaped(source_.source.empty() ? source_.name : source_.source),
                   "found a declaration in " + loadstone::quoted(source_.declarations[0].path) +
                       ", expected floats",
                   ""};
    }
    for (const formats::TensorEntry& tensor : source_.tensors) {
      const std::string& path = plan_.checkpoint->files[tensor.file].path;
      if (path.ends_with(".safetensors")) continue;
      return Error{Code::unsupported, "component can't be written", escaped(path),
                   "found another container, expected a .safetensors file", ""};
    }
    return {};
  }

  Status add(uint32_t index) {
    const plan::LayerPlan& layer = plan_.layers[index];
    const graph::Layer& shape = plan_.layer_of(layer);
    LS_CHECK(check_parts(shape));
    LS_CHECK(declare(layer));
    plan::LayerView view(plan_, layer);
    LS_TRY(auto saved, plugin::ask_save(*layer.config, view.get(), layer.note));
    std::set<std::string> written;
    std::vector<SavedOutput> outputs;
    for (uint32_t i = 0; i < saved.size(); ++i) {
      SavedOutput output;
      output.spec.name = stored_module(shape, saved[i].part) + "." + saved[i].name;
      output.spec.dtype = saved[i].dtype;
      output.spec.shape = formats::Shape(saved[i].shape.begin(), saved[i].shape.end());
      output.nbytes = saved[i].nbytes;
      output.pieces = {{nullptr, index, i, 0, output.nbytes}};
      output.place = shape.parts[saved[i].part].original;
      output.suffix = saved[i].name;
      written.insert(output.spec.name);
      outputs.push_back(std::move(output));
    }
    replace(layer, written, index);
    by_layer_.emplace(index, std::move(outputs));
    ++out_.layers;
    return {};
  }

  static Status check_parts(const graph::Layer& layer) {
    for (const graph::Part& part : layer.parts) {
      if (part.file_begin == 0 && part.out_count == part.file_total) continue;
      return of_layer(layer, "layer can't be written",
                      "found rows of a larger tensor of " + loadstone::quoted(part.name) +
                          ", expected whole ones");
    }
    if (layer.groups > 1 && layer.parts.size() == 1) {
      return of_layer(layer, "layer can't be written",
                      "found experts in one tensor, expected one tensor each");
    }
    return {};
  }

  /// One method, one declaration a component.
  Status declare(const plan::LayerPlan& layer) {
    const bool blocks = is_ggml(layer.stored[0].dtype);
    Node declaration;  // a GGUF file's types are its declaration
    if (blocks && component_of(layer).gguf_architecture.empty()) {
      return graph::no_name_adapter(plan_.graph, component_of(layer), escaped(source_.source));
    }
    if (!blocks) {
      LS_TRY(declaration, plugin::ask_save_model(*layer.config));
    }
    if (out_.method.empty()) {
      blocks_ = blocks;
      out_.method = layer.method;
      out_.declaration = declaration;
      return {};
    }
    if (out_.method == layer.method && out_.declaration == declaration) return {};
    return of_layer(plan_.layer_of(layer), "component has two methods",
                    "found " + loadstone::quoted(layer.method) + " as declared by " +
                        declaration.to_json() + ", expected " + out_.declaration.to_json() +
                        " as in the layers before");
  }

  /// Linear layers that stay as they are: the declaration says so, for whoever reads the folder.
  void ignore_kept() {
    if (out_.declaration.is_null()) return;
    for (auto& [key, ignored] : out_.declaration.entries()) {
      if (key != "ignored_layers" || !ignored.is_list()) continue;
      for (const plan::LayerPlan& layer : plan_.layers) {
        const graph::Layer& shape = plan_.layer_of(layer);
        const bool linear = shape.kind == graph::LayerKind::linear;
        if (component_of(layer).checkpoint_component != out_.component || !linear) continue;
        if (layer.decision != plan::Decision::keep) continue;
        for (const graph::Part& part : shape.parts) {
          const Node name = Node::of_text(part.name);
          auto& items = ignored.items();
          if (std::find(items.begin(), items.end(), name) == items.end()) items.push_back(name);
        }
      }
    }
  }

  /// The module's name in the file: prefixes that the family doesn't count included.
  std::string stored_module(const graph::Layer& layer, uint32_t part) const {
    const std::string& name = layer.parts[part].name;
    for (const graph::LayerTensor& tensor : layer.tensors) {
      if (tensor.part != part) continue;
      const std::string& full = source_.tensors[tensor.tensor].name;
      return full.substr(0, full.size() - tensor.suffix.size() - (tensor.suffix.empty() ? 0 : 1));
    }
    return name;
  }

  /// The method's tensors are gone, but for a bias that it doesn't write itself.
  void replace(const plan::LayerPlan& layer, const std::set<std::string>& written, uint32_t index) {
    const graph::Layer& shape = plan_.layer_of(layer);
    std::vector<uint32_t> gone;
    const auto drop = [&](uint32_t tensor) {
      const graph::LayerTensor& one = shape.tensors[tensor];
      const std::string& name = source_.tensors[one.tensor].name;
      if (one.suffix == "bias" && !written.contains(name)) return;
      gone.push_back(one.tensor);
    };
    for (const plan::Source& source : layer.sources) drop(source.tensor);
    for (const plan::Identity& identity : layer.identities) {
      if (identity.stored < layer.method_stored) drop(identity.tensor);
    }
    for (uint32_t tensor : gone) uses_[tensor] = kGone;
    uses_[*std::min_element(gone.begin(), gone.end())] = index;
  }

  /// Where the tensors that stay stand under the original names.
  void place_copied() {
    places_.resize(source_.tensors.size());
    for (const graph::Layer& layer : plan_.graph.layers) {
      if (plan_.graph.components[layer.component].checkpoint_component != out_.component) continue;
      for (const graph::LayerTensor& tensor : layer.tensors) {
        places_[tensor.tensor] = {&layer.parts[tensor.part].original, tensor.suffix};
      }
    }
  }

  void fill_files() {
    for (size_t i = 0; i < source_.tensors.size(); ++i) {
      if (uses_[i] == kGone) continue;
      const formats::TensorEntry& entry = source_.tensors[i];
      std::vector<SavedOutput>& tensors = file_of(entry).tensors;
      if (uses_[i] == kCopied) {
        SavedOutput output;
        output.spec = {entry.name, entry.dtype, entry.shape};
        output.nbytes = entry.nbytes;
        output.pieces = {{&entry, 0, 0, 0, entry.nbytes}};
        if (places_[i].first != nullptr) output.place = *places_[i].first;
        output.suffix = places_[i].second;
        tensors.push_back(std::move(output));
      } else {
        auto& own = by_layer_.at(static_cast<uint32_t>(uses_[i]));
        std::move(own.begin(), own.end(), std::back_inserter(tensors));
      }
    }
  }

  SavedFile& file_of(const formats::TensorEntry& entry) {
    std::string name = formats::base_name(plan_.checkpoint->files[entry.file].path);
    for (SavedFile& file : out_.files) {
      if (file.name == name) return file;
    }
    return out_.files.emplace_back(SavedFile{std::move(name), {}});
  }

  const plan::Plan& plan_;
  const formats::Component& source_;
  SavedComponent out_;
  std::vector<int64_t> uses_;  // of each tensor of the component
  std::vector<std::pair<const graph::OriginalPlace*, std::string>> places_;  // likewise
  std::map<uint32_t, std::vector<SavedOutput>> by_layer_;
  bool blocks_ = false;  // the method's types are ggml's
};

}  // namespace

Result<std::vector<SavedComponent>> list_saved(const plan::Plan& plan) {
  std::vector<SavedComponent> out;
  for (uint32_t i = 0; i < plan.checkpoint->components.size(); ++i) {
    LS_TRY(SavedComponent component, Lister(plan, i).list());
    out.push_back(std::move(component));
  }
  return out;
}

}  // namespace loadstone::load
