// Weights in ggml's blocks and in words: decoders on the GPU against the host's, and the plugins'
// layers against the same calls on the host.
#include <cmath>

#include "common/codecs/half.hpp"
#include "common/cuda/ggml.hpp"
#include "common/ggml/dequantize.hpp"
#include "common/numerics/floats.hpp"
#include "kernels/device.hpp"

namespace loadstone::gpu_kernels {
namespace {

namespace cuda = common::cuda;
using common::testing::Json;
using common::testing::Random;
using common::testing::same_float;

/// `rows` rows of k values of random blocks; halves are finite and not large.
std::vector<uint8_t> blocks_of(const ggml::TypeInfo& type, uint64_t rows, uint64_t k) {
  Random random(type.type * 31 + 5);
  std::vector<uint8_t> out(rows * k / type.elems * type.nbytes);
  for (uint8_t& byte : out) byte = static_cast<uint8_t>(random.bits() >> 9);
  // Every half in turn that may be a scale: its exponent below 2^1; MXFP4's byte near 127.
  if (type.type == ggml::kMXFP4) {
    for (size_t i = 0; i < out.size(); i += type.nbytes) out[i] = 120 + out[i] % 10;
    return out;
  }
  const auto half = [&](size_t at) { out[at + 1] &= 0xbf; };
  for (size_t i = 0; i < out.size(); i += type.nbytes) {
    if (type.elems == 1) {
      type.nbytes == 4 ? half(i + 2) : half(i);
      continue;
    }
    for (size_t at = 0; at + 1 < type.nbytes; at += 2) half(i + at);
  }
  return out;
}

std::vector<float> host_values(const ggml::TypeInfo& type, const std::vector<uint8_t>& blocks,
                               uint64_t count) {
  std::vector<float> out(count);
  ggml::dequantizer(type.type, ggml::Stores::cached, common::Cpu::scalar)(
      blocks.data(), count / type.elems, out.data());
  return out;
}

void expect_same(const std::vector<float>& wanted, const Memory& found, uint32_t dtype) {
  const auto raw = found.back<char>();
  std::vector<char> rounded(wanted.size() * common::float_nbytes(dtype));
  common::narrow(dtype, wanted.data(), rounded.data(), wanted.size());
  std::vector<float> a(wanted.size()), b(wanted.size());
  common::widen(dtype, rounded.data(), a.data(), a.size());
  common::widen(dtype, raw.data(), b.data(), b.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_TRUE(same_float(a[i], b[i])) << "value " << i;
}

TEST(KernelWeights, EveryGgmlTypeDecodesToTheHostsValues) {
  NEED_GPU();
  constexpr uint64_t kRows = 19, kWidth = 2304, kSkipped = 3;
  int seen = 0;
  for (const ggml::TypeInfo& type : ggml::kTypes) {
    if (!type.decodes) continue;
    SCOPED_TRACE(type.name);
    const auto blocks = blocks_of(type, kRows, kWidth);
    const auto all = host_values(type, blocks, kRows * kWidth);
    const std::vector<float> wanted(all.begin() + kSkipped * kWidth, all.end());
    const Memory device(blocks);
    check(cuda::ggml_prepare(type.type));
    const cuda::GgmlRun run{type.type, device.at<uint8_t>(), 0, kRows, kWidth};
    for (const uint32_t dtype : {LS_DTYPE_F32, LS_DTYPE_BF16, LS_DTYPE_F16}) {
      const Memory out(wanted.size() * common::float_nbytes(dtype));
      check(cuda::ggml_decode(run, kSkipped, kRows - kSkipped, out.at(), dtype, nullptr));
      check(cudaDeviceSynchronize());
      expect_same(wanted, out, dtype);
      if (HasFatalFailure()) return;
    }
    ++seen;
  }
  EXPECT_EQ(seen, 26);
}

/// y of a few rows of bf16 against float64 sums on W rounded to bf16.
void expect_few_rows(const ggml::TypeInfo& type, uint64_t rows, uint64_t k, uint64_t m) {
  const auto blocks = blocks_of(type, rows, k);
  std::vector<float> weight = host_values(type, blocks, rows * k);
  for (float& one : weight) one = common::bf16_decode(common::bf16_encode(one));
  Random random(static_cast<uint32_t>(m + k));
  const uint64_t x_stride = k + 8, y_stride = rows + 3;
  std::vector<uint16_t> x(m * x_stride);
  for (uint16_t& one : x) one = common::bf16_encode(random.uniform());
  std::vector<float> bias(rows);
  for (float& one : bias) one = random.uniform();
  const Memory device(blocks), device_x(x), device_bias(bias), y(m * y_stride * sizeof(float));
  check(cuda::ggml_prepare(type.type));
  cuda::EightsProduct call{};
  call.x = device_x.at();
  call.bias = device_bias.at();
  call.y = y.at();
  call.x_dtype = LS_DTYPE_BF16;
  call.bias_dtype = call.y_dtype = LS_DTYPE_F32;
  call.m = m;
  call.n = rows;
  call.k = k;
  call.x_stride = x_stride;
  call.y_stride = y_stride;
  ASSERT_TRUE(cuda::eights_fit(call));
  check(cuda::ggml_few_rows({type.type, device.at<uint8_t>(), 0, rows, k}, call));
  check(cudaDeviceSynchronize());
  const auto found = y.back<float>();
  for (uint64_t i = 0; i < m; ++i) {
    for (uint64_t j = 0; j < rows; ++j) {
      double sum = bias[j], size = std::abs(sum);
      for (uint64_t c = 0; c < k; ++c) {
        const double product = double{common::bf16_decode(x[i * x_stride + c])} * weight[j * k + c];
        sum += product;
        size += std::abs(product);
      }
      const double bound = size * static_cast<double>(k + 8) * 0x1p-23;
      ASSERT_NEAR(found[i * y_stride + j], sum, bound) << "row " << i << " column " << j;
    }
  }
}

TEST(KernelWeights, EveryGgmlTypeIsMultipliedWithAFewRows) {
  NEED_GPU();
  for (const ggml::TypeInfo& type : ggml::kTypes) {
    if (!type.decodes) continue;
    for (const uint64_t m : {1, 8, 9, 16}) {
      SCOPED_TRACE(std::string(type.name) + ", m " + std::to_string(m));
      expect_few_rows(type, 45, 2304, m);
      if (type.elems <= 8) expect_few_rows(type, 45, 40, m);
      if (HasFatalFailure()) return;
    }
  }
}

/// A part of `rows` rows in blocks of one type.
void add_blocks(TestLayer& layer, ggml::Type id, uint64_t rows, uint64_t k) {
  const ggml::TypeInfo& type = *ggml::find_type(uint32_t{id});
  const auto part = static_cast<uint32_t>(layer.parts().size());
  layer.part("to_" + std::to_string(part), layer.out, rows);
  layer.out += rows;
  layer.in = k;
  const uint32_t dtype = id == ggml::kF16 ? uint32_t{LS_DTYPE_F16} : LS_DTYPE_GGML + uint32_t{id};
  layer.tensor("weight", dtype, {rows, k}, blocks_of(type, rows, k), part);
}

struct Case {
  std::string title, plugin;
  Json fields;
  TestLayer layer;
  std::string kernel;
};

TestLayer words(uint32_t bits, bool awq, uint64_t n, uint64_t k, uint64_t group, bool shuffled) {
  TestLayer out;
  out.out = n;
  out.part("linear", 0, n);
  Random random(bits + 3);
  const uint64_t groups = (k + group - 1) / group;
  const auto bits_of = [&](uint64_t count) {
    std::vector<uint32_t> made(count);
    for (uint32_t& word : made) word = random.bits() << 16 ^ random.bits() >> 3;
    return made;
  };
  out.tensor("qweight", LS_DTYPE_I32, {awq ? k : k * bits / 32, awq ? n / 8 : n},
             bits_of(n * k * bits / 32));
  out.tensor("qzeros", LS_DTYPE_I32, {groups, n * bits / 32}, bits_of(groups * n * bits / 32));
  std::vector<uint16_t> scales(groups * n);
  for (uint16_t& one : scales) one = common::f16_encode(0.01f + 0.004f * random.uniform());
  out.tensor("scales", LS_DTYPE_F16, {groups, n}, scales);
  if (shuffled) {
    std::vector<int32_t> order(k);
    for (uint64_t c = 0; c < k; ++c) order[c] = static_cast<int32_t>(c * 7 % groups);
    out.tensor("g_idx", LS_DTYPE_I32, {k}, order);
    out.show_values();
  }
  return out;
}

Json packing(uint32_t bits, uint64_t group, const char* format) {
  return {{"bits", bits}, {"group_size", group}, {"packing_format", format}};
}

std::vector<Case> cases() {
  std::vector<Case> out;
  const auto blocks = [&](const char* title, std::vector<ggml::Type> types, const char* kernel) {
    Case one{title, "gguf", Json::object(), {}, kernel};
    for (const ggml::Type type : types) add_blocks(one.layer, type, 96, 512);
    out.push_back(std::move(one));
  };
  blocks("Q4_0", {ggml::kQ4_0}, "gguf_q4_0_mma_cublaslt");
  blocks("Q6_K of two parts", {ggml::kQ6_K, ggml::kQ6_K}, "gguf_q6_k_mma_cublaslt");
  blocks("IQ3_S", {ggml::kIQ3_S}, "gguf_iq3_s_mma_cublaslt");
  blocks("mixed", {ggml::kQ4_K, ggml::kF16, ggml::kQ8_0}, "gguf_mixed_mma_cublaslt");
  constexpr const char* kGptq = "auto_round:auto_gptq";
  out.push_back({"W4", "autoround", packing(4, 128, kGptq), words(4, false, 160, 512, 128, false),
                 "gptq_w4_mma_cublaslt"});
  out.push_back({"W4, g_idx", "autoround", packing(4, 128, kGptq),
                 words(4, false, 96, 512, 128, true), "gptq_w4_mma_cublaslt"});
  out.push_back({"W3", "autoround", packing(3, 64, kGptq), words(3, false, 96, 512, 64, false),
                 "gptq_w3_mma_cublaslt"});
  out.push_back({"AWQ", "autoround", packing(4, 128, "auto_round:auto_awq"),
                 words(4, true, 96, 512, 128, false), "awq_w4_mma_cublaslt"});
  return out;
}

TEST(KernelWeights, PlansNameTheirKernels) {
  for (Case& one : cases()) {
    SCOPED_TRACE(one.plugin + " " + one.title);
    Driver driver(one.plugin);
    driver.configure(one.fields);
    const Answer answer = driver.plan(one.layer, cuda_target(90));
    EXPECT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_QUANTIZE}) << answer.reason;
    EXPECT_EQ(answer.kernel, one.kernel);
    EXPECT_NE(answer.reason, "");
    const Answer old = driver.plan(one.layer, cuda_target(75));
    EXPECT_EQ(old.work.verdict, uint32_t{LS_VERDICT_UNSUPPORTED});
    EXPECT_EQ(old.reason, one.plugin + ": found sm75, expected sm80 or newer for its CUDA kernels");
  }
}

TEST(KernelWeights, DeviceAndHostAgree) {
  NEED_GPU();
  Random random(6);
  for (Case& one : cases()) {
    Driver driver(one.plugin);
    driver.configure(one.fields);
    const Answer answer = driver.plan(one.layer, cuda_target(this_sm()));
    ASSERT_EQ(answer.work.verdict, uint32_t{LS_VERDICT_QUANTIZE}) << answer.reason;
    Produced produced = driver.produce(one.layer);
    DeviceLayer device(driver, one.layer, to_device(produced), answer.work.note, this_sm());
    for (const uint64_t m : {1, 9, 40}) {
      SCOPED_TRACE(one.plugin + " " + one.title + ", m " + std::to_string(m));
      constexpr uint64_t kWidth = 512;
      std::vector<uint16_t> x(m * kWidth), bias(one.layer.out);
      for (uint16_t& value : x) value = common::bf16_encode(random.uniform() * 2.0f);
      for (uint16_t& value : bias) value = common::bf16_encode(random.uniform());
      Driver::Run run;
      run.x_dtype = run.bias_dtype = LS_DTYPE_BF16;
      run.x = x.data();
      run.bias = bias.data();
      run.m = m;
      run.n = one.layer.out;
      run.k = kWidth;
      const auto found = device.run(run, LS_DTYPE_F32);
      const auto wanted = driver.apply(one.layer, produced, run);
      double error = 0, size = 0;
      for (size_t i = 0; i < wanted.size(); ++i) {
        error += std::pow(double{found[i]} - wanted[i], 2);
        size += std::pow(double{wanted[i]}, 2);
      }
      EXPECT_LT(std::sqrt(error / size), 5e-3);  // W in bf16
      EXPECT_GT(size, 0);
    }
  }
}

TEST(KernelWeights, RowsOfBlocksAreLookedUp) {
  NEED_GPU();
  constexpr uint64_t kWidth = 512, kRows = 64;
  TestLayer layer;
  layer.kind = LS_KIND_GATHER;
  add_blocks(layer, ggml::kQ5_K, kRows, kWidth);
  Driver driver("gguf");
  driver.configure(Json::object());
  const Answer answer = driver.plan(layer, cuda_target(this_sm()));
  ASSERT_EQ(answer.kernel, "gguf_q5_k_lookup") << answer.reason;
  Produced produced = driver.produce(layer);
  const auto values = host_values(*ggml::find_type(uint32_t{ggml::kQ5_K}),
                                  blocks_of(*ggml::find_type(uint32_t{ggml::kQ5_K}), kRows, kWidth),
                                  kRows * kWidth);
  const std::vector<int64_t> ids = {5, 0, 63, 64, -1, 5};
  const Memory blocks(produced.blocks[0].at(), produced.blocks[0].nbytes()), device_ids(ids),
      out(ids.size() * kWidth * sizeof(float));
  const cuda::GgmlRun run{ggml::kQ5_K, blocks.at<uint8_t>(), 0, kRows, kWidth};
  check(cuda::ggml_gather(run, {device_ids.at<int64_t>(), 1, ids.size(), kRows, kWidth, out.at(),
                                LS_DTYPE_F32, nullptr}));
  check(cudaDeviceSynchronize());
  const auto found = out.back<float>();
  for (size_t i = 0; i < ids.size(); ++i) {
    for (uint64_t c = 0; c < kWidth; ++c) {
      const bool inside = ids[i] >= 0 && ids[i] < int64_t{kRows};
      const float wanted = inside ? values[static_cast<uint64_t>(ids[i]) * kWidth + c] : NAN;
      ASSERT_TRUE(same_float(found[i * kWidth + c], wanted)) << "row " << i << " column " << c;
    }
  }
}

}  // namespace
}  // namespace loadstone::gpu_kernels
