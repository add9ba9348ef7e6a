#include "common/cuda/mx.hpp"
#include "common/cuda/mx_groups.cuh"

namespace loadstone::common::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 8;  // values a thread where rows are whole groups; four threads a group

template <MxElement E>
__device__ float nearest(float x) {
  if constexpr (E == MxElement::e4m3) return e4m3_value(e4m3_code(x));
  return e2m1_nearest(x);
}

template <typename T>
__device__ float read(T x, const float* mul, uint64_t column) {
  if (mul == nullptr) return to_float(x);
  return to_float(from_float<T>(to_float(x) * to_float(from_float<T>(mul[column]))));
}

template <MxRule R, MxElement E>
struct Rounder {
  float factor, scale;
  __device__ explicit Rounder(uint32_t amax) {
    const uint32_t b = scale_byte<R, E>(__uint_as_float(amax));
    factor = b == 255 ? not_a_number() : e8m0_value(static_cast<uint8_t>(254 - b));
    scale = e8m0_value(static_cast<uint8_t>(b));
  }
  __device__ __nv_bfloat16 operator()(float x) const {
    return __float2bfloat16_rn(nearest<E>(x * factor) * scale);
  }
};

template <typename T, MxRule R, MxElement E>
__global__ void __launch_bounds__(kThreads) round_whole(const MxRound c) {
  const uint64_t packs = c.k / kVector;
  const uint64_t index = blockIdx.x * uint64_t{kThreads} + threadIdx.x;
  const bool inside = index < c.m * packs;
  const uint64_t at = inside ? index : 0;
  const uint64_t row = at / packs, column = at % packs * kVector;
  const auto held = *reinterpret_cast<const Pack<T, kVector>*>(static_cast<const T*>(c.x) +
                                                               row * c.stride + column);
  float x[kVector];
  uint32_t top = 0;
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    x[i] = read(held.at[i], c.mul, column + i);
    top = max(top, magnitude(x[i]));
  }
  top = max(top, __shfl_xor_sync(0xffffffffu, top, 1));
  top = max(top, __shfl_xor_sync(0xffffffffu, top, 2));
  if (!inside) return;
  const Rounder<R, E> rounder(top);
  Pack<__nv_bfloat16, kVector> out;
#pragma unroll
  for (int i = 0; i < kVector; ++i) out.at[i] = rounder(x[i]);
  *reinterpret_cast<Pack<__nv_bfloat16, kVector>*>(static_cast<__nv_bfloat16*>(c.values) +
                                                   row * c.k + column) = out;
}

/// A warp a group, any width and alignment.
template <typename T, MxRule R, MxElement E>
__global__ void __launch_bounds__(kThreads) round_any(const MxRound c) {
  const uint64_t groups = (c.k + kMxGroup - 1) / kMxGroup;
  const uint64_t index = (blockIdx.x * uint64_t{kThreads} + threadIdx.x) / 32;
  if (index >= c.m * groups) return;
  const uint64_t row = index / groups;
  const uint64_t column = index % groups * kMxGroup + threadIdx.x % 32;
  const bool inside = column < c.k;
  const float x =
      inside ? read(static_cast<const T*>(c.x)[row * c.stride + column], c.mul, column) : 0.0f;
  const uint32_t top = __reduce_max_sync(0xffffffffu, magnitude(x));
  const Rounder<R, E> rounder(top);
  if (inside) static_cast<__nv_bfloat16*>(c.values)[row * c.k + column] = rounder(x);
}

template <typename T, MxRule R, MxElement E>
cudaError_t launch(const MxRound& c) {
  const bool whole =
      c.k % kMxGroup == 0 &&
      (reinterpret_cast<uintptr_t>(c.x) | c.stride * sizeof(T)) % sizeof(Pack<T, kVector>) == 0 &&
      reinterpret_cast<uintptr_t>(c.values) % 16 == 0;
  const uint64_t groups = c.m * ((c.k + kMxGroup - 1) / kMxGroup);
  const uint64_t threads = whole ? groups * (kMxGroup / kVector) : groups * 32;
  const auto grid = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
  if (whole) {
    round_whole<T, R, E><<<grid, kThreads, 0, c.stream>>>(c);
  } else {
    round_any<T, R, E><<<grid, kThreads, 0, c.stream>>>(c);
  }
  return cudaGetLastError();
}

// ---- dual scale ----

constexpr int kDualGroup = 512;
constexpr int kDualValues = kDualGroup / 32;  // a lane: half a group of 32

/// x, times mul, as what it is cast to first.
template <typename T>
__device__ float read_as(const DualRound& c, uint64_t row, uint64_t column) {
  const float x = float_at(c.x, c.dtype, row * c.stride + column);
  const T own = from_float<T>(x);
  if (c.mul == nullptr) return to_float(own);
  return to_float(from_float<T>(to_float(own) * to_float(from_float<T>(c.mul[column]))));
}

/// A warp a group of 512 (numerics/dual.hpp).
template <typename T>
__global__ void __launch_bounds__(kThreads) round_dual(const DualRound c) {
  const uint64_t groups = c.k / kDualGroup;
  const uint64_t index = (blockIdx.x * uint64_t{kThreads} + threadIdx.x) / 32;
  if (index >= c.m * groups) return;
  const uint64_t row = index / groups;
  const uint64_t column = index % groups * kDualGroup + threadIdx.x % 32 * kDualValues;
  float x[kDualValues];
  uint32_t top = 0;
#pragma unroll
  for (int i = 0; i < kDualValues; ++i) {
    x[i] = read_as<T>(c, row, column + i);
    top = max(top, magnitude(x[i]));
  }
  const float amax = __uint_as_float(__reduce_max_sync(0xffffffffu, top));
  const float sixth = amax * (1.0f / 6.0f);
  const float d = !is_finite(amax) ? not_a_number() : sixth < 0x1p-126f ? 0.0f : sixth;
  top = 0;
#pragma unroll
  for (int i = 0; i < kDualValues; ++i) {
    // A zero keeps its sign, anything else in so small a group becomes +0.
    const float small = x[i] == 0.0f ? x[i] : 0.0f;
    x[i] = d == 0.0f ? small : to_float(from_float<T>(__fdiv_rn(x[i], d)));
    top = max(top, magnitude(x[i]));
  }
  top = max(top, __shfl_xor_sync(0xffffffffu, top, 1));
  const Rounder<MxRule::ocp, MxElement::e2m1> rounder(top);
  auto* out = static_cast<__nv_bfloat16*>(c.values) + row * c.k + column;
#pragma unroll
  for (int begin = 0; begin < kDualValues; begin += kVector) {
    Pack<__nv_bfloat16, kVector> made;
#pragma unroll
    for (int i = 0; i < kVector; ++i) made.at[i] = rounder(x[begin + i]);
    *reinterpret_cast<Pack<__nv_bfloat16, kVector>*>(out + begin) = made;
  }
  if (threadIdx.x % 32 == 0) c.scales[index] = d;
}

}  // namespace

cudaError_t mx_round_rows(const MxRound& call) {
  if (call.m == 0) return cudaSuccess;
  return with_float(call.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (call.rule == MxRule::rceil) return launch<T, MxRule::rceil, MxElement::e4m3>(call);
    if (call.rule == MxRule::uos) return launch<T, MxRule::uos, MxElement::e2m1>(call);
    if (call.element == MxElement::e4m3) return launch<T, MxRule::ocp, MxElement::e4m3>(call);
    return launch<T, MxRule::ocp, MxElement::e2m1>(call);
  });
}

cudaError_t dual_round_rows(const DualRound& call) {
  if (call.m == 0) return cudaSuccess;
  const uint64_t threads = call.m * (call.k / kDualGroup) * 32;
  const auto grid = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
  if (call.dtype == LS_DTYPE_F16 && call.mul == nullptr) {
    round_dual<__half><<<grid, kThreads, 0, call.stream>>>(call);
  } else {
    round_dual<__nv_bfloat16><<<grid, kThreads, 0, call.stream>>>(call);
  }
  return cudaGetLastError();
}

}  // namespace loadstone::common::cuda
