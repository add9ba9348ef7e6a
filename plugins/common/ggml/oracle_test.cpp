// Against the shared oracles: ggml-blocks (gguf-py's and ggml's own values), ggml-grids, and the
// gguf cases of the layers.
#include "common/testing/oracle.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/codecs/half.hpp"
#include "common/ggml/dequantize.hpp"
#include "common/ggml/grids.hpp"
#include "common/ggml/quantize.hpp"

namespace loadstone::ggml {
namespace {

using common::Cpu;
using namespace common::testing;
namespace testing = common::testing;

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

/// "gguf_q4_k" names Q4_K.
const TypeInfo* type_of_method(const std::string& method) {
  return find_type(upper(method.substr(5)));
}

TEST(GgmlOracle, BlocksDecodeToTheRecordedValues) {
  const std::string path = shared_path("oracles/ggml-blocks.safetensors");
  if (!exists(path)) GTEST_SKIP() << "no oracle: " << path;
  const auto tensors = read_safetensors(path);
  int types = 0;
  for (const auto& [name, blocks] : tensors) {
    const size_t slash = name.find("/blocks");
    if (slash == std::string::npos) continue;
    const TypeInfo* info = find_type(std::string_view(name).substr(0, slash));
    ASSERT_NE(info, nullptr) << name;
    const auto wanted = tensors.at(name.substr(0, slash) + "/dequant").as<float>();
    const uint64_t count = blocks.bytes.size() / info->nbytes;
    ASSERT_EQ(count * info->elems, wanted.size()) << name;
    for (const Cpu cpu : levels()) {
      std::vector<float> found(wanted.size());
      dequantizer(info->type, Stores::cached, cpu)(
          reinterpret_cast<const uint8_t*>(blocks.bytes.data()), count, found.data());
      for (size_t i = 0; i < wanted.size(); ++i) {
        ASSERT_TRUE(same_float(found[i], wanted[i])) << name << " value " << i;
      }
    }
    ++types;
  }
  EXPECT_GT(types, 0);
  std::cout << types << " types equal\n";
}

template <typename Entry, size_t kCount>
void expect_grid(const Tensor& tensor, const Entry (&grid)[kCount]) {
  ASSERT_EQ(tensor.bytes.size(), sizeof grid);
  EXPECT_EQ(std::memcmp(tensor.bytes.data(), grid, sizeof grid), 0);
}

TEST(GgmlOracle, GridsAreThePublishedOnes) {
  const std::string path = shared_path("oracles/ggml-grids.safetensors");
  if (!exists(path)) GTEST_SKIP() << "no oracle: " << path;
  const auto tensors = read_safetensors(path);
  expect_grid(tensors.at("iq2_xxs"), kIq2XxsGrid);
  expect_grid(tensors.at("iq2_xs"), kIq2XsGrid);
  expect_grid(tensors.at("iq2_s"), kIq2SGrid);
  expect_grid(tensors.at("iq3_xxs"), kIq3XxsGrid);
  expect_grid(tensors.at("iq3_s"), kIq3SGrid);
  expect_grid(tensors.at("iq1_s"), kIq1SGrid);
  expect_grid(tensors.at("iq4_nl"), kIq4Levels);
  const auto signs = tensors.at("ksigns").as<uint8_t>();
  for (uint32_t i = 0; i < signs.size(); ++i) ASSERT_EQ(signs_of(i), signs[i]);
}

TEST(GgmlOracle, LayersEncodeAndDecodeToTheRecordedBytes) {
  const Json layers = shared_json("oracles/layers.json");
  LOADSTONE_NEED_ORACLE(layers, "oracles/layers.json");
  const auto tensors = read_safetensors(shared_path("oracles/layers.safetensors"));
  int cases = 0;
  for (const Json& one : layers["cases"]) {
    const std::string method = one["method"], layer = one["layer"];
    if (method.rfind("gguf_", 0) != 0) continue;
    SCOPED_TRACE(layer + "/" + method);
    const TypeInfo* info = type_of_method(method);
    ASSERT_NE(info, nullptr);
    const Tensor& stored = tensors.at(layer + "/" + method + "/blocks");
    const Tensor& weight = tensors.at(layer + "/weight");
    const uint64_t count = stored.bytes.size() / info->nbytes;
    ASSERT_EQ(count * info->elems, weight.elements());

    std::vector<float> values(weight.elements());
    ASSERT_EQ(weight.dtype, "BF16");
    common::bf16_decode(weight.as<uint16_t>().data(), values.data(), values.size());
    std::vector<char> made(stored.bytes.size());
    ASSERT_NE(quantizer(info->type), nullptr);
    quantizer(info->type)(values.data(), count, reinterpret_cast<uint8_t*>(made.data()));
    size_t different = 0;
    for (size_t i = 0; i < made.size(); ++i) different += made[i] != stored.bytes[i];
    EXPECT_EQ(different, 0u) << "of " << made.size() << " bytes";

    dequantizer(info->type)(reinterpret_cast<const uint8_t*>(stored.bytes.data()), count,
                            values.data());
    EXPECT_EQ(fnv1a64(values), one["dequant_fnv1a64"].get<std::string>());
    ++cases;
  }
  EXPECT_GT(cases, 0);
  std::cout << cases << " layer cases equal\n";
}

TEST(GgmlOracle, RefusedWidthsAreNoWholeBlocks) {
  const Json layers = shared_json("oracles/layers.json");
  LOADSTONE_NEED_ORACLE(layers, "oracles/layers.json");
  for (const Json& one : layers["refusals"]) {
    const std::string method = one["method"], layer = one["layer"];
    if (method.rfind("gguf_", 0) != 0) continue;
    const TypeInfo* info = type_of_method(method);
    ASSERT_NE(info, nullptr) << method;
    EXPECT_NE(layers["layers"][layer]["K"].get<uint64_t>() % info->elems, 0u) << method;
  }
}

}  // namespace
}  // namespace loadstone::ggml
