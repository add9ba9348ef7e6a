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

/// A code's value: (q - zero)·scale·second.
struct Factors {
  float zero, scale, second;
  __device__ float operator()(float q) const { return (q - zero) * scale * second; }
};

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

  __device__ float code(uint64_t column) const;
  __device__ uint64_t group_of(uint64_t column) const {
    return part_->order != nullptr ? static_cast<uint64_t>(part_->order[column])
                                   : column / w_.scale_width;
  }
  /// What codes of a group become values by, or levels.
  template <bool Values>
  __device__ Factors factors(uint64_t group) const {
    if (w_.codes != LevelCodes::e2m1) {
      return {zero(group), Values ? scale(group) : 1.0f, 1.0f};
    }
    const float sc = scale_code(group);
    if (!Values) return {0.0f, sc, 1.0f};
    const float s = global();
    if (w_.order == Nvfp4Order::multiplied) return {0.0f, sc * s, 1.0f};
    if (w_.order == Nvfp4Order::divided) return {0.0f, __fdiv_rn(sc, s), 1.0f};
    return {0.0f, __fdiv_rn(1.0f, s), sc};
  }
  /// What levels leave out.
  __device__ float rest(uint64_t group) const {
    if (w_.codes == LevelCodes::e2m1) {
      const float global = this->global();
      return w_.order == Nvfp4Order::multiplied ? global : __fdiv_rn(1.0f, global);
    }
    return value_at(part_->scales, w_.scale_dtype, scale_row_ * w_.scale_columns + group);
  }

  __device__ const uint8_t* bytes() const { return codes_; }
  __device__ uint32_t nibble() const { return nibble_; }

 private:
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
  const Levels& w_;
  const LevelPart* part_;
  const uint8_t* codes_;
  uint64_t row_, scale_row_;
  uint32_t nibble_;
};

__device__ float four_of(uint32_t four) {
  return static_cast<float>(static_cast<int>(four ^ 8u) - 8);
}
__device__ float e2m1_of(uint32_t four) {
  // Exponent and mantissa in a half's places are 2^-14 of the value, subnormals too.
  const auto bits = static_cast<uint16_t>((four & 7u) << 9 | (four & 8u) << 12);
  return __half2float(__ushort_as_half(bits)) * 16384.0f;
}

__device__ float Row::code(uint64_t column) const {
  switch (w_.codes) {
    case LevelCodes::e4m3:
      return e4m3_value(codes_[column]);
    case LevelCodes::int8:
      return static_cast<float>(static_cast<int8_t>(codes_[column]));
    case LevelCodes::int4:
      return four_of(codes_[column] >> nibble_ & 15u);
    case LevelCodes::words:
      return static_cast<float>(
          stream_value(reinterpret_cast<const uint32_t*>(codes_), 1, column, w_.bits));
    default:
      return e2m1_of(codes_[column / 2] >> (column % 2 * 4) & 15u);
  }
}

/// Columns [first, first + kRun) as code() has them, `first` a multiple of kRun.
template <LevelCodes C>
__device__ void codes_of_run(const Levels& w, const Row& row, uint64_t first, float (&q)[kRun]) {
  if constexpr (C == LevelCodes::e2m1) {
    const uint32_t all = *reinterpret_cast<const uint32_t*>(row.bytes() + first / 2);
#pragma unroll
    for (int i = 0; i < kRun; ++i) q[i] = e2m1_of(all >> 4 * i & 15u);
  } else if constexpr (C == LevelCodes::words) {
    const auto* words = reinterpret_cast<const uint32_t*>(row.bytes());
    if (w.bits == 4) {
      const uint32_t all = words[first / 8];
#pragma unroll
      for (int i = 0; i < kRun; ++i) q[i] = static_cast<float>(all >> 4 * i & 15u);
    } else {
#pragma unroll
      for (int i = 0; i < kRun; ++i) {
        q[i] = static_cast<float>(stream_value(words, 1, first + i, w.bits));
      }
    }
  } else {
    const auto held = *reinterpret_cast<const Pack<uint8_t, kRun>*>(row.bytes() + first);
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      q[i] = C == LevelCodes::e4m3   ? e4m3_value(held.at[i])
             : C == LevelCodes::int8 ? static_cast<float>(static_cast<int8_t>(held.at[i]))
                                     : four_of(held.at[i] >> row.nibble() & 15u);
    }
  }
}

/// Runs that lie in one group, aligned.
template <typename T, bool Values, LevelCodes C>
__global__ void __launch_bounds__(kThreads)
    decode_runs(const __grid_constant__ Levels w, uint64_t begin, uint64_t count, T* out) {
  const auto runs = static_cast<uint32_t>(w.k / kRun);
  const uint64_t index = blockIdx.x * uint64_t{kThreads} + threadIdx.x;
  if (index >= count * runs) return;
  const uint64_t line = index / runs, first = index % runs * kRun;
  const Row row(w, begin + line);
  const Factors by = row.factors<Values>(first / w.scale_width);
  float q[kRun];
  codes_of_run<C>(w, row, first, q);
  Pack<T, kRun> made;
#pragma unroll
  for (int i = 0; i < kRun; ++i) made.at[i] = from_float<T>(by(q[i]));
  *reinterpret_cast<Pack<T, kRun>*>(out + line * w.k + first) = made;
}

/// Any width, alignment and order of columns.
template <typename T, bool Values>
__global__ void __launch_bounds__(kThreads)
    decode_any(const __grid_constant__ Levels w, uint64_t begin, uint64_t count, T* out) {
  const uint64_t runs = (w.k + kRun - 1) / kRun;
  const uint64_t index = blockIdx.x * uint64_t{kThreads} + threadIdx.x;
  if (index >= count * runs) return;
  const uint64_t line = index / runs, first = index % runs * kRun;
  const Row row(w, begin + line);
  for (uint64_t c = first; c < first + kRun && c < w.k; ++c) {
    const Factors by = row.factors<Values>(row.group_of(c));
    out[line * w.k + c] = from_float<T>(by(row.code(c)));
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
    out[blockIdx.x * stride + c] =
        from_float<T>(inside ? row.factors<true>(row.group_of(c))(row.code(c)) : not_a_number());
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

/// Whether decode_runs takes W.
bool has_runs(const Levels& w) {
  for (int i = 0; i < w.count; ++i) {
    if (w.parts[i].order != nullptr) return false;
  }
  const uint64_t aligned = reinterpret_cast<uintptr_t>(w.at) | w.row_nbytes;
  const uint64_t unit = w.codes == LevelCodes::words || w.codes == LevelCodes::e2m1 ? 4 : kRun;
  return w.k % kRun == 0 && w.scale_width % kRun == 0 && w.k < 1u << 31 && aligned % unit == 0;
}

template <typename Body>
cudaError_t with_codes(LevelCodes codes, const Body& body) {
  switch (codes) {
    case LevelCodes::e4m3:
      return body.template operator()<LevelCodes::e4m3>();
    case LevelCodes::int8:
      return body.template operator()<LevelCodes::int8>();
    case LevelCodes::int4:
      return body.template operator()<LevelCodes::int4>();
    case LevelCodes::words:
      return body.template operator()<LevelCodes::words>();
    default:
      return body.template operator()<LevelCodes::e2m1>();
  }
}

template <typename T, bool Values>
cudaError_t decode(const Levels& w, uint64_t begin, uint64_t count, T* out, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  const unsigned blocks = blocks_of(count * ((w.k + kRun - 1) / kRun));
  if (!has_runs(w) || reinterpret_cast<uintptr_t>(out) % sizeof(Pack<T, kRun>) != 0) {
    decode_any<T, Values><<<blocks, kThreads, 0, stream>>>(w, begin, count, out);
    return cudaGetLastError();
  }
  return with_codes(w.codes, [&]<LevelCodes C>() {
    decode_runs<T, Values, C><<<blocks, kThreads, 0, stream>>>(w, begin, count, out);
    return cudaGetLastError();
  });
}

}  // namespace

cudaError_t decode_values(const Levels& w, uint64_t begin, uint64_t count, void* out,
                          uint32_t dtype, cudaStream_t stream) {
  return with_float(dtype, [&](auto zero) {
    using T = decltype(zero);
    return decode<T, true>(w, begin, count, static_cast<T*>(out), stream);
  });
}

cudaError_t decode_levels(const Levels& w, uint64_t begin, uint64_t count, void* out,
                          cudaStream_t stream) {
  return decode<__nv_bfloat16, false>(w, begin, count, static_cast<__nv_bfloat16*>(out), stream);
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
