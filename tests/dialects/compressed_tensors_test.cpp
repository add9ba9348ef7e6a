// Folders in compressed-tensors' words: the formats that no public tool's checkpoint has here, over
// shards, with groups of their own format and lists by pattern.
#include <gmock/gmock.h>

#include "artifact.hpp"

namespace loadstone {
namespace {

using testing::Artifact;
using testing::bf16_values;
using testing::e4m3_value;
using ::testing::HasSubstr;
using testing::Json;
using testing::Numbers;

constexpr uint64_t kRows = 10, kColumns = 96;

Json weights(const std::string& type, int bits, const std::string& strategy, uint64_t group = 0) {
  Json out = {{"num_bits", bits}, {"type", type}, {"strategy", strategy}, {"symmetric", true}};
  if (group != 0) out["group_size"] = group;
  return out;
}

Json group(const Json& targets, const Json& scheme, const Json& input = {},
           const std::string& format = "") {
  Json out = {{"targets", targets}, {"weights", scheme}, {"input_activations", input}};
  if (!format.empty()) out["format"] = format;
  return out;
}

void declare(const Artifact& artifact, const std::string& format, const Json& groups,
             const Json& ignore = {"lm_head"}) {
  artifact.json("config.json", {{"architectures", {"SomeForCausalLM"}},
                                {"quantization_config",
                                 {{"quant_method", "compressed-tensors"},
                                  {"format", format},
                                  {"quantization_status", "compressed"},
                                  {"config_groups", groups},
                                  {"ignore", ignore},
                                  {"kv_cache_scheme", nullptr},
                                  {"sparsity_config", Json::object()},
                                  {"transform_config", Json::object()},
                                  {"version", "0.20.0"}}}});
}

/// Codes and scales of one layer: `scale_at(row, column)` of the file's scales.
struct Layer {
  std::vector<int> codes;
  std::vector<float> scales;
  uint64_t columns = 1;  // of scales

  size_t at(uint64_t row, uint64_t column) const {
    const uint64_t wide = (kColumns + columns - 1) / columns;
    return scales.size() == 1 ? 0 : row * columns + column / wide;
  }
};

Layer layer_of(Numbers& numbers, int low, int high, uint64_t scale_rows, uint64_t scale_columns) {
  Layer out;
  for (const int8_t code : numbers.codes(kRows * kColumns, low, high)) out.codes.push_back(code);
  out.scales = bf16_values(numbers.scales(scale_rows * scale_columns));
  out.columns = scale_columns;
  return out;
}

/// Codes a byte, with zero points or without.
void add_integers(Artifact& to, const std::string& module, const Layer& layer, bool zeros) {
  std::vector<int8_t> codes(layer.codes.begin(), layer.codes.end()), points;
  std::vector<float> weight;
  for (size_t i = 0; i < layer.scales.size(); ++i)
    points.push_back(static_cast<int8_t>(i * 7 - 30));
  for (size_t i = 0; i < codes.size(); ++i) {
    const size_t at = layer.at(i / kColumns, i % kColumns);
    const int level = layer.codes[i] - (zeros ? points[at] : 0);
    weight.push_back(static_cast<float>(level) * layer.scales[at]);
  }
  const testing::Dims shape =
      layer.scales.size() == 1 ? testing::Dims{1}
                               : testing::Dims{layer.scales.size() / layer.columns, layer.columns};
  to.tensor(module + ".weight", "I8", {kRows, kColumns}, codes);
  to.tensor(module + ".weight_scale", "BF16", shape, testing::bf16(layer.scales));
  if (zeros) to.tensor(module + ".weight_zero_point", "I8", shape, points);
  to.expect(module + ".weight", weight);
}

/// A little-endian stream of `bits` bits along each line of `count` values.
std::vector<uint32_t> packed(const std::vector<uint32_t>& values, uint64_t count, uint32_t bits) {
  const uint64_t words = (count * bits + 31) / 32, lines = values.size() / count;
  std::vector<uint32_t> out(lines * words, 0);
  for (uint64_t line = 0; line < lines; ++line) {
    for (uint64_t bit = 0; bit < count * bits; ++bit) {
      const uint32_t value = values[line * count + bit / bits] >> bit % bits & 1u;
      out[line * words + bit / 32] |= value << bit % 32;
    }
  }
  return out;
}

/// Packed words with zero points and, when `ordered`, columns of scattered groups.
void add_packed(Artifact& to, const std::string& module, const Layer& layer, uint32_t bits,
                bool zeros, bool ordered) {
  const uint32_t half = 1u << (bits - 1);
  std::vector<uint32_t> codes, points(layer.scales.size());
  std::vector<int32_t> order(kColumns);
  for (const int code : layer.codes) codes.push_back(static_cast<uint32_t>(code) + half);
  for (size_t i = 0; i < points.size(); ++i) {
    points[i] = zeros ? static_cast<uint32_t>(i * 5) % (2 * half) : half;
  }
  for (uint64_t k = 0; k < kColumns; ++k) {
    const uint64_t wide = kColumns / layer.columns;
    order[k] = static_cast<int32_t>(ordered ? (k * 5 + 2) % layer.columns : k / wide);
  }
  std::vector<float> weight;
  for (size_t i = 0; i < codes.size(); ++i) {
    const size_t at = i / kColumns * layer.columns + static_cast<size_t>(order[i % kColumns]);
    const int level = static_cast<int>(codes[i]) - static_cast<int>(points[at]);
    weight.push_back(static_cast<float>(level) * layer.scales[at]);
  }
  const uint64_t words = (kColumns * bits + 31) / 32;
  to.tensor(module + ".weight_packed", "I32", {kRows, words}, packed(codes, kColumns, bits));
  to.tensor(module + ".weight_shape", "I64", {2}, std::vector<int64_t>{kRows, kColumns});
  to.tensor(module + ".weight_scale", "BF16", {kRows, layer.columns}, testing::bf16(layer.scales));
  if (zeros) {  // a stream along the rows of each column
    std::vector<uint32_t> turned;
    for (uint64_t c = 0; c < layer.columns; ++c) {
      for (uint64_t n = 0; n < kRows; ++n) turned.push_back(points[n * layer.columns + c]);
    }
    const auto streams = packed(turned, kRows, bits);
    const uint64_t rows = streams.size() / layer.columns;
    std::vector<uint32_t> stored(streams.size());
    for (size_t i = 0; i < streams.size(); ++i) {
      stored[i % rows * layer.columns + i / rows] = streams[i];
    }
    to.tensor(module + ".weight_zero_point", "I32", {rows, layer.columns}, stored);
  }
  if (ordered) to.tensor(module + ".weight_g_idx", "I32", {kColumns}, order);
  to.expect(module + ".weight", weight);
}

void add_fp8(Artifact& to, const std::string& module, Numbers& numbers, bool blocks) {
  const auto codes = numbers.e4m3(kRows * kColumns);
  const uint64_t rows = blocks ? 3 : kRows, columns = blocks ? 3 : 1;  // blocks of 4 by 32
  const auto scales = bf16_values(numbers.scales(rows * columns));
  std::vector<float> weight;
  for (size_t i = 0; i < codes.size(); ++i) {
    const uint64_t n = i / kColumns, k = i % kColumns;
    weight.push_back(e4m3_value(codes[i]) * scales[blocks ? n / 4 * columns + k / 32 : n]);
  }
  to.tensor(module + ".weight", "F8_E4M3", {kRows, kColumns}, codes);
  to.tensor(module + ".weight_scale", "BF16", {rows, columns}, testing::bf16(scales));
  to.expect(module + ".weight", weight);
}

std::vector<std::string> modules() {
  std::vector<std::string> out;
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    for (const std::string one : {"self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj"}) {
      out.push_back(layer + one);
    }
  }
  return out;
}

TEST(CompressedTensorsArtifacts, IntegersABytePerTensorRowAndGroup) {
  const Json token = {{"num_bits", 8}, {"type", "int"}, {"strategy", "token"}, {"dynamic", true}};
  struct Case {
    const char* strategy;
    uint64_t group, rows, columns;
  };
  for (const Case& one :
       {Case{"tensor", 0, 1, 1}, Case{"channel", 0, kRows, 1}, Case{"group", 32, kRows, 3}}) {
    for (const std::string format : {"int-quantized", "naive-quantized"}) {
      for (const bool zeros : {false, true}) {
        SCOPED_TRACE(format + " " + one.strategy + (zeros ? " with zero points" : ""));
        Artifact artifact;
        artifact.into("model.safetensors", 3);
        Numbers numbers(1);
        for (const std::string& module : modules()) {
          add_integers(artifact, module, layer_of(numbers, -128, 127, one.rows, one.columns),
                       zeros);
        }
        artifact.kept("lm_head.weight", {16, kColumns}, numbers);
        Json scheme = weights("int", 8, one.strategy, one.group);
        scheme["symmetric"] = !zeros;
        declare(artifact, format, {{"group_0", group({"Linear"}, scheme, zeros ? Json() : token)}});
        artifact.expect_values();
      }
    }
  }
}

TEST(CompressedTensorsArtifacts, PackedIntegersWithScatteredGroupsAndZeroPoints) {
  for (const uint32_t bits : {3u, 4u, 8u}) {
    for (const bool zeros : {false, true}) {
      for (const bool ordered : {false, true}) {
        SCOPED_TRACE(std::to_string(bits) + (zeros ? " with zero points" : "") +
                     (ordered ? " ordered" : ""));
        Artifact artifact;
        Numbers numbers(bits);
        const int half = 1 << (bits - 1);
        for (const std::string& module : modules()) {
          add_packed(artifact, module, layer_of(numbers, -half, half - 1, kRows, 3), bits, zeros,
                     ordered);
        }
        Json scheme = weights("int", static_cast<int>(bits), "group", 32);
        scheme["symmetric"] = !zeros;
        if (ordered) scheme["actorder"] = "group";
        declare(artifact, "pack-quantized", {{"group_0", group({"Linear"}, scheme)}});
        artifact.expect_values();
      }
    }
  }
}

TEST(CompressedTensorsArtifacts, GroupsOfTheirOwnFormatByPattern) {
  Artifact artifact;
  artifact.into("model.safetensors", 4);
  Numbers numbers(5);
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    add_packed(artifact, layer + "self_attn.q_proj", layer_of(numbers, -8, 7, kRows, 3), 4, false,
               false);
    add_fp8(artifact, layer + "mlp.down_proj", numbers, false);
    add_fp8(artifact, layer + "mlp.up_proj", numbers, true);
    artifact.kept(layer + "mlp.router.weight", {4, kColumns}, numbers);
  }
  Json blocks = weights("float", 8, "block");
  blocks["block_structure"] = {4, 32};
  declare(artifact, "mixed-precision",
          {{"group_0",
            group({"re:.*self_attn.*"}, weights("int", 4, "group", 32), {}, "pack-quantized")},
           {"group_1",
            group({"re:.*down_proj$"}, weights("float", 8, "channel"), {}, "float-quantized")},
           {"group_2", group({"Linear"}, blocks, {}, "naive-quantized")}},
          {"re:.*router"});
  artifact.expect_values();
}

TEST(CompressedTensorsArtifacts, WhatIsNotReadIsNamedWithItsReason) {
  const std::pair<const char*, const char*> cases[] = {
      {"marlin-24", "2:4 sparse weights in the order of one kernel are not implemented"},
      {"sparse-24-bitmask", "sparse weights are not implemented"},
      {"mxfp6-pack-quantized", "floats of 6 bits are not implemented"},
      {"fakequant", "its weights are plain and rounded while running"},
  };
  for (const auto& [format, reason] : cases) {
    Artifact artifact;
    Numbers numbers(1);
    add_integers(artifact, "model.layers.0.mlp.down_proj", layer_of(numbers, -8, 7, kRows, 1),
                 false);
    declare(artifact, format, {{"group_0", group({"Linear"}, weights("int", 8, "channel"))}});
    const std::string text = artifact.refusal();
    EXPECT_THAT(text, HasSubstr(std::string("format rejected: found \"") + format + "\""));
    EXPECT_THAT(text, HasSubstr(reason));
  }
}

}  // namespace
}  // namespace loadstone
