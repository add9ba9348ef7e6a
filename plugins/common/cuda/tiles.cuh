// What kernels of whole tiles on Hopper share: blocks work in clusters of two, one warpgroup of a
// block fetches stages, two multiply. Private to kernels.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>

#include "common/cuda/types.cuh"
#include "device/hopper.cuh"

namespace loadstone::common::cuda::tiles {

namespace hopper = device::hopper;

inline constexpr int kBlocks = 2;       // a cluster
inline constexpr int kMultipliers = 2;  // warpgroups of a block
inline constexpr int kThreads = 128 * (1 + kMultipliers);
inline constexpr int kFetcherRegisters = 40, kMultiplierRegisters = 232;
inline constexpr uint32_t kSwizzleNbytes = 1024;  // stages begin at multiples

__device__ inline uint32_t first_stage(const void* memory) {
  return (hopper::shared_address(memory) + kSwizzleNbytes - 1) / kSwizzleNbytes * kSwizzleNbytes;
}

/// y in tiles of a cluster.
struct Grid {
  int32_t row_tiles, column_tiles;

  __host__ __device__ int32_t count() const { return row_tiles * column_tiles; }
};

/// One of them, in an order whose neighbours share rows and columns in the L2 cache.
struct Place {
  int32_t row, column;

  __device__ Place(const Grid& grid, int32_t index) {
    constexpr int32_t kBand = 8;  // row tiles
    const int32_t band = index / (kBand * grid.column_tiles);
    const int32_t inside = index - band * kBand * grid.column_tiles;
    const int32_t height = min(kBand, grid.row_tiles - band * kBand);
    row = band * kBand + inside % height;
    column = inside / height;
  }
};

template <int stages>
struct Barriers {
  uint64_t full[stages], empty[stages];

  /// One thread's; `arrivals` free a stage.
  __device__ void init(uint32_t arrivals) {
    for (int i = 0; i < stages; ++i) {
      hopper::barrier_init(hopper::shared_address(&full[i]), 1);
      hopper::barrier_init(hopper::shared_address(&empty[i]), arrivals);
    }
    hopper::barriers_are_set();
  }
};

/// Which stage, and how often all were used.
template <int stages>
struct Turn {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void next() {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// Value c of 4 lanes' runs of 4 becomes run c of lane c.
__device__ inline void transpose_four(uint32_t (&v)[4], uint32_t lane) {
#pragma unroll
  for (uint32_t far = 1; far <= 2; far *= 2) {
    const bool odd = (lane & far) != 0;
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      if (i & far) continue;
      const uint32_t sent = odd ? v[i] : v[i + far];
      const uint32_t got = __shfl_xor_sync(0xffffffffu, sent, far);
      (odd ? v[i] : v[i + far]) = got;
    }
  }
}

template <typename Y>
__device__ uint32_t pair_bits(float low, float high) {
  Pack<Y, 2> both{from_float<Y>(low), from_float<Y>(high)};
  return *reinterpret_cast<const uint32_t*>(&both);
}

using Encode = decltype(&cuTensorMapEncodeTiled);

/// The driver's, or null.
inline Encode encoder() {
  static const Encode found = [] {
    void* at = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &at,
                                                                12000, cudaEnableDefault, &result);
    const bool ok = status == cudaSuccess && result == cudaDriverEntryPointSuccess;
    return ok ? reinterpret_cast<Encode>(at) : nullptr;
  }();
  return found;
}

/// A matrix in boxes of box_rows x box_columns elements; beyond it they are zeros.
struct Boxes {
  CUtensorMapDataType type;
  const void* at;
  uint64_t rows, columns, row_nbytes;
  uint32_t box_rows, box_columns;
  CUtensorMapSwizzle swizzle;
};
inline bool describe(const Boxes& b, CUtensorMap& out) {
  const cuuint64_t sizes[] = {b.columns, b.rows}, strides[] = {b.row_nbytes};
  const cuuint32_t boxes[] = {b.box_columns, b.box_rows}, steps[] = {1, 1};
  return encoder()(&out, b.type, 2, const_cast<void*>(b.at), sizes, strides, boxes, steps,
                   CU_TENSOR_MAP_INTERLEAVE_NONE, b.swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

/// Blocks of the current GPU, or 0 where it isn't a Hopper.
inline int hopper_blocks() {
  int device = 0, major = 0, minor = 0, count = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return major == 9 && minor == 0 ? count / kBlocks * kBlocks : 0;
}

/// Whether the GPU has such kernels and the tiles fill at least half of it.
inline bool worth(const Grid& grid) {
  const int blocks = hopper_blocks();
  return blocks != 0 && encoder() != nullptr &&
         2 * int64_t{grid.row_tiles} * grid.column_tiles * kBlocks >= blocks;
}

/// The kernel must call wait_for_kernels_before in every thread before it reads or writes.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), uint32_t shared_nbytes, const Grid& grid,
                   cudaStream_t stream, const Arguments&... arguments) {
  const cudaError_t status = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_nbytes));
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = kBlocks;
  attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
  // Blocks may start where the kernel before has left (quantize.cu says when), and wait there. Not
  // while a graph records them: such edges beside other streams' are untried.
  cudaStreamCaptureStatus recording = cudaStreamCaptureStatusNone;
  const cudaError_t asked = cudaStreamIsCapturing(stream, &recording);
  if (asked != cudaSuccess) return asked;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(std::min(hopper_blocks(), grid.count() * kBlocks));
  config.blockDim = kThreads;
  config.dynamicSmemBytes = shared_nbytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = recording == cudaStreamCaptureStatusNone ? 2 : 1;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace loadstone::common::cuda::tiles
