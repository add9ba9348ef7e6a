#include "common/cuda/levels.hpp"
#include "common/cuda/types.cuh"

namespace loadstone::common::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRun = 8;  // columns of a thread
constexpr int kGroup = 16;

__device__ float value_at(const void* at, uint32_t dtype, uint64_t i) {
  switch (dtype) {
    case LS_DTYPE_I64:  // little endian: the low half is the float
      return static_cast<const float*>(at)[2 * i];
    case LS_DTYPE_I8:
      return static_cast<float>(static_cast<const int8_t*>(at)[i]);
    case LS_DTYPE_F8_E4M3:
      return e4m3_value(static_cast<const uint8_t*>(at)[i]);
    default:
      return float_at(at, dtype, i);
  }
}

/// Value `index` of a stream whose words lie `stride` apart (numerics/packed_ints.hpp).
__device__ uint32_t stream_value(const uint32_t* words, uint64_t stride, uint64_t index,
                                 uint32_t bits) {
  const uint64_t bit = index * bits;
  const auto shift = static_cast<uint32_t>(bit % 32);
  uint64_t value = words[bit / 32 * stride] >> shift;
  if (shift + bits > 32) {
    value |= static_cast<uint64_t>(words[(bit / 32 + 1) * stride]) << (32 - shift);
  }
  return static_cast<uint32_t>(value) & ((1u << bits) - 1);
}

/// One row of W: its codes and where the rest of it lies.
class Row {
 public:
  __device__ Row(const Levels& w, uint64_t row) : w_(w) {
    int i = 0;
    while (i + 1 < w.count && row >= w.parts[i].end) ++i;
    part_ = &w.parts[i];
    row_ = row - part_->begin;
    nibble_ = static_cast<uint32_t>(row % 2 * 4);
    codes_ = w.at + (w.codes == LevelCodes::int4 ? row / 2 : row) * w.row_nbytes;
    scale_row_ = w.scale_height == 0 ? 0 : row_ / w.scale_height;
  }

  __device__ float value(uint64_t column) const {
    const uint64_t group = group_of(column);
    const float q = code(column);
    if (w_.codes == LevelCodes::e2m1) return of_nvfp4(q, scale_code(group));
    return (q - zero(group)) * scale(group);
  }
  __device__ float level(uint64_t column) const {
    const uint64_t group = group_of(column);
    const float q = code(column);
    return w_.codes == LevelCodes::e2m1 ? q * scale_code(group) : q - zero(group);
  }
  /// What level() leaves out.
  __device__ float rest(uint64_t group) const {
    if (w_.codes == LevelCodes::e2m1) {
      const float global = this->global();
      return w_.order == Nvfp4Order::multiplied ? global : __fdiv_rn(1.0f, global);
    }
    return value_at(part_->scales, w_.scale_dtype, scale_row_ * w_.scale_columns + group);
  }

 private:
  __device__ uint64_t group_of(uint64_t column) const {
    return part_->order != nullptr ? static_cast<uint64_t>(part_->order[column])
                                   : column / w_.scale_width;
  }
  __device__ float code(uint64_t column) const {
    switch (w_.codes) {
      case LevelCodes::e4m3:
        return e4m3_value(codes_[column]);
      case LevelCodes::int8:
        return static_cast<float>(static_cast<int8_t>(codes_[column]));
      case LevelCodes::int4: {
        const int four = codes_[column] >> nibble_ & 15;
        return static_cast<float>(four >= 8 ? four - 16 : four);
      }
      case LevelCodes::words:
        return static_cast<float>(
            stream_value(reinterpret_cast<const uint32_t*>(codes_), 1, column, w_.bits));
      default: {
        const uint32_t four = codes_[column / 2] >> (column % 2 * 4) & 15u;
        // Exponent and mantissa in a half's places are 2^-14 of the value, subnormals too.
        const auto bits = static_cast<uint16_t>((four & 7u) << 9 | (four & 8u) << 12);
        return __half2float(__ushort_as_half(bits)) * 16384.0f;
      }
    }
  }
  __device__ float zero(uint64_t group) const {
    if (w_.codes == LevelCodes::words) {
      if (part_->zeros == nullptr) return static_cast<float>(1u << (w_.bits - 1));
      return static_cast<float>(stream_value(static_cast<const uint32_t*>(part_->zeros) + group,
                                             w_.scale_columns, row_, w_.bits));
    }
    if (part_->zeros == nullptr) return 0.0f;
    return value_at(part_->zeros, w_.zero_dtype, scale_row_ * w_.scale_columns + group);
  }
  __device__ float scale(uint64_t group) const {
    const float own = rest(group);
    if (part_->divisor == nullptr) return own;
    return __fdiv_rn(own, value_at(part_->divisor, w_.divisor_dtype, 0));
  }
  __device__ float scale_code(uint64_t group) const {
    return e4m3_value(static_cast<const uint8_t*>(part_->scales)[row_ * w_.scale_columns + group]);
  }
  __device__ float global() const {
    return part_->global == nullptr ? 1.0f : value_at(part_->global, w_.global_dtype, 0);
  }
  __device__ float of_nvfp4(float q, float sc) const {
    const float s = global();
    if (w_.order == Nvfp4Order::multiplied) return q * (sc * s);
    if (w_.order == Nvfp4Order::divided) return q * __fdiv_rn(sc, s);
    return (q * __fdiv_rn(1.0f, s)) * sc;
  }

  const Levels& w_;
  const LevelPart* part_;
  const uint8_t* codes_;
  uint64_t row_, scale_row_;
  uint32_t nibble_;
};

template <typename T, bool Values>
__global__ void __launch_bounds__(kThreads)
    decode_kernel(const __grid_constant__ Levels w, uint64_t begin, uint64_t count, T* out) {
  const uint64_t runs = (w.k + kRun - 1) / kRun;
  const uint64_t index = blockIdx.x * uint64_t{kThreads} + threadIdx.x;
  if (index >= count * runs) return;
  const uint64_t line = index / runs, first = index % runs * kRun;
  const Row row(w, begin + line);
  for (uint64_t c = first; c < first + kRun && c < w.k; ++c) {
    out[line * w.k + c] = from_float<T>(Values ? row.value(c) : row.level(c));
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const __grid_constant__ Levels w, const int64_t* ids, uint64_t id_stride, T* out,
                  uint64_t stride) {
  const int64_t id = ids[blockIdx.x * id_stride];
  const bool inside = id >= 0 && static_cast<uint64_t>(id) < w.n;
  const Row row(w, inside ? static_cast<uint64_t>(id) : 0);
  for (uint64_t c = threadIdx.x; c < w.k; c += kThreads) {
    out[blockIdx.x * stride + c] = from_float<T>(inside ? row.value(c) : not_a_number());
  }
}

__global__ void __launch_bounds__(kThreads)
    scales_kernel(const __grid_constant__ Levels w, uint64_t columns, float* out) {
  const uint64_t index = blockIdx.x * uint64_t{kThreads} + threadIdx.x;
  if (index >= w.n * columns) return;
  out[index] = Row(w, index / columns).rest(index % columns);
}

template <typename T>
__device__ float smoothed(const T* x, const float* mul, uint64_t column) {
  const float own = to_float(*x);
  return mul == nullptr ? own : to_float(from_float<T>(own * mul[column]));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    smooth_kernel(const T* x, uint64_t m, uint64_t k, uint64_t stride, const float* mul, T* out) {
  const uint64_t index = blockIdx.x * uint64_t{kThreads} + threadIdx.x;
  if (index >= m * k) return;
  const uint64_t row = index / k, column = index % k;
  out[index] = from_float<T>(to_float(x[row * stride + column]) * mul[column]);
}

/// Nearest value of e2m1, ties to even, saturating; NaN stays NaN (mx.cu has the same of groups).
__device__ float e2m1_nearest(float x) {
  const uint32_t a = magnitude(x);
  if (a > 0x7f800000u) return x;
  const float v = fminf(__uint_as_float(a), 6.0f);
  const float step = v < 2.0f ? 0.5f : v < 4.0f ? 1.0f : 2.0f;
  const float magic = step * 8388608.0f;
  return copysignf(v + magic - magic, x);
}

/// A thread a group of 16.
template <typename T>
__global__ void __launch_bounds__(kThreads) nvfp4_kernel(const Nvfp4Round c) {
  const uint64_t groups = (c.k + kGroup - 1) / kGroup;
  const uint64_t index = blockIdx.x * uint64_t{kThreads} + threadIdx.x;
  if (index >= c.m * groups) return;
  const uint64_t row = index / groups, first = index % groups * kGroup;
  const float g = c.divides ? *c.input : __fdiv_rn(1.0f, *c.input);
  const T* x = static_cast<const T*>(c.x) + row * c.stride;
  float values[kGroup];
  uint32_t top = 0;
#pragma unroll
  for (int i = 0; i < kGroup; ++i) {
    values[i] = first + i < c.k ? smoothed(x + first + i, c.mul, first + i) : 0.0f;
    top = max(top, magnitude(values[i]));
  }
  const float wide = g * (__uint_as_float(top) * (1.0f / 6.0f));
  const float sc = top >= 0x7f800000u ? not_a_number() : e4m3_value(e4m3_code(wide));
  const float inverse = __fdiv_rn(1.0f, g), step = sc * inverse;
  const float factor = step == 0.0f ? 0.0f : __fdiv_rn(1.0f, step);
  auto* out = static_cast<__nv_bfloat16*>(c.values) + row * c.k;
#pragma unroll
  for (int i = 0; i < kGroup; ++i) {
    if (first + i >= c.k) break;
    out[first + i] = __float2bfloat16_rn(e2m1_nearest(values[i] * factor + 0.0f) * sc);
  }
  if (first == 0) c.scales[row] = inverse;
}

unsigned blocks_of(uint64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

}  // namespace

cudaError_t decode_values(const Levels& w, uint64_t begin, uint64_t count, void* out,
                          uint32_t dtype, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return with_float(dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned blocks = blocks_of(count * ((w.k + kRun - 1) / kRun));
    decode_kernel<T, true><<<blocks, kThreads, 0, stream>>>(w, begin, count, static_cast<T*>(out));
    return cudaGetLastError();
  });
}

cudaError_t decode_levels(const Levels& w, uint64_t begin, uint64_t count, void* out,
                          cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  const unsigned blocks = blocks_of(count * ((w.k + kRun - 1) / kRun));
  decode_kernel<__nv_bfloat16, false>
      <<<blocks, kThreads, 0, stream>>>(w, begin, count, static_cast<__nv_bfloat16*>(out));
  return cudaGetLastError();
}

cudaError_t level_scales(const Levels& w, uint64_t columns, float* out, cudaStream_t stream) {
  if (w.n * columns == 0) return cudaSuccess;
  scales_kernel<<<blocks_of(w.n * columns), kThreads, 0, stream>>>(w, columns, out);
  return cudaGetLastError();
}

cudaError_t gather_values(const Levels& w, const int64_t* ids, uint64_t id_stride, uint64_t count,
                          void* out, uint64_t stride, uint32_t dtype, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return with_float(dtype, [&](auto zero) {
    using T = decltype(zero);
    gather_kernel<T><<<static_cast<unsigned>(count), kThreads, 0, stream>>>(
        w, ids, id_stride, static_cast<T*>(out), stride);
    return cudaGetLastError();
  });
}

cudaError_t smooth_rows(uint32_t dtype, const void* x, uint64_t m, uint64_t k, uint64_t stride,
                        const float* mul, void* out, cudaStream_t stream) {
  if (m == 0) return cudaSuccess;
  return with_float(dtype, [&](auto zero) {
    using T = decltype(zero);
    smooth_kernel<T><<<blocks_of(m * k), kThreads, 0, stream>>>(static_cast<const T*>(x), m, k,
                                                                stride, mul, static_cast<T*>(out));
    return cudaGetLastError();
  });
}

cudaError_t nvfp4_round_rows(const Nvfp4Round& call) {
  if (call.m == 0) return cudaSuccess;
  return with_float(call.dtype, [&](auto zero) {
    using T = decltype(zero);
    const uint64_t threads = call.m * ((call.k + kGroup - 1) / kGroup);
    nvfp4_kernel<T><<<blocks_of(threads), kThreads, 0, call.stream>>>(call);
    return cudaGetLastError();
  });
}

}  // namespace loadstone::common::cuda
