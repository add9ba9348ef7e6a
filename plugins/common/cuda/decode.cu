#include "common/cuda/decode.hpp"
#include "common/cuda/types.cuh"

namespace loadstone::common::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 8;  // codes at once
constexpr int kPacks = 4;   // of them a thread, read before the first is used

__device__ float e2m1_value(uint32_t code) {
  // 0, .5, 1, 1.5, 2, 3, 4, 6: exponent and mantissa bits moved to float32's places.
  const uint32_t low = code & 7u;
  const float value = low == 0   ? 0.0f
                      : low == 1 ? 0.5f
                                 : __uint_as_float((126u + (low >> 1)) << 23 | (low & 1u) << 22);
  return code & 8u ? -value : value;
}

template <CodeKind K>
__device__ float code_value(const uint8_t* row, uint64_t column) {
  if constexpr (K == CodeKind::e2m1) {
    return e2m1_value(row[column / 2] >> (column % 2 * 4) & 15u);
  } else if constexpr (K == CodeKind::int8) {
    return static_cast<float>(static_cast<int8_t>(row[column]));
  } else if constexpr (K == CodeKind::e5m2) {
    return e5m2_value(row[column]);
  } else {
    return e4m3_value(row[column]);
  }
}

__device__ float scale_value(const CodedMatrix& w, uint64_t index) {
  if (w.scale_kind == ScaleKind::e8m0) {
    return e8m0_value(static_cast<const uint8_t*>(w.scales)[index]);
  }
  if (w.scale_kind == ScaleKind::bf16) {
    return to_float(static_cast<const __nv_bfloat16*>(w.scales)[index]);
  }
  if (w.scale_kind == ScaleKind::f16) return to_float(static_cast<const __half*>(w.scales)[index]);
  const uint64_t stride = w.scale_kind == ScaleKind::f32_in_i64 ? 2 : 1;  // little endian
  return static_cast<const float*>(w.scales)[index * stride];
}

template <CodeKind K>
inline constexpr int kPackNbytes = K == CodeKind::e2m1 ? kVector / 2 : kVector;

template <CodeKind K>
__device__ float2 two_values(const uint8_t* pack, int pair) {
  if constexpr (K == CodeKind::e2m1) {
    // Exponent and mantissa in a half's places are 2^-14 of the value, subnormals too.
    const uint32_t both = pack[pair];
    const uint32_t bits =
        (both & 0x07u) << 9 | (both & 0x08u) << 12 | (both & 0x70u) << 21 | (both & 0x80u) << 24;
    const float2 small = __half22float2(*reinterpret_cast<const __half2*>(&bits));
    return make_float2(small.x * 16384.0f, small.y * 16384.0f);
  } else if constexpr (K == CodeKind::int8) {
    return make_float2(static_cast<int8_t>(pack[2 * pair]),
                       static_cast<int8_t>(pack[2 * pair + 1]));
  } else {
    const auto codes = static_cast<__nv_fp8x2_storage_t>(pack[2 * pair] | pack[2 * pair + 1] << 8);
    return __half22float2(
        __half2(__nv_cvt_fp8x2_to_halfraw2(codes, K == CodeKind::e5m2 ? __NV_E5M2 : __NV_E4M3)));
  }
}

/// Whole packs, aligned, of one scale each. A block takes kThreads · kPacks packs of a row.
template <CodeKind K, typename T>
__global__ void __launch_bounds__(kThreads)
    decode_packs(const __grid_constant__ CodedMatrix w, uint64_t begin, T* out) {
  using Codes = Pack<uint8_t, kPackNbytes<K>>;
  const uint64_t row = begin + blockIdx.x;
  const auto packs = static_cast<uint32_t>(w.k / kVector);
  const auto packs_a_scale = static_cast<uint32_t>(w.scale_width / kVector);
  const auto* from = reinterpret_cast<const Codes*>(w.codes + row * w.row_nbytes());
  auto* to = reinterpret_cast<Pack<T, kVector>*>(out + blockIdx.x * w.k);
  const uint64_t scales = w.map.scale_row(row) * w.scale_columns;
  const uint32_t first = blockIdx.y * blockDim.x * kPacks + threadIdx.x;
  Codes held[kPacks];
  float scale[kPacks];
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
    const uint32_t at = first + i * blockDim.x;
    if (at >= packs) continue;
    held[i] = from[at];
    scale[i] = scale_value(w, scales + at / packs_a_scale);
  }
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
    const uint32_t at = first + i * blockDim.x;
    if (at >= packs) continue;
    Pack<T, kVector> made;
#pragma unroll
    for (int j = 0; j < kVector / 2; ++j) {
      const float2 two = two_values<K>(held[i].at, j);
      made.at[2 * j] = from_float<T>(two.x * scale[i]);
      made.at[2 * j + 1] = from_float<T>(two.y * scale[i]);
    }
    to[at] = made;
  }
}

/// kVector columns of one row, any width and alignment.
template <CodeKind K, typename T>
__device__ void decode_run(const CodedMatrix& w, uint64_t row, uint64_t column, T* out) {
  const uint8_t* codes = w.codes + row * (K == CodeKind::e2m1 ? w.k / 2 : w.k);
  const uint64_t scales = w.map.scale_row(row) * w.scale_columns;
  for (int i = 0; i < kVector && column + i < w.k; ++i) {
    const float scale = scale_value(w, scales + (column + i) / w.scale_width);
    out[i] = from_float<T>(code_value<K>(codes, column + i) * scale);
  }
}

template <CodeKind K, typename T>
__global__ void __launch_bounds__(kThreads)
    decode_any(const __grid_constant__ CodedMatrix w, uint64_t begin, uint64_t count, T* out) {
  const uint64_t runs = (w.k + kVector - 1) / kVector;
  const uint64_t index = blockIdx.x * uint64_t{kThreads} + threadIdx.x;
  if (index >= count * runs) return;
  const uint64_t row = index / runs, column = index % runs * kVector;
  decode_run<K>(w, begin + row, column, out + row * w.k + column);
}

template <CodeKind K, typename T>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const __grid_constant__ CodedMatrix w, const int64_t* ids, uint64_t id_stride,
                  T* out, uint64_t stride) {
  const uint64_t line = blockIdx.x;
  const int64_t row = ids[line * id_stride];
  const bool inside = row >= 0 && static_cast<uint64_t>(row) < w.n;
  for (uint64_t c = threadIdx.x * uint64_t{kVector}; c < w.k; c += uint64_t{kThreads} * kVector) {
    T* to = out + line * stride + c;
    if (inside) {
      decode_run<K>(w, static_cast<uint64_t>(row), c, to);
    } else {
      for (int i = 0; i < kVector && c + i < w.k; ++i) to[i] = from_float<T>(not_a_number());
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    expand_kernel(const __grid_constant__ CodedMatrix w, uint64_t columns, float* out,
                  uint64_t total) {
  const uint64_t i = blockIdx.x * uint64_t{kThreads} + threadIdx.x;
  if (i >= total) return;
  out[i] = scale_value(w, w.map.scale_row(i / columns) * columns + i % columns);
}

template <typename Body>
cudaError_t with_kind(CodeKind kind, const Body& body) {
  switch (kind) {
    case CodeKind::e4m3:
      return body.template operator()<CodeKind::e4m3>();
    case CodeKind::e5m2:
      return body.template operator()<CodeKind::e5m2>();
    case CodeKind::int8:
      return body.template operator()<CodeKind::int8>();
    default:
      return body.template operator()<CodeKind::e2m1>();
  }
}

}  // namespace

cudaError_t decode_rows(const CodedMatrix& w, uint64_t begin, uint64_t count, void* out,
                        uint32_t dtype, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return with_float(dtype, [&](auto zero) {
    using T = decltype(zero);
    auto* to = static_cast<T*>(out);
    return with_kind(w.kind, [&]<CodeKind K>() {
      const uint64_t packs = w.k / kVector;
      if (w.k % kVector == 0 && w.scale_width % kVector == 0 && packs < 1u << 24 &&
          reinterpret_cast<uintptr_t>(w.codes) % kPackNbytes<K> == 0 &&
          reinterpret_cast<uintptr_t>(out) % sizeof(Pack<T, kVector>) == 0) {
        const unsigned threads = packs <= 128 * kPacks ? 128 : kThreads;
        const dim3 grid(static_cast<unsigned>(count),
                        static_cast<unsigned>((packs + threads * kPacks - 1) / (threads * kPacks)));
        decode_packs<K, T><<<grid, threads, 0, stream>>>(w, begin, to);
        return cudaGetLastError();
      }
      const uint64_t runs = count * ((w.k + kVector - 1) / kVector);
      const auto grid = static_cast<unsigned>((runs + kThreads - 1) / kThreads);
      decode_any<K, T><<<grid, kThreads, 0, stream>>>(w, begin, count, to);
      return cudaGetLastError();
    });
  });
}

cudaError_t gather_rows(const CodedMatrix& w, const int64_t* ids, uint64_t id_stride,
                        uint64_t count, void* out, uint64_t stride, uint32_t dtype,
                        cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return with_float(dtype, [&](auto zero) {
    using T = decltype(zero);
    return with_kind(w.kind, [&]<CodeKind K>() {
      gather_kernel<K, T><<<static_cast<unsigned>(count), kThreads, 0, stream>>>(
          w, ids, id_stride, static_cast<T*>(out), stride);
      return cudaGetLastError();
    });
  });
}

cudaError_t expand_scales(const CodedMatrix& w, uint64_t columns, float* out, cudaStream_t stream) {
  const uint64_t total = w.n * columns;
  if (total == 0) return cudaSuccess;
  expand_kernel<<<static_cast<unsigned>((total + kThreads - 1) / kThreads), kThreads, 0, stream>>>(
      w, columns, out, total);
  return cudaGetLastError();
}

}  // namespace loadstone::common::cuda
