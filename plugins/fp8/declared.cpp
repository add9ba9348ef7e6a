#include "fp8/declared.hpp"

#include "common/layer/declared.hpp"

namespace loadstone::fp8 {
namespace {

using sdk::Declaration;
using sdk::Node;

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

/// AutoRound's dictionary: scales of activations as it names them, none for weights only.
void read_autoround(const Node& node, std::span<const ls_field> fields, Declaration& out) {
  out.boolean("is_checkpoint_fp8_serialized", true);
  for (const ls_field& field : fields) {
    const bool known = field.name == std::string_view("activation_scheme") ||
                       field.name == std::string_view("weight_block_size");
    const Node value = known ? node.get(field.name) : Node(nullptr);
    if (value.kind() != 0) sdk::detail::declare(out, field, value);
  }
  const std::string bits(node.get("act_bits").text());
  if (bits.empty() || bits == "16") out.boolean("full_precision_matmul", true);
  common::read_autoround_scopes(node, out);
}

}  // namespace

void read_declaration(const Node& node, uint64_t claim, std::span<const ls_field> fields,
                      Declaration& out) {
  if (claim == kNative) {
    return common::read_declared(node, fields, "is_checkpoint_fp8_serialized", out);
  }
  if (claim == kAutoRound) return read_autoround(node, fields, out);
  out.boolean("is_checkpoint_fp8_serialized", true);
  out.boolean("static_where_stored", true);
  if (claim == kScaledFp8) return read_scaled_fp8(node, out);
  read_layers(claim == kComfyMetadata ? node.get("layers") : node, out);
}

}  // namespace loadstone::fp8
