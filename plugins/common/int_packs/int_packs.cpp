#include "common/int_packs/int_packs.hpp"

#include "common/codecs/half.hpp"
#include "common/int_packs/kernels.hpp"
#include "common/int_packs/stream.hpp"

namespace loadstone::int_packs {
namespace {

/// Where column 8c+j of an awq word lies: nibble kAwqNibble[j].
constexpr uint32_t kAwqNibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};

uint32_t awq_value(const uint32_t* row, uint64_t n) {
  return row[n / 8] >> 4 * kAwqNibble[n % 8] & 15u;
}

}  // namespace

uint32_t code_at(const Matrix& matrix, uint64_t k, uint64_t n) {
  if (matrix.packing == Packing::awq) return awq_value(matrix.qweight + k * (matrix.n / 8), n);
  return stream_value(matrix.qweight + n, matrix.n, k, matrix.bits);
}

uint32_t zero_at(const Matrix& matrix, uint64_t group, uint64_t n) {
  const uint32_t* row = matrix.qzeros + group * (matrix.n * matrix.bits / 32);
  const uint32_t stored =
      matrix.packing == Packing::awq ? awq_value(row, n) : stream_value(row, 1, n, matrix.bits);
  return stored + matrix.zero_bias;
}

float scale_at(const Matrix& matrix, uint64_t group, uint64_t n) {
  const uint64_t at = group * matrix.n + n;
  switch (matrix.scale_dtype) {
    case LS_DTYPE_F32:
      return static_cast<const float*>(matrix.scales)[at];
    case LS_DTYPE_BF16:
      return common::bf16_decode(static_cast<const uint16_t*>(matrix.scales)[at]);
    default:
      return common::f16_decode(static_cast<const uint16_t*>(matrix.scales)[at]);
  }
}

namespace scalar {

void dequantize(const Matrix& matrix, uint64_t begin, uint64_t count, float* out) {
  for (uint64_t n = begin; n < begin + count; ++n) {
    for (uint64_t k = 0; k < matrix.k; ++k) {
      const uint64_t group = matrix.group_of(k);
      const int level =
          static_cast<int>(code_at(matrix, k, n)) - static_cast<int>(zero_at(matrix, group, n));
      *out++ = scale_at(matrix, group, n) * static_cast<float>(level);
    }
  }
}

void multiply(const Matrix& matrix, uint64_t begin, uint64_t count, const float* x, float* y) {
  for (uint64_t n = begin; n < begin + count; ++n) {
    float sum = 0;
    for (uint64_t k = 0; k < matrix.k; ++k) {
      const uint64_t group = matrix.group_of(k);
      const int level =
          static_cast<int>(code_at(matrix, k, n)) - static_cast<int>(zero_at(matrix, group, n));
      sum += x[k] * (scale_at(matrix, group, n) * static_cast<float>(level));
    }
    *y++ = sum;
  }
}

}  // namespace scalar

void dequantize(const Matrix& matrix, uint64_t begin, uint64_t count, float* out, common::Cpu cpu) {
#if defined(__x86_64__)
  if (cpu != common::Cpu::scalar) {
    // The vector kernel takes eight rows at a time; what sticks out on either side is done one by
    // one.
    const uint64_t head = (8 - begin % 8) % 8 < count ? (8 - begin % 8) % 8 : count;
    const uint64_t body = (count - head) / 8 * 8;
    scalar::dequantize(matrix, begin, head, out);
    avx2::dequantize(matrix, begin + head, body, out + head * matrix.k);
    scalar::dequantize(matrix, begin + head + body, count - head - body,
                       out + (head + body) * matrix.k);
    return;
  }
#endif
  scalar::dequantize(matrix, begin, count, out);
}

void multiply(const Matrix& matrix, uint64_t begin, uint64_t count, const float* x, float* y,
              common::Cpu cpu) {
#if defined(__x86_64__)
  if (cpu != common::Cpu::scalar) {
    const uint64_t done =
        cpu == common::Cpu::avx512 ? avx512::multiply(matrix, begin, count, x, y) : 0;
    return avx2::multiply(matrix, begin + done, count - done, x, y + done);
  }
#endif
  scalar::multiply(matrix, begin, count, x, y);
}

}  // namespace loadstone::int_packs
