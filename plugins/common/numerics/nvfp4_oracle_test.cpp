// NVFP4 rows against numerics.json, weights and activations against the layers.
#include "common/codecs/e2m1.hpp"
#include "common/codecs/e4m3.hpp"
#include "common/numerics/floats.hpp"
#include "common/numerics/nvfp4.hpp"
#include "common/testing/layers.hpp"

namespace loadstone::common {
namespace {

using testing::Json;
using testing::Layers;

TEST(Nvfp4Oracle, Rows) {
  constexpr const char* kFile = "oracles/numerics.json";
  const Json oracle = testing::shared_json(kFile);
  LOADSTONE_NEED_ORACLE(oracle, kFile);
  int seen = 0;
  for (const Cpu cpu : testing::levels()) {
    for (const auto& [name, row] : oracle["rows"].items()) {
      if (!row.contains("nvfp4_own_amax")) continue;
      SCOPED_TRACE(name);
      ++seen;
      const auto x = testing::floats_from_bits(row["x"]);
      const float input_scale = max_magnitude(x.data(), x.size()) / 2688.0f;
      std::vector<uint8_t> codes(x.size()), scales(x.size() / kNvfp4Group);
      nvfp4_token(x.data(), 1.0f / input_scale, codes.data(), scales.data(), x.size(), cpu);
      EXPECT_EQ(codes, row["nvfp4_own_amax"][0].get<std::vector<uint8_t>>());
      EXPECT_EQ(scales, row["nvfp4_own_amax"][1].get<std::vector<uint8_t>>());
    }
  }
  EXPECT_GT(seen, 0);
}

TEST(Nvfp4Oracle, ActivationsOfLayers) {
  const Layers& oracle = Layers::get();
  if (oracle.absent()) GTEST_SKIP() << "no oracle: " << testing::shared_path(Layers::kFile);
  int seen = 0;
  for (const Json& one : oracle.cases()) {
    if (one["method"] != "nvfp4") continue;
    const std::string layer = one["layer"];
    SCOPED_TRACE(layer);
    ++seen;
    const uint64_t m = oracle.m(layer), k = oracle.k(layer);
    std::vector<float> x(m * k), values(m * k);
    const auto run = oracle.run(layer);
    widen(run.x_dtype, run.x, x.data(), x.size());
    const float g = 1.0f / oracle.at(layer + "/nvfp4/input_scale").as<float>()[0];
    std::vector<uint8_t> codes(x.size()), packed(x.size() / 2), scales(m * k / kNvfp4Group);
    for (uint64_t i = 0; i < m; ++i) {
      uint8_t* row_scales = &scales[i * k / kNvfp4Group];
      nvfp4_token(&x[i * k], g, &codes[i * k], row_scales, k);
      for (uint64_t c = 0; c < k; ++c) {
        values[i * k + c] =
            e2m1_decode(codes[i * k + c]) * (e4m3_decode(row_scales[c / kNvfp4Group]) / g);
      }
    }
    e2m1_pack(codes.data(), packed.data(), codes.size());
    EXPECT_EQ(packed, oracle.at(layer + "/nvfp4/x_packed").as<uint8_t>());
    EXPECT_EQ(scales, oracle.at(layer + "/nvfp4/x_scale").as<uint8_t>());
    EXPECT_EQ(testing::fnv1a64(values), one["act_fnv1a64"]);
  }
  EXPECT_GT(seen, 0);
}

TEST(Nvfp4Oracle, WeightsOfLayers) {
  const Layers& oracle = Layers::get();
  if (oracle.absent()) GTEST_SKIP() << "no oracle: " << testing::shared_path(Layers::kFile);
  int seen = 0;
  for (const Json& one : oracle.cases()) {
    const bool ct = one["method"] == "ct_nvfp4_pack_quantized";
    if (!ct && one["method"] != "nvfp4") continue;
    const std::string layer = one["layer"];
    SCOPED_TRACE(layer);
    ++seen;
    const std::string at = layer + "/" + one["method"].get<std::string>() + "/";
    const auto packed = oracle.at(at + (ct ? "weight_packed" : "weight")).as<uint8_t>();
    const auto scales = oracle.at(at + "weight_scale").as<uint8_t>();
    const float global =
        oracle.at(at + (ct ? "weight_global_scale" : "weight_scale_2")).as<float>()[0];
    const uint64_t n = oracle.n(layer), k = oracle.k(layer);
    for (const Cpu cpu : testing::levels()) {
      std::vector<float> out(n * k);
      for (uint64_t r = 0; r < n; ++r) {
        nvfp4_dequantize(ct ? Nvfp4Order::divided : Nvfp4Order::multiplied, &packed[r * k / 2],
                         &scales[r * k / kNvfp4Group], global, &out[r * k], k, kNvfp4Group, cpu);
      }
      EXPECT_EQ(testing::fnv1a64(out), one["dequant_fnv1a64"]);
    }
  }
  EXPECT_GT(seen, 0);
}

}  // namespace
}  // namespace loadstone::common
