#include "common/cuda/eights.cuh"
#include "common/cuda/ggml.hpp"
#include "common/cuda/ggml_blocks.cuh"

namespace loadstone::common::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRun = kGgmlRun;

// Floats: eight of them are a run of their own.
template <Type kType>
constexpr uint32_t kFactor = ggml::find_type(uint32_t{kType})->elems == 1 ? kRun : 1;
template <Type kType>
constexpr uint32_t kElems = ggml::find_type(uint32_t{kType})->elems* kFactor<kType>;
template <Type kType>
constexpr uint32_t kNbytes = ggml::find_type(uint32_t{kType})->nbytes* kFactor<kType>;

template <Type kType>
__device__ void eight_at(const uint8_t* row, uint32_t column, float (&to)[kRun]) {
  Block<kType>::eight(row + uint64_t{column / kElems<kType>} * kNbytes<kType>,
                      static_cast<int>(column % kElems<kType>), to);
}

template <Type kType, typename T>
__device__ Pack<T, kRun> decode_eight(const uint8_t* row, uint32_t column) {
  float values[kRun];
  eight_at<kType>(row, column, values);
  Pack<T, kRun> out;
#pragma unroll
  for (int j = 0; j < kRun; ++j) out.at[j] = from_float<T>(values[j]);
  return out;
}

/// What eights_product multiplies.
template <Type kType>
struct BlockRows {
  static constexpr uint32_t kElems = cuda::kElems<kType>;
  const uint8_t* at;
  uint64_t row_nbytes;
  __device__ void operator()(uint64_t row, uint32_t column, float (&to)[kRun]) const {
    eight_at<kType>(at + row * row_nbytes, column, to);
  }
};

/// A block: a row's columns, kThreads runs apart; `row_nbytes` of the run's rows.
template <Type kType, typename T>
__global__ void __launch_bounds__(kThreads)
    decode_kernel(const uint8_t* from, uint64_t row_nbytes, uint32_t k, T* out) {
  const uint64_t row = blockIdx.x;
  for (uint32_t c = (blockIdx.y * kThreads + threadIdx.x) * kRun; c < k;
       c += gridDim.y * kThreads * kRun) {
    *reinterpret_cast<Pack<T, kRun>*>(out + row * k + c) =
        decode_eight<kType, T>(from + row * row_nbytes, c);
  }
}

template <Type kType, typename T>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const GgmlRun run, uint64_t row_nbytes, const GgmlGather g) {
  const int64_t id = g.ids[blockIdx.x * g.id_stride];
  T* out = static_cast<T*>(g.out) + blockIdx.x * g.stride;
  const uint64_t row = static_cast<uint64_t>(id) - run.begin;
  const bool outside = id < 0 || (g.n != 0 && static_cast<uint64_t>(id) >= g.n);
  if (outside && g.n != 0) {
    for (uint64_t c = threadIdx.x; c < run.k; c += kThreads) out[c] = from_float<T>(not_a_number());
  }
  if (outside || static_cast<uint64_t>(id) < run.begin || row >= run.count) return;
  for (uint64_t c = threadIdx.x * uint64_t{kRun}; c < run.k; c += kThreads * kRun) {
    const auto values = decode_eight<kType, T>(run.at + row * row_nbytes, static_cast<uint32_t>(c));
#pragma unroll
    for (int j = 0; j < kRun; ++j) out[c + j] = values.at[j];
  }
}

template <typename Body>
cudaError_t with_type(Type type, const Body& body) {
  switch (type) {
#define LOADSTONE_CASE(name) \
  case Type::name:           \
    return body.template operator()<Type::name>();
    LOADSTONE_CASE(kF32)
    LOADSTONE_CASE(kF16)
    LOADSTONE_CASE(kBF16)
    LOADSTONE_CASE(kQ4_0)
    LOADSTONE_CASE(kQ4_1)
    LOADSTONE_CASE(kQ5_0)
    LOADSTONE_CASE(kQ5_1)
    LOADSTONE_CASE(kQ8_0)
    LOADSTONE_CASE(kQ2_K)
    LOADSTONE_CASE(kQ3_K)
    LOADSTONE_CASE(kQ4_K)
    LOADSTONE_CASE(kQ5_K)
    LOADSTONE_CASE(kQ6_K)
    LOADSTONE_CASE(kIQ2_XXS)
    LOADSTONE_CASE(kIQ2_XS)
    LOADSTONE_CASE(kIQ2_S)
    LOADSTONE_CASE(kIQ3_XXS)
    LOADSTONE_CASE(kIQ3_S)
    LOADSTONE_CASE(kIQ1_S)
    LOADSTONE_CASE(kIQ1_M)
    LOADSTONE_CASE(kIQ4_NL)
    LOADSTONE_CASE(kIQ4_XS)
    LOADSTONE_CASE(kTQ1_0)
    LOADSTONE_CASE(kTQ2_0)
    LOADSTONE_CASE(kMXFP4)
    LOADSTONE_CASE(kNVFP4)
#undef LOADSTONE_CASE
    default:
      return cudaErrorInvalidValue;
  }
}

uint64_t row_nbytes(const GgmlRun& run) {
  const ggml::TypeInfo& info = *ggml::find_type(uint32_t{run.type});
  return run.k / info.elems * info.nbytes;
}

}  // namespace

cudaError_t ggml_prepare(Type type) {
  const auto copy = [](auto& to, const auto& from) {
    static_assert(sizeof to == sizeof from);
    return cudaMemcpyToSymbol(to, from, sizeof from);
  };
  switch (type) {
    case Type::kIQ2_XXS:
      return copy(grid_iq2_xxs, ggml::kIq2XxsGrid);
    case Type::kIQ2_XS:
      return copy(grid_iq2_xs, ggml::kIq2XsGrid);
    case Type::kIQ2_S:
      return copy(grid_iq2_s, ggml::kIq2SGrid);
    case Type::kIQ3_XXS:
      return copy(grid_iq3_xxs, ggml::kIq3XxsGrid);
    case Type::kIQ3_S:
      return copy(grid_iq3_s, ggml::kIq3SGrid);
    case Type::kIQ1_S:
    case Type::kIQ1_M:
      return copy(grid_iq1_s, ggml::kIq1SGrid);
    default:
      return cudaSuccess;
  }
}

cudaError_t ggml_decode(const GgmlRun& run, uint64_t row, uint64_t count, void* out, uint32_t dtype,
                        cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  if (run.k % kRun != 0 || run.k >= 1u << 31) return cudaErrorInvalidValue;
  const auto k = static_cast<uint32_t>(run.k);
  const dim3 grid(static_cast<unsigned>(count), (k / kRun + kThreads - 1) / kThreads);
  const uint8_t* from = run.at + row * row_nbytes(run);
  return with_float(dtype, [&](auto zero) {
    using T = decltype(zero);
    return with_type(run.type, [&]<Type kType>() {
      decode_kernel<kType, T>
          <<<grid, kThreads, 0, stream>>>(from, row_nbytes(run), k, static_cast<T*>(out));
      return cudaGetLastError();
    });
  });
}

cudaError_t ggml_few_rows(const GgmlRun& run, const EightsProduct& call) {
  return with_type(run.type, [&]<Type kType>() {
    return eights_product(BlockRows<kType>{run.at, row_nbytes(run)}, call);
  });
}

cudaError_t ggml_gather(const GgmlRun& run, const GgmlGather& gather) {
  if (gather.count == 0) return cudaSuccess;
  if (run.k % kRun != 0 || run.k >= 1u << 31) return cudaErrorInvalidValue;
  return with_float(gather.dtype, [&](auto zero) {
    using T = decltype(zero);
    return with_type(run.type, [&]<Type kType>() {
      gather_kernel<kType, T><<<static_cast<unsigned>(gather.count), kThreads, 0, gather.stream>>>(
          run, row_nbytes(run), gather);
      return cudaGetLastError();
    });
  });
}

}  // namespace loadstone::common::cuda
