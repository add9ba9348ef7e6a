#include "fp8/config.hpp"

namespace loadstone::fp8 {
namespace {

void refuse(const char* field, const std::string& found, const std::string& expected) {
  sdk::fail(LS_INVALID_CONFIG,
            std::string(field) + " rejected: found " + found + ", expected " + expected);
}

std::string list_text(const std::vector<int64_t>& items) {
  std::string out = "[";
  for (const int64_t item : items) out += (out.size() == 1 ? "" : ", ") + std::to_string(item);
  return out + "]";
}

void read_block_size(const sdk::Values& values, Config& out) {
  const auto size = values.integers("weight_block_size");
  if (size.size() != 2 || size[0] < 1 || size[1] < 1) {
    refuse("weight_block_size", list_text(size),
           "two positive numbers (rows, columns), as [128, 128]");
  }
  if (out.weight == Granularity::tensor) {
    refuse("weight_block_size", "it beside weight_granularity: tensor",
           "weight_granularity: block");
  }
  out.weight = Granularity::block;
  out.block_rows = static_cast<uint64_t>(size[0]);
  out.block_columns = static_cast<uint64_t>(size[1]);
}

}  // namespace

Config configure(const sdk::Values& values) {
  Config out;
  const auto granularity = values.text("weight_granularity");
  out.weight = granularity == "tensor"  ? Granularity::tensor
               : granularity == "block" ? Granularity::block
                                        : Granularity::channel;
  if (values.has("weight_block_size")) read_block_size(values, out);
  const bool fixed = values.text("activation_scheme") == "static";
  const bool per_tensor = values.text("activation_granularity") == "tensor";
  out.activation = fixed ? Activation::fixed : per_tensor ? Activation::tensor : Activation::token;
  out.serialized = values.boolean("is_checkpoint_fp8_serialized");
  out.fixed_where_stored = values.boolean("static_where_stored");
  out.full_precision_matmul = values.boolean("full_precision_matmul");
  out.ignored_layers = values.texts("ignored_layers");
  if (out.ignored_layers.empty()) out.ignored_layers = values.texts("modules_to_not_convert");
  if (out.weight == Granularity::block && fixed) {
    refuse("activation_scheme", "\"static\" with weight blocks", "\"dynamic\"");
  }
  if (out.weight == Granularity::block && per_tensor) {
    refuse("activation_granularity", "\"tensor\" with weight blocks",
           "\"token\": block activations are scaled by groups of a token");
  }
  return out;
}

}  // namespace loadstone::fp8
