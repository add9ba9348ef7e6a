// The ar_* and gptq_* cases of the layer oracles: dequantized weights by hash, outputs by bound.
#include "common/testing/oracle.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "common/codecs/half.hpp"
#include "common/int_packs/int_packs.hpp"

namespace loadstone::int_packs {
namespace {

using common::Cpu;
using namespace common::testing;
namespace testing = common::testing;

bool starts(const std::string& text, const char* with) { return text.rfind(with, 0) == 0; }

TEST(IntPacksOracle, LayersDequantizeAndMultiplyAsRecorded) {
  const Json layers = shared_json("oracles/layers.json");
  LOADSTONE_NEED_ORACLE(layers, "oracles/layers.json");
  const auto tensors = read_safetensors(shared_path("oracles/layers.safetensors"));
  int cases = 0;
  for (const Json& one : layers["cases"]) {
    const std::string method = one["method"], layer = one["layer"];
    if (!starts(method, "ar_") && !starts(method, "gptq_")) continue;
    SCOPED_TRACE(layer + "/" + method);
    const std::string prefix = layer + "/" + method + "/";
    const auto qweight = tensors.at(prefix + "qweight").as<uint32_t>();
    const auto qzeros = tensors.at(prefix + "qzeros").as<uint32_t>();
    const Tensor& scales = tensors.at(prefix + "scales");
    ASSERT_EQ(scales.dtype, "F16");
    std::vector<int32_t> g_idx;
    if (tensors.count(prefix + "g_idx") != 0) g_idx = tensors.at(prefix + "g_idx").as<int32_t>();

    Matrix matrix;
    matrix.packing = starts(method, "ar_awq") ? Packing::awq : Packing::gptq;
    matrix.zero_bias = starts(method, "ar_gptq") || starts(method, "gptq_") ? 1 : 0;
    matrix.bits = one["bits"];
    matrix.group_size = one["group_size"];
    matrix.groups = scales.shape[0];
    matrix.n = layers["layers"][layer]["N"];
    matrix.k = layers["layers"][layer]["K"];
    matrix.qweight = qweight.data();
    matrix.qzeros = qzeros.data();
    matrix.scales = scales.bytes.data();
    if (!g_idx.empty()) matrix.g_idx = g_idx.data();

    for (const Cpu cpu : levels()) {
      std::vector<float> weight(matrix.n * matrix.k);
      dequantize(matrix, 0, matrix.n, weight.data(), cpu);
      EXPECT_EQ(fnv1a64(weight), one["dequant_fnv1a64"].get<std::string>());
    }
    const Tensor& x = tensors.at(layer + "/x");
    std::vector<float> input(x.elements());
    if (x.dtype == "BF16") {
      common::bf16_decode(x.as<uint16_t>().data(), input.data(), input.size());
    } else {
      input = x.as<float>();
    }
    const auto wanted = tensors.at(prefix + "out").as<float>();
    std::vector<float> bias(matrix.n);
    if (layers["layers"][layer]["bias"]) {
      const Tensor& b = tensors.at(layer + "/bias");
      common::bf16_decode(b.as<uint16_t>().data(), bias.data(), bias.size());
    }
    for (const Cpu cpu : levels()) {
      for (uint64_t row = 0; row < x.shape[0]; ++row) {
        std::vector<float> y(matrix.n);
        multiply(matrix, 0, matrix.n, input.data() + row * matrix.k, y.data(), cpu);
        const double bound = one["bound_rows"][row];
        for (uint64_t n = 0; n < matrix.n; ++n) {
          ASSERT_LE(std::abs(y[n] + bias[n] - wanted[row * matrix.n + n]), bound) << n;
        }
      }
    }
    ++cases;
  }
  EXPECT_GT(cases, 0);
  std::cout << cases << " layer cases equal\n";
}

}  // namespace
}  // namespace loadstone::int_packs
