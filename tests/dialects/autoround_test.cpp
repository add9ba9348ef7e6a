// AutoRound's MX folders: layers of 4 and of 8 bits side by side, whichever the rest has.
#include <gmock/gmock.h>

#include <cmath>

#include "artifact.hpp"

namespace loadstone {
namespace {

using testing::Artifact;
using testing::e4m3_value;
using testing::Json;
using testing::Numbers;

constexpr uint64_t kRows = 6, kColumns = 64, kGroups = kColumns / 32;
constexpr float kE2m1[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};

void add(Artifact& to, const std::string& module, int bits, Numbers& numbers) {
  std::vector<uint8_t> scales = numbers.bytes(kRows * kGroups, 20);
  for (uint8_t& scale : scales) scale = static_cast<uint8_t>(scale + 115);
  std::vector<float> weight;
  if (bits == 8) {
    const auto codes = numbers.e4m3(kRows * kColumns);
    for (const uint8_t code : codes) weight.push_back(e4m3_value(code));
    to.tensor(module + ".weight", "F8_E4M3", {kRows, kColumns}, codes);
  } else {
    const auto pairs = numbers.bytes(kRows * kColumns / 2);
    for (const uint8_t pair : pairs) {
      for (const int code : {pair & 15, pair >> 4}) {
        weight.push_back(code >= 8 ? -kE2m1[code - 8] : kE2m1[code]);
      }
    }
    to.tensor(module + ".weight_packed", "U8", {kRows, kColumns / 2}, pairs);
  }
  for (size_t i = 0; i < weight.size(); ++i)
    weight[i] = std::ldexp(weight[i], scales[i / 32] - 127);
  to.tensor(module + ".weight_scale", "U8", {kRows, kGroups}, scales);
  to.expect(module + ".weight", weight);
}

TEST(AutoRoundArtifacts, FourAndEightBitsStandSideBySide) {
  for (const int most : {4, 8}) {
    for (const std::string key : {".*self_attn.*", "self_attn.q_proj"}) {
      SCOPED_TRACE(std::to_string(most) + " but for " + key);
      Artifact artifact;
      artifact.into("model.safetensors", 2);
      Numbers numbers(3);
      for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
        add(artifact, layer + "self_attn.q_proj", 12 - most, numbers);
        add(artifact, layer + "mlp.down_proj", most, numbers);
      }
      artifact.kept("lm_head.weight", {16, kColumns}, numbers);
      artifact.json("config.json",
                    {{"architectures", {"SomeForCausalLM"}},
                     {"quantization_config",
                      {{"quant_method", "auto-round"},
                       {"bits", most},
                       {"group_size", 32},
                       {"sym", true},
                       {"data_type", "mx_fp"},
                       {"act_bits", most},
                       {"act_data_type", "mx_fp"},
                       {"block_name_to_quantize", "model.layers"},
                       {"extra_config", {{key, {{"bits", 12 - most}, {"act_bits", 12 - most}}}}},
                       {"packing_format", "auto_round:llm_compressor"}}}});
      EXPECT_THAT(artifact.expect_values().notes, ::testing::IsEmpty());
    }
  }
}

}  // namespace
}  // namespace loadstone
