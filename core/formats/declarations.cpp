#include "formats/declarations.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "base/text.hpp"

namespace loadstone::formats {
namespace {

constexpr std::string_view kConfigKey = "quantization_config";
constexpr std::string_view kComfyMarker = ".comfy_quant";
constexpr std::string_view kScaledFp8 = "scaled_fp8";
constexpr uint64_t kMaxMarkerNbytes = 4096;

// Recursion ends with the tree's own depth, which parse_json bounds.
Status collect(const Node& config, const std::string& scope, const std::string& path,
               std::vector<Declaration>& out) {
  if (!config.is_map()) return {};
  for (const auto& [key, value] : config.entries()) {
    if (key != kConfigKey) {
      LS_CHECK(collect(value, scope.empty() ? key : scope + "." + key, path, out));
      continue;
    }
    LS_TRY(Node declared, declared_map(value, path));
    if (!declared.is_null()) {
      out.push_back({std::string(kConfigKey), path, scope, std::move(declared)});
    }
  }
  return {};
}

bool is_description(const std::string& name) {
  return name.starts_with("quant_model_description") && name.ends_with(".json");
}

// The origin under which a side file is claimed, or "" for another file.
std::string side_file_origin(const std::string& name) {
  if (is_description(name)) return "quant_model_description.json";
  for (const char* known :
       {"hf_quant_config.json", "quantize_config.json", "quantization_config.json"}) {
    if (name == known) return name;
  }
  return {};
}

// First key on which two maps differ, for a note.
std::string first_difference(const Node& a, const Node& b) {
  for (const auto& [key, value] : a.entries()) {
    const Node* other = b.find(key);
    if (other == nullptr || !(*other == value)) return key;
  }
  for (const auto& [key, value] : b.entries()) {
    if (a.find(key) == nullptr) return key;
  }
  return {};
}

// True when order of keys is all that differs.
bool same_map(const Node& a, const Node& b) {
  return a.entries().size() == b.entries().size() && first_difference(a, b).empty();
}

bool mentions_quantization(std::string_view key) {
  std::string lower(key);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower.find("quant") != std::string::npos;
}

void add_metadata(const std::string& path, Component& component) {
  if (!component.metadata.is_map()) return;
  for (const auto& [key, value] : component.metadata.entries()) {
    if (!mentions_quantization(key)) continue;
    Node declared = value;
    auto parsed = parse_json(value.text(), path);
    if (parsed.ok()) declared = std::move(parsed).value();
    component.declarations.push_back({"metadata:" + key, path, "", std::move(declared)});
  }
}

Result<std::string> tensor_text(const std::vector<FileEntry>& files, const TensorEntry& tensor) {
  if (tensor.nbytes > kMaxMarkerNbytes) {
    return Error{
        Code::invalid_checkpoint, "marker tensor rejected",
        escaped(files[tensor.file].path, PATH_MAX) + ": " + escaped(tensor.name),
        fmt::format("found {} bytes, expected at most {}", tensor.nbytes, kMaxMarkerNbytes)};
  }
  std::string text(tensor.nbytes, '\0');
  LS_CHECK(
      files[tensor.file].file->read_exact(std::as_writable_bytes(std::span(text)), tensor.offset));
  return text;
}

// "a.b.comfy_quant" -> {"a.b": {"format": …}}
Result<Node> comfy_markers(const std::vector<FileEntry>& files, const Component& component) {
  Node layers = Node::of_map({});
  for (const TensorEntry& tensor : component.tensors) {
    if (!tensor.name.ends_with(kComfyMarker)) continue;
    LS_TRY(const std::string text, tensor_text(files, tensor));
    auto parsed = parse_json(text, files[tensor.file].path);
    if (!parsed.ok()) {
      Error error = std::move(parsed).error().at(escaped(tensor.name));
      error.code = Code::invalid_checkpoint;
      return error;
    }
    layers.entries().emplace_back(tensor.name.substr(0, tensor.name.size() - kComfyMarker.size()),
                                  std::move(parsed).value());
  }
  return layers;
}

// "model.diffusion_model.scaled_fp8" -> {"model.diffusion_model.": {"dtype": …, "shape": […]}}
Node scaled_fp8_markers(const Component& component) {
  Node prefixes = Node::of_map({});
  for (const TensorEntry& tensor : component.tensors) {
    if (!tensor.name.ends_with(kScaledFp8)) continue;
    const std::string prefix = tensor.name.substr(0, tensor.name.size() - kScaledFp8.size());
    if (!prefix.empty() && !prefix.ends_with('.')) continue;
    std::vector<Node> shape;
    for (const uint64_t dim : tensor.shape) {
      shape.push_back(Node::of_integer(static_cast<int64_t>(dim)));
    }
    prefixes.entries().emplace_back(
        prefix, Node::of_map({{"dtype", Node::of_text(std::string(name_of(tensor.dtype)))},
                              {"shape", Node::of_list(std::move(shape))}}));
  }
  return prefixes;
}

}  // namespace

Result<Node> declared_map(const Node& value, const std::string& path) {
  if (value.is_null() || (value.is_map() && value.entries().empty())) return Node();
  if (value.is_map()) return value;
  if (value.is_text()) {
    Node map = Node::of_map({{"quant_method", value}});
    map.set_mark(value.mark());
    return map;
  }
  const std::string place = value.mark().text();
  return Error{Code::invalid_checkpoint, "quantization_config rejected",
               place.empty() ? path : place,
               fmt::format("found {}, expected a map or a method's name", value.describe())};
}

Result<std::vector<Declaration>> declarations_of_config(const Node& config,
                                                        const std::string& path) {
  std::vector<Declaration> out;
  LS_CHECK(collect(config, "", path, out));
  return out;
}

Status add_side_files(const ModelFiles& files, const std::string& folder,
                      const std::vector<std::string>& names, Component& component,
                      std::vector<std::string>& notes) {
  std::vector<std::string> descriptions;
  for (const std::string& name : names) {
    const std::string origin = side_file_origin(name);
    if (origin.empty()) continue;
    if (is_description(name)) descriptions.push_back(name);
    const std::string path = join_path(folder, name);
    LS_TRY(Node value, files.read_json(path, kMaxDescriptionNbytes));
    if (!value.is_map()) {
      return Error{Code::invalid_checkpoint, "quantization declaration rejected",
                   escaped(path, PATH_MAX),
                   fmt::format("found {}, expected a map", value.describe())};
    }
    const auto& declared = component.declarations;
    const auto top = std::find_if(declared.begin(), declared.end(), [](const Declaration& d) {
      return d.origin == kConfigKey && d.scope.empty();
    });
    // Only these two repeat config.json's own schema.
    const bool repeats = origin == "quantize_config.json" || origin == "quantization_config.json";
    if (repeats && top != declared.end()) {
      if (same_map(top->value, value)) continue;
      notes.push_back(fmt::format("{} contradicts {} (key {})", escaped(path, PATH_MAX),
                                  escaped(top->path, PATH_MAX),
                                  loadstone::quoted(first_difference(top->value, value))));
    }
    component.declarations.push_back({origin, path, "", std::move(value)});
  }
  if (descriptions.size() < 2) return {};
  return Error{Code::invalid_checkpoint, "quantization description is ambiguous",
               escaped(folder, PATH_MAX),
               fmt::format("found {}, expected one", join(descriptions, " and "))};
}

Status add_embedded_declarations(const std::vector<FileEntry>& files, Component& component) {
  if (component.tensors.empty()) return {};
  const std::string& path = files[component.tensors.front().file].path;
  add_metadata(path, component);
  LS_TRY(Node comfy, comfy_markers(files, component));
  if (!comfy.entries().empty()) {
    component.declarations.push_back({"marker:comfy_quant", path, "", std::move(comfy)});
  }
  Node scaled = scaled_fp8_markers(component);
  if (!scaled.entries().empty()) {
    component.declarations.push_back({"marker:scaled_fp8", path, "", std::move(scaled)});
  }
  return {};
}

}  // namespace loadstone::formats
