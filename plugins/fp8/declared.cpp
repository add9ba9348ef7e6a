#include "fp8/declared.hpp"

#include <algorithm>

namespace loadstone::fp8 {
namespace {

using sdk::Declaration;
using sdk::Node;

// Keys that say nothing to a loader: who wrote the file, and how it was rounded.
constexpr std::string_view kWithoutEffect[] = {
    "quant_method", "provider", "version", "scale_fmt", "modules_to_save", "quantization_status"};

void refuse(std::string_view key, const Node& found, const char* expected) {
  sdk::fail(LS_INVALID_CHECKPOINT, "declaration rejected: " + std::string(key) + ": found " +
                                       std::string(found.text()) + ", expected " + expected);
}

std::string text_of(std::string_view key, const Node& value) {
  if (value.kind() != LS_FIELD_TEXT) refuse(key, value, "a text");
  return std::string(value.text());
}

void keep_layers(std::string_view key, const Node& list, Declaration& out) {
  if (!list.is_list()) refuse(key, list, "a list of layer names");
  for (uint64_t i = 0; i < list.size(); ++i) {
    const std::string name(list.at(i).text());
    const bool regex = name.rfind("re:", 0) == 0;
    const bool glob = name.find_first_of("*?") != std::string::npos;
    out.keep(name.c_str() + (regex ? 3 : 0), regex  ? LS_STYLE_REGEX
                                             : glob ? LS_STYLE_GLOB
                                                    : LS_STYLE_SEGMENTS);
  }
}

void read_native(const Node& node, Declaration& out) {
  out.boolean("is_checkpoint_fp8_serialized", true);
  const Node ignored = node.get("ignored_layers");
  const bool has_ignored = ignored.is_list() && ignored.size() != 0;
  for (uint64_t i = 0; i < node.size(); ++i) {
    const auto [key, value] = node.entry(i);
    if (value.kind() == 0) continue;
    if (key == "activation_scheme" || key == "activation_granularity" || key == "fmt") {
      out.text(std::string(key).c_str(), text_of(key, value));
    } else if (key == "is_checkpoint_fp8_serialized") {
      if (value.kind() != LS_FIELD_BOOL) refuse(key, value, "true or false");
    } else if (key == "weight_block_size") {
      if (!value.is_list()) refuse(key, value, "a list of two numbers");
      std::vector<int64_t> size;
      for (uint64_t n = 0; n < value.size(); ++n) {
        size.push_back(sdk::detail::parse_integer(std::string(value.at(n).text()), key));
      }
      out.integers("weight_block_size", size);
    } else if (key == "ignored_layers") {
      keep_layers(key, value, out);
    } else if (key == "modules_to_not_convert") {
      if (!has_ignored) keep_layers(key, value, out);
    } else if (std::find(std::begin(kWithoutEffect), std::end(kWithoutEffect), key) ==
               std::end(kWithoutEffect)) {
      sdk::fail(LS_INVALID_CHECKPOINT,
                "declaration rejected: found unknown key \"" + std::string(key) +
                    "\", expected activation_scheme, fmt, weight_block_size, ignored_layers, "
                    "modules_to_not_convert or is_checkpoint_fp8_serialized");
    }
  }
}

/// {prefix: {dtype, shape}}: two elements ask for a full-precision product.
void read_scaled_fp8(const Node& node, Declaration& out) {
  for (uint64_t i = 0; i < node.size(); ++i) {
    const auto [prefix, marker] = node.entry(i);
    const Node shape = marker.get("shape");
    const bool full = shape.is_list() && shape.size() == 1 && shape.at(0).text() == "2";
    if (!full) continue;
    const std::string pattern(prefix);
    out.boolean("full_precision_matmul", true, pattern.empty() ? nullptr : pattern.c_str(),
                LS_STYLE_PREFIX);
  }
}

/// {layer: {"format": "float8_e4m3fn", …}}: only these layers are quantized.
void read_layers(const Node& layers, Declaration& out) {
  for (uint64_t i = 0; i < layers.size(); ++i) {
    const auto [key, says] = layers.entry(i);
    const std::string layer(key);
    const std::string format(says.get("format").text());
    if (format != "float8_e4m3fn" && format != "float8_e5m2") {
      sdk::fail(LS_UNSUPPORTED, "declaration rejected: " + layer + ": found format \"" + format +
                                    "\", expected float8_e4m3fn or float8_e5m2");
    }
    out.quantize(layer.c_str(), LS_STYLE_EXACT);
    if (says.get("full_precision_matrix_mult").text() == "true") {
      out.boolean("full_precision_matmul", true, layer.c_str(), LS_STYLE_EXACT);
    }
  }
}

}  // namespace

void read_declaration(const Node& node, uint64_t claim, Declaration& out) {
  if (claim == kNative) return read_native(node, out);
  out.boolean("is_checkpoint_fp8_serialized", true);
  out.boolean("static_where_stored", true);
  if (claim == kScaledFp8) return read_scaled_fp8(node, out);
  read_layers(claim == kComfyMetadata ? node.get("layers") : node, out);
}

}  // namespace loadstone::fp8
