#include "common/cuda/quantize.hpp"
#include "common/cuda/types.cuh"

namespace loadstone::common::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMostThreads = 512;  // of a row's block
constexpr int kVector = 8;
constexpr int kGroupPacks = 4;
constexpr float kLeastScale = 1.0f / (448.0f * 512.0f);

/// A kernel that is launched to overlap this one's end may start once every block has come here; it
/// waits for this one's writes.
__device__ void let_kernels_after_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/// The largest of a block's values, in every thread.
__device__ uint32_t block_max(uint32_t value) {
  __shared__ uint32_t tops[kMostThreads / 32];
  value = __reduce_max_sync(0xffffffffu, value);
  if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = value;
  __syncthreads();
  for (unsigned i = 0; i < blockDim.x / 32; ++i) value = max(value, tops[i]);
  return value;
}

__device__ float at_least(float value, float bound) { return value < bound ? bound : value; }

template <RowRule R>
constexpr bool kIntegerRow = R == RowRule::int8_row || R == RowRule::int4_row;
template <RowRule R>
constexpr bool kIntegerFixed = R == RowRule::int8_fixed || R == RowRule::int8_affine;
template <RowRule R>
constexpr bool kInteger = kIntegerRow<R> || kIntegerFixed<R>;

/// x / divisor, rounded once, in a third of a division's instructions: `inverse` is 1/divisor,
/// rounded, and the second of two corrections lands on the quotient (Markstein). Remainders that
/// leave float32's range belong to quotients whose code is 0.
__device__ float quotient(float x, float divisor, float inverse) {
  float q = x * inverse;
  q = __fmaf_rn(__fmaf_rn(-q, divisor, x), inverse, q);
  q = __fmaf_rn(__fmaf_rn(-q, divisor, x), inverse, q);
  return copysignf(q, x);  // zeros have lost it
}

/// Four codes, saturating, the first in the lowest byte.
__device__ uint32_t e4m3_four(float a, float b, float c, float d) {
  const uint32_t low = __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, __NV_E4M3);
  return low | __nv_cvt_float2_to_fp8x2(make_float2(c, d), __NV_SATFINITE, __NV_E4M3) << 16;
}
__device__ uint32_t int8_four(int a, int b, int c, int d) {
  uint32_t upper, out;
  asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, 0;" : "=r"(upper) : "r"(d), "r"(c));
  asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;" : "=r"(out) : "r"(b), "r"(a), "r"(upper));
  return out;
}

/// One row's codes: what is decided once a row, and the code of a value.
template <RowRule R>
struct Coder {
  float scale = 0, factor = 0, shift = 0;
  bool divides = false;
  double wide = 0;

  __device__ Coder(float amax, float given, float offset) {
    const bool finite = is_finite(amax);
    if constexpr (R == RowRule::fp8_row) {
      scale = finite ? at_least(amax / 448.0f, kLeastScale) : not_a_number();
      factor = 1.0f / scale;
    } else if constexpr (kIntegerRow<R>) {
      constexpr float kTop = R == RowRule::int4_row ? 7.0f : 127.0f;
      scale = finite ? amax / kTop : not_a_number();
      factor = !finite || amax == 0.0f ? 0.0f : kTop / amax;
      // Magnitudes under 4e-37 lie outside the contract; float64 holds the factor.
      if (!is_finite(factor)) wide = static_cast<double>(kTop) / static_cast<double>(amax);
    } else if constexpr (kIntegerFixed<R>) {
      const bool affine = R == RowRule::int8_affine;
      factor = affine ? 1.0f / given : given;
      shift = offset;
      scale = !finite ? not_a_number() : affine ? 1.0f : given;
    } else {
      const bool tensor = R == RowRule::fp8_tensor;
      const float whole = given / 448.0f;
      const float own = !tensor ? given : whole == 0.0f ? 1.0f : whole;
      factor = 1.0f / own;
      divides = !is_finite(factor);
      if (divides) factor = own;
      if (tensor && given == 0.0f) factor = 0.0f;
      scale = is_finite(tensor ? given : amax) ? own : not_a_number();
    }
  }
  /// What is rounded to a code.
  __device__ float of(float x) const {
    if constexpr (R == RowRule::fp8_row) return quotient(x, scale, factor);
    if (factor == 0.0f) return 0.0f;
    return divides ? x / factor : x * factor;
  }
  __device__ int integer(float x) const {
    if constexpr (R == RowRule::int8_fixed) return __float2int_rn(x / factor);
    if constexpr (R == RowRule::int8_affine) return __float2int_rn(x * factor + shift);
    return wide != 0 ? static_cast<int>(rint(static_cast<double>(x) * wide))
                     : __float2int_rn(x * factor);
  }
  __device__ uint8_t operator()(float x) const {
    if constexpr (kInteger<R>) {
      return static_cast<uint8_t>(static_cast<int8_t>(max(-128, min(127, integer(x)))));
    } else {
      return e4m3_code(of(x));
    }
  }
  /// kVector codes, first lowest.
  __device__ uint2 operator()(const float* x) const {
    static_assert(kVector == 8);
    if constexpr (kInteger<R>) {
      return make_uint2(int8_four(integer(x[0]), integer(x[1]), integer(x[2]), integer(x[3])),
                        int8_four(integer(x[4]), integer(x[5]), integer(x[6]), integer(x[7])));
    } else {
      return make_uint2(e4m3_four(of(x[0]), of(x[1]), of(x[2]), of(x[3])),
                        e4m3_four(of(x[4]), of(x[5]), of(x[6]), of(x[7])));
    }
  }
};

struct GroupCoder {
  float scale, inverse;

  __device__ explicit GroupCoder(uint32_t top) {
    const float amax = __uint_as_float(top);
    scale = is_finite(amax) ? at_least(amax, 1e-10f) / 448.0f : not_a_number();
    inverse = 1.0f / scale;
  }
  __device__ float of(float x) const { return quotient(x, scale, inverse); }
  __device__ uint2 operator()(const float* x) const {
    return make_uint2(e4m3_four(of(x[0]), of(x[1]), of(x[2]), of(x[3])),
                      e4m3_four(of(x[4]), of(x[5]), of(x[6]), of(x[7])));
  }
};

template <RowRule R>
__device__ Coder<R> row_coder(uint32_t top, const float* given, const float* offset, float* scale) {
  const Coder<R> coder(__uint_as_float(top), given != nullptr ? *given : 0.0f,
                       offset != nullptr ? *offset : 0.0f);
  if (threadIdx.x == 0) *scale = coder.scale;
  return coder;
}

template <typename T>
__device__ uint32_t largest(const Pack<T, kVector>& pack) {
  uint32_t top = 0;
#pragma unroll
  for (int j = 0; j < kVector; ++j) top = max(top, magnitude(to_float(pack.at[j])));
  return top;
}

template <typename T, typename C>
__device__ uint2 codes_of(const Pack<T, kVector>& pack, const C& coder) {
  float x[kVector];
#pragma unroll
  for (int j = 0; j < kVector; ++j) x[j] = to_float(pack.at[j]);
  return coder(x);
}

/// Rows that fit the block's registers: NV packs a thread. The row is read once.
template <typename T, RowRule R, int NV>
__global__ void __launch_bounds__(kMostThreads)
    rows_in_registers(const T* x, uint64_t stride, int k, uint8_t* codes, float* scales,
                      const float* given, const float* offset, const float*) {
  let_kernels_after_start();
  const uint64_t row = blockIdx.x;
  const auto* from = reinterpret_cast<const Pack<T, kVector>*>(x + row * stride);
  auto* to = reinterpret_cast<uint2*>(codes + row * static_cast<uint64_t>(k));
  const int count = k / kVector, threads = static_cast<int>(blockDim.x);
  Pack<T, kVector> held[NV];
  uint32_t top = 0;
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    const int at = i * threads + static_cast<int>(threadIdx.x);
    if (at < count) held[i] = from[at];
  }
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    if (i * threads + static_cast<int>(threadIdx.x) < count) top = max(top, largest(held[i]));
  }
  const Coder<R> coder = row_coder<R>(block_max(top), given, offset, scales + row);
#pragma unroll
  for (int i = 0; i < NV; ++i) {
    const int at = i * threads + static_cast<int>(threadIdx.x);
    if (at < count) to[at] = codes_of(held[i], coder);
  }
}

/// Any width and alignment: the second read comes from the cache.
template <typename T, RowRule R>
__global__ void __launch_bounds__(kThreads)
    rows_read_twice(const T* x, uint64_t stride, int k, uint8_t* codes, float* scales,
                    const float* given, const float* offset, const float* mul) {
  const uint64_t row = blockIdx.x;
  const T* from = x + row * stride;
  uint8_t* to = codes + row * static_cast<uint64_t>(k);
  const auto value = [&](int i) {
    const float own = to_float(from[i]);
    return mul == nullptr ? own : to_float(from_float<T>(own * to_float(from_float<T>(mul[i]))));
  };
  uint32_t top = 0;
  for (int i = static_cast<int>(threadIdx.x); i < k; i += kThreads) {
    top = max(top, magnitude(value(i)));
  }
  const Coder<R> coder = row_coder<R>(block_max(top), given, offset, scales + row);
  for (int i = static_cast<int>(threadIdx.x); i < k; i += kThreads) to[i] = coder(value(i));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    amax_rows(const T* x, uint64_t stride, int k, uint32_t* amax) {
  const T* from = x + blockIdx.x * stride;
  uint32_t top = 0;
  for (int i = static_cast<int>(threadIdx.x); i < k; i += kThreads) {
    top = max(top, magnitude(to_float(from[i])));
  }
  top = block_max(top);
  if (threadIdx.x == 0) atomicMax(amax, top);
}

/// A group is `lanes` packs, neighbours in a warp: `lanes` is a power of two up to 32.
/// kGroupPacks packs a thread, read before the first is used.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    groups_of_packs(const T* x, uint64_t stride, uint32_t packs, uint32_t lanes, uint32_t m,
                    uint8_t* codes, float* scales) {
  const uint32_t total = m * packs;
  const uint32_t first = blockIdx.x * (kThreads * kGroupPacks) + threadIdx.x;
  Pack<T, kVector> held[kGroupPacks];
#pragma unroll
  for (int i = 0; i < kGroupPacks; ++i) {
    const uint32_t at = first + i * kThreads;
    held[i] = Pack<T, kVector>{};
    if (at >= total) continue;
    const uint32_t row = at / packs;
    held[i] = reinterpret_cast<const Pack<T, kVector>*>(x + row * stride)[at - row * packs];
  }
#pragma unroll
  for (int i = 0; i < kGroupPacks; ++i) {
    const uint32_t at = first + i * kThreads;
    uint32_t top = largest(held[i]);
    for (uint32_t far = 1; far < lanes; far *= 2) {
      top = max(top, __shfl_xor_sync(0xffffffffu, top, far));
    }
    if (at >= total) continue;
    const GroupCoder coder(top);
    reinterpret_cast<uint2*>(codes)[at] = codes_of(held[i], coder);
    const uint32_t row = at / packs, column = at - row * packs;
    if (column % lanes == 0) scales[uint64_t{column / lanes} * m + row] = coder.scale;
  }
}

/// A warp a group.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    groups_kernel(const T* x, uint64_t stride, int k, int group, uint64_t m, uint8_t* codes,
                  float* scales) {
  const int lane = static_cast<int>(threadIdx.x % 32), groups = k / group;
  const uint64_t index = (blockIdx.x * uint64_t{kThreads} + threadIdx.x) / 32;
  if (index >= m * static_cast<uint64_t>(groups)) return;
  const uint64_t row = index / static_cast<uint64_t>(groups);
  const uint64_t g = index % static_cast<uint64_t>(groups);
  const T* from = x + row * stride + g * static_cast<uint64_t>(group);
  uint8_t* to = codes + row * static_cast<uint64_t>(k) + g * static_cast<uint64_t>(group);
  uint32_t top = 0;
  for (int i = lane; i < group; i += 32) top = max(top, magnitude(to_float(from[i])));
  const GroupCoder coder(__reduce_max_sync(0xffffffffu, top));
  if (lane == 0) scales[g * m + row] = coder.scale;
  for (int i = lane; i < group; i += 32) to[i] = e4m3_code(coder.of(to_float(from[i])));
}

/// Whether rows of whole packs can be read and their codes written at once.
template <typename T>
bool is_packed(const RowsCall& c) {
  return c.k % kVector == 0 &&
         (reinterpret_cast<uintptr_t>(c.x) | c.stride * sizeof(T)) % sizeof(Pack<T, kVector>) ==
             0 &&
         reinterpret_cast<uintptr_t>(c.codes) % kVector == 0;
}

template <typename T, RowRule R>
cudaError_t launch_rows(const RowsCall& c) {
  const auto* x = static_cast<const T*>(c.x);
  const auto grid = static_cast<unsigned>(c.m);
  const int k = static_cast<int>(c.k);
  const auto run = [&](auto kernel, unsigned threads) {
    kernel<<<grid, threads, 0, c.stream>>>(x, c.stride, k, c.codes, c.scales, c.given, c.offset,
                                           c.mul);
    return cudaGetLastError();
  };
  constexpr uint64_t kMostPacks = 4;
  const uint64_t packs = c.k / kVector;
  if (c.mul != nullptr || !is_packed<T>(c) || packs > kMostThreads * kMostPacks) {
    return run(rows_read_twice<T, R>, kThreads);
  }
  unsigned threads = 128;
  while (threads * kMostPacks < packs) threads *= 2;
  switch ((packs + threads - 1) / threads) {
    case 1:
      return run(rows_in_registers<T, R, 1>, threads);
    case 2:
      return run(rows_in_registers<T, R, 2>, threads);
    case 3:
      return run(rows_in_registers<T, R, 3>, threads);
    default:
      return run(rows_in_registers<T, R, 4>, threads);
  }
}

}  // namespace

cudaError_t quantize_rows(RowRule rule, const RowsCall& call) {
  if (call.m == 0) return cudaSuccess;
  return with_float(call.dtype, [&](auto zero) {
    using T = decltype(zero);
    switch (rule) {
      case RowRule::fp8_row:
        return launch_rows<T, RowRule::fp8_row>(call);
      case RowRule::fp8_tensor:
        return launch_rows<T, RowRule::fp8_tensor>(call);
      case RowRule::fp8_fixed:
        return launch_rows<T, RowRule::fp8_fixed>(call);
      case RowRule::int4_row:
        return launch_rows<T, RowRule::int4_row>(call);
      case RowRule::int8_fixed:
        return launch_rows<T, RowRule::int8_fixed>(call);
      case RowRule::int8_affine:
        return launch_rows<T, RowRule::int8_affine>(call);
      default:
        return launch_rows<T, RowRule::int8_row>(call);
    }
  });
}

cudaError_t tensor_amax(const RowsCall& call, float* amax) {
  const cudaError_t zeroed = cudaMemsetAsync(amax, 0, sizeof *amax, call.stream);
  if (zeroed != cudaSuccess || call.m == 0) return zeroed;
  return with_float(call.dtype, [&](auto zero) {
    using T = decltype(zero);
    amax_rows<T><<<static_cast<unsigned>(call.m), kThreads, 0, call.stream>>>(
        static_cast<const T*>(call.x), call.stride, static_cast<int>(call.k),
        reinterpret_cast<uint32_t*>(amax));
    return cudaGetLastError();
  });
}

cudaError_t quantize_groups(const RowsCall& call, uint64_t group) {
  if (call.m == 0) return cudaSuccess;
  return with_float(call.dtype, [&](auto zero) {
    using T = decltype(zero);
    const uint64_t lanes = group / kVector, packs = call.k / kVector, total = call.m * packs;
    if (is_packed<T>(call) && lanes <= 32 && (lanes & (lanes - 1)) == 0 && total < 1u << 31) {
      const auto grid =
          static_cast<unsigned>((total + kThreads * kGroupPacks - 1) / (kThreads * kGroupPacks));
      groups_of_packs<T><<<grid, kThreads, 0, call.stream>>>(
          static_cast<const T*>(call.x), call.stride, static_cast<uint32_t>(packs),
          static_cast<uint32_t>(lanes), static_cast<uint32_t>(call.m), call.codes, call.scales);
      return cudaGetLastError();
    }
    const uint64_t warps = call.m * (call.k / group);
    const auto grid = static_cast<unsigned>((warps + kThreads / 32 - 1) / (kThreads / 32));
    groups_kernel<T><<<grid, kThreads, 0, call.stream>>>(
        static_cast<const T*>(call.x), call.stride, static_cast<int>(call.k),
        static_cast<int>(group), call.m, call.codes, call.scales);
    return cudaGetLastError();
  });
}

}  // namespace loadstone::common::cuda
