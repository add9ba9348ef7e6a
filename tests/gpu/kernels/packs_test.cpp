// Integers in words on the GPU against their host code (common/int_packs).
#include "common/codecs/half.hpp"
#include "common/cuda/packs_layer.hpp"
#include "common/numerics/floats.hpp"
#include "kernels/device.hpp"

namespace loadstone::gpu_kernels {
namespace {

namespace cuda = common::cuda;
using common::testing::Random;
using common::testing::same_float;
using int_packs::Matrix;
using int_packs::Packing;

/// A matrix of random words on both sides.
struct Packs {
  Matrix host, device;
  std::vector<uint32_t> words, zeros;
  std::vector<char> scales;
  std::vector<int32_t> order;
  Memory device_words, device_zeros, device_scales, device_order;

  Packs(Packing packing, uint32_t bits, uint64_t n, uint64_t k, uint64_t group_size,
        uint32_t scale_dtype, bool shuffled) {
    Random random(static_cast<uint32_t>(n + k + bits));
    host.packing = packing;
    host.bits = bits;
    host.zero_bias = bits % 2;
    host.scale_dtype = scale_dtype;
    host.n = n;
    host.k = k;
    host.group_size = group_size;
    host.groups = (k + group_size - 1) / group_size;
    words.resize(n * k * bits / 32);
    zeros.resize(host.groups * n * bits / 32);
    for (uint32_t& one : words) one = random.bits() << 16 ^ random.bits() >> 3;
    for (uint32_t& one : zeros) one = random.bits() << 16 ^ random.bits() >> 3;
    std::vector<float> values(host.groups * n);
    for (float& one : values) one = 0.01f + 0.005f * random.uniform();
    scales.resize(values.size() * common::float_nbytes(scale_dtype));
    common::narrow(scale_dtype, values.data(), scales.data(), values.size());
    device_words = Memory(words);
    device_zeros = Memory(zeros);
    device_scales = Memory(scales);
    device = host;
    host.qweight = words.data();
    host.qzeros = zeros.data();
    host.scales = scales.data();
    device.qweight = device_words.at<uint32_t>();
    device.qzeros = device_zeros.at<uint32_t>();
    device.scales = device_scales.at();
    if (!shuffled) return;
    for (uint64_t c = 0; c < k; ++c) order.push_back(static_cast<int32_t>(c * 7 % host.groups));
    device_order = Memory(order);
    host.g_idx = order.data();
    device.g_idx = device_order.at<int32_t>();
  }
  std::vector<float> weight() const {
    std::vector<float> out(host.n * host.k);
    int_packs::dequantize(host, 0, host.n, out.data());
    return out;
  }
};

void expect_decoded(const Packs& packs) {
  const auto wanted = packs.weight();
  for (const uint32_t dtype : {LS_DTYPE_F32, LS_DTYPE_BF16, LS_DTYPE_F16}) {
    constexpr uint64_t kBegin = 32;
    const uint64_t count = packs.host.n - kBegin, item = common::float_nbytes(dtype);
    const Memory out(count * packs.host.k * item);
    check(cuda::decode_packs(packs.device, kBegin, count, out.at(), dtype, nullptr));
    check(cudaDeviceSynchronize());
    const auto raw = out.back<char>();
    std::vector<char> rounded(raw.size());
    common::narrow(dtype, &wanted[kBegin * packs.host.k], rounded.data(), count * packs.host.k);
    ASSERT_TRUE(raw == rounded) << "dtype " << dtype;
  }
}

TEST(KernelPacks, WordsDecodeToTheHostsValues) {
  NEED_GPU();
  for (const uint32_t bits : {2, 3, 4, 5, 6, 7, 8}) {
    for (const uint64_t group_size : {32, 128, 1056}) {
      for (const bool shuffled : {false, true}) {
        SCOPED_TRACE(std::to_string(bits) + " bits, group " + std::to_string(group_size));
        const uint32_t scale_dtype = bits % 2 == 0 ? LS_DTYPE_F16 : LS_DTYPE_BF16;
        expect_decoded(Packs(Packing::gptq, bits, 96, 1056, group_size, scale_dtype, shuffled));
        if (bits == 4) {
          expect_decoded(Packs(Packing::awq, bits, 96, 1056, group_size, LS_DTYPE_F32, shuffled));
        }
        if (HasFatalFailure()) return;
      }
    }
  }
}

/// y of the layer within float32 sums' spread of float64's on `weight`.
void expect_product(const Packs& packs, const std::vector<float>& weight, uint64_t m,
                    uint32_t x_dtype, uint32_t y_dtype, bool biased, bool decoded) {
  const uint64_t n = packs.host.n, k = packs.host.k, x_stride = k + 8, y_stride = n + 5;
  Random random(static_cast<uint32_t>(m + k));
  std::vector<float> x(m * x_stride), bias(n);
  for (float& one : x) one = random.uniform();
  for (float& one : bias) one = random.uniform();
  std::vector<char> narrow_x(x.size() * common::float_nbytes(x_dtype));
  common::narrow(x_dtype, x.data(), narrow_x.data(), x.size());
  common::widen(x_dtype, narrow_x.data(), x.data(), x.size());
  const Memory device_x(narrow_x), device_bias(bias),
      y(m * y_stride * common::float_nbytes(y_dtype));
  const cuda::PacksLayer layer(packs.device);
  const Memory workspace(layer.workspace_nbytes(m));
  ls_apply call = sdk::make<ls_apply>();
  call.m = m;
  call.x = device_x.at();
  call.y = y.at();
  call.x_dtype = x_dtype;
  call.y_dtype = y_dtype;
  call.x_stride = x_stride;
  call.y_stride = y_stride;
  call.workspace = workspace.at();
  if (biased) {
    call.bias = device_bias.at();
    call.bias_dtype = LS_DTYPE_F32;
  }
  layer.run(call);
  check(cudaDeviceSynchronize());
  const auto raw = y.back<char>();
  std::vector<float> found(m * y_stride);
  common::widen(y_dtype, raw.data(), found.data(), found.size());
  for (uint64_t i = 0; i < m; ++i) {
    for (uint64_t j = 0; j < n; ++j) {
      double sum = biased ? bias[j] : 0.0f, size = std::abs(sum);
      for (uint64_t c = 0; c < k; ++c) {
        const double product = double{x[i * x_stride + c]} * weight[j * k + c];
        sum += product;
        size += std::abs(product);
      }
      // A decoded weight is rounded to x's dtype; tensor cores cut as they add.
      double bound = size * static_cast<double>(k + 8) * 0x1p-23;
      if (decoded && x_dtype != LS_DTYPE_F32) bound += size * 0x1p-9;
      if (y_dtype != LS_DTYPE_F32) bound += std::abs(sum) * 0x1p-8;
      ASSERT_NEAR(found[i * y_stride + j], sum, bound) << "row " << i << " column " << j;
    }
  }
}

TEST(KernelPacks, FewRowsAreTheProductOfTheWeight) {
  NEED_GPU();
  for (const auto& [n, k, group_size] : {std::array<uint64_t, 3>{32, 32, 32},
                                         {96, 1056, 32},
                                         {64, 832, 64},
                                         {160, 2048, 128},
                                         {64, 1152, 1152},
                                         {8192, 256, 128}}) {
    const Packs packs(Packing::gptq, 4, n, k, group_size, LS_DTYPE_F16, false);
    const auto weight = packs.weight();
    for (const uint64_t m : {1, 7, 8, 9, 16}) {
      for (const uint32_t dtype : {LS_DTYPE_BF16, LS_DTYPE_F16}) {
        SCOPED_TRACE(std::to_string(n) + " " + std::to_string(k) + " group " +
                     std::to_string(group_size) + " m " + std::to_string(m));
        expect_product(packs, weight, m, dtype, LS_DTYPE_F32, m % 2 == 0, false);
        if (m == 9) expect_product(packs, weight, m, dtype, dtype, true, false);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(KernelPacks, FewRowsOfOtherWordsAreTheProductOfTheRoundedWeight) {
  NEED_GPU();
  for (const uint32_t bits : {2, 3, 4, 5, 6, 7, 8}) {
    for (const uint64_t group_size : {4, 32, 128}) {
      for (const bool shuffled : {false, true}) {
        SCOPED_TRACE(std::to_string(bits) + " bits, group " + std::to_string(group_size) +
                     (shuffled ? ", g_idx" : ""));
        const Packs packs(Packing::gptq, bits, 96, 544, group_size, LS_DTYPE_F16, shuffled);
        expect_product(packs, packs.weight(), 5, LS_DTYPE_BF16, LS_DTYPE_F32, true, true);
        if (bits != 4) continue;
        const Packs awq(Packing::awq, bits, 96, 544, group_size, LS_DTYPE_F16, shuffled);
        expect_product(awq, awq.weight(), 1, LS_DTYPE_BF16, LS_DTYPE_F32, false, true);
        expect_product(awq, awq.weight(), 16, LS_DTYPE_F16, LS_DTYPE_F16, true, true);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(KernelPacks, MoreRowsAndFloat32GoThroughTheDecodedWeight) {
  NEED_GPU();
  for (const uint32_t bits : {3, 4}) {
    const Packs packs(Packing::gptq, bits, 96, 1024, 128, LS_DTYPE_F16, bits == 3);
    const auto weight = packs.weight();
    for (const uint32_t dtype : {LS_DTYPE_BF16, LS_DTYPE_F32}) {
      expect_product(packs, weight, 40, dtype, LS_DTYPE_F32, true, true);
      if (dtype == LS_DTYPE_F32) {
        expect_product(packs, weight, 3, dtype, LS_DTYPE_F32, true, true);
      }
    }
  }
}

}  // namespace
}  // namespace loadstone::gpu_kernels
