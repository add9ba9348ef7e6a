#include <algorithm>

#include "common/cuda/int8_tiles.hpp"
#include "common/cuda/types.cuh"
#include "device/hopper.cuh"

namespace loadstone::common::cuda {
namespace {

namespace hopper = device::hopper;

// A cluster of two blocks makes 256 x 256 of y at a time: each block 128 rows, both the same
// columns, of whose W each fetches half for both. A block: one warpgroup that fetches, two that
// multiply 64 rows each.
constexpr int kRows = 128, kColumns = 256, kDepth = 128;  // of a block's tile; depth in bytes
constexpr int kBlocks = 2;                                // a cluster
constexpr int kMultipliers = 2;                           // warpgroups
constexpr int kThreads = 128 * (1 + kMultipliers);
constexpr int kStages = 4;
constexpr uint32_t kXNbytes = kRows * kDepth, kWNbytes = kColumns * kDepth;
constexpr uint32_t kStageNbytes = kXNbytes + kWNbytes;
constexpr uint32_t kSwizzleNbytes = 1024;  // stages begin at multiples
constexpr uint32_t kSharedNbytes = kStages * kStageNbytes + kSwizzleNbytes;

struct Shape {
  int32_t m, n, depths;  // depths: steps along k
  int32_t row_tiles, column_tiles;
  int64_t y_stride;
};

struct Epilogue {
  const float *x_scale, *w_scale;
  const int32_t* constants;
  const void* bias;
  uint32_t bias_dtype;
  void* y;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Tiles of the cluster in an order whose neighbours share rows and columns in the L2 cache.
struct Tile {
  int32_t row, column;

  __device__ Tile(const Shape& s, int32_t index) {
    constexpr int32_t kBand = 8;  // row tiles
    const int32_t band = index / (kBand * s.column_tiles);
    const int32_t inside = index - band * kBand * s.column_tiles;
    const int32_t height = min(kBand, s.row_tiles - band * kBand);
    row = (band * kBand + inside % height) * (kRows * kBlocks);
    column = inside / height * kColumns;
  }
};

struct Barriers {
  uint64_t full[kStages], empty[kStages];
};

/// Which stage, and how often all were used.
struct Turn {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// Scales and bias of a tile's columns, as a warpgroup reads them.
struct Columns {
  float scale[kColumns], bias[kColumns];
  int32_t constant[kColumns];
};

__device__ void fetch(const CUtensorMap& x, const CUtensorMap& w, const Shape& s, uint32_t stages,
                      const Barriers& barriers) {
  const uint32_t rank = hopper::cluster_rank();
  const int32_t tiles = s.row_tiles * s.column_tiles;
  Turn turn;
  for (int32_t index = blockIdx.x / kBlocks; index < tiles; index += gridDim.x / kBlocks) {
    const Tile tile(s, index);
    for (int32_t step = 0; step < s.depths; ++step, turn.next()) {
      hopper::barrier_wait(hopper::shared_address(&barriers.empty[turn.stage]), turn.parity ^ 1);
      const uint32_t full = hopper::shared_address(&barriers.full[turn.stage]);
      hopper::barrier_expect(full, kStageNbytes);
      const uint32_t at = stages + turn.stage * kStageNbytes;
      hopper::copy_box(at, x, step * kDepth, tile.row + rank * kRows, full);
      constexpr int32_t kHalf = kColumns / kBlocks;
      hopper::copy_box_to(at + kXNbytes + rank * kHalf * kDepth, w, step * kDepth,
                          tile.column + rank * kHalf, full, (1 << kBlocks) - 1);
    }
  }
}

/// Value c of 4 lanes' runs of 4 becomes run c of lane c.
__device__ void transpose_four(uint32_t (&v)[4], uint32_t lane) {
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

/// One row of a thread's: where its values go and its scale.
template <typename Y>
struct Line {
  Y* at;
  float scale;
  bool inside;

  __device__ Line(const Shape& s, const Epilogue& e, int32_t row)
      : at(static_cast<Y*>(e.y) + row * s.y_stride),
        scale(row < s.m ? e.x_scale[row] : 0.0f),
        inside(row < s.m) {}
};

/// The rows of one warpgroup, 32 columns at a time.
template <typename Y>
__device__ void write(const uint32_t (&sums)[128], const Shape& s, const Epilogue& e,
                      const Columns& columns, int32_t first_row, int32_t first_column) {
  const uint32_t lane = threadIdx.x % 32;
  const auto quarter = static_cast<int32_t>(lane % 4);
  const int32_t row = first_row + static_cast<int32_t>(threadIdx.x % 128 / 32 * 16 + lane / 4);
  const Line<Y> lines[] = {{s, e, row}, {s, e, row + 8}};
#pragma unroll
  for (int j = 0; j < kColumns / 8; j += 4) {
    float values[2][4][2];
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      const int at = 8 * (j + b) + 2 * quarter;
      const auto scale = *reinterpret_cast<const float2*>(&columns.scale[at]);
      const auto bias = *reinterpret_cast<const float2*>(&columns.bias[at]);
      const auto constant = *reinterpret_cast<const int2*>(&columns.constant[at]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t* sum = &sums[4 * (j + b) + 2 * half];
        const float x_scale = lines[half].scale;
        const auto low = static_cast<float>(static_cast<int32_t>(sum[0]) + constant.x);
        const auto high = static_cast<float>(static_cast<int32_t>(sum[1]) + constant.y);
        values[half][b][0] = low * scale.x * x_scale + bias.x;
        values[half][b][1] = high * scale.y * x_scale + bias.y;
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Line<Y>& line = lines[half];
      if constexpr (sizeof(Y) == 2) {
        uint32_t bits[4];
#pragma unroll
        for (int b = 0; b < 4; ++b) bits[b] = pair_bits<Y>(values[half][b][0], values[half][b][1]);
        transpose_four(bits, lane);
        const int32_t column = first_column + 8 * (j + quarter);
        if (line.inside && column < s.n) {
          *reinterpret_cast<uint4*>(line.at + column) =
              make_uint4(bits[0], bits[1], bits[2], bits[3]);
        }
      } else {
#pragma unroll
        for (int b = 0; b < 4; ++b) {
          const int32_t column = first_column + 8 * (j + b) + 2 * quarter;
          const Pack<Y, 2> both{values[half][b][0], values[half][b][1]};
          if (line.inside && column < s.n) *reinterpret_cast<Pack<Y, 2>*>(line.at + column) = both;
        }
      }
    }
    asm volatile("" ::: "memory");  // keeps later columns' reads behind: registers are scarce
  }
}

/// Frees a stage in every block of the cluster.
__device__ void release(const Barriers& barriers, int stage) {
  if (threadIdx.x % 128 < kBlocks) {
    hopper::barrier_arrive_at(hopper::shared_address(&barriers.empty[stage]), threadIdx.x % 128);
  }
}

template <typename Y>
__device__ void multiply(const Shape& s, const Epilogue& e, uint32_t stages,
                         const Barriers& barriers, Columns& columns) {
  const int group = static_cast<int>(threadIdx.x / 128) - 1;
  const int32_t tiles = s.row_tiles * s.column_tiles;
  const int32_t own_row =
      static_cast<int32_t>(hopper::cluster_rank()) * kRows + group * (kRows / kMultipliers);
  Turn turn;
  for (int32_t index = blockIdx.x / kBlocks; index < tiles; index += gridDim.x / kBlocks) {
    const Tile tile(s, index);
    hopper::some_sync(1 + group, 128);  // the last tile's columns have been read
    for (int32_t c = threadIdx.x % 128; c < kColumns; c += 128) {
      const bool inside = tile.column + c < s.n;
      columns.scale[c] = inside ? e.w_scale[tile.column + c] : 0.0f;
      columns.bias[c] =
          inside && e.bias != nullptr ? float_at(e.bias, e.bias_dtype, tile.column + c) : 0.0f;
      columns.constant[c] = inside && e.constants != nullptr ? e.constants[tile.column + c] : 0;
    }
    uint32_t sums[128];
    int before = 0;
    for (int32_t step = 0; step < s.depths; ++step) {
      hopper::barrier_wait(hopper::shared_address(&barriers.full[turn.stage]), turn.parity);
      const uint32_t at = stages + turn.stage * kStageNbytes;
      const uint64_t x = hopper::rows_descriptor(at + group * (kXNbytes / kMultipliers));
      const uint64_t w = hopper::rows_descriptor(at + kXNbytes);
      hopper::products_begin();
#pragma unroll
      for (int part = 0; part < kDepth / 32; ++part) {
        hopper::product_s8(sums, x + 2 * part, w + 2 * part, step != 0 || part != 0);
      }
      hopper::products_commit();
      hopper::products_wait<1>();
      if (step != 0) release(barriers, before);
      before = turn.stage;
      turn.next();
    }
    hopper::products_wait<0>();
    release(barriers, before);
    hopper::some_sync(1 + group, 128);  // the columns are written
    write<Y>(sums, s, e, columns, tile.row + own_row, tile.column);
  }
}

#endif

template <typename Y>
__global__ void __launch_bounds__(kThreads, 1)
    int8_tiles_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w,
                      const Shape shape, const Epilogue epilogue) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t raw[];
  __shared__ Barriers barriers;
  __shared__ Columns columns[kMultipliers];
  const uint32_t stages =
      (hopper::shared_address(raw) + kSwizzleNbytes - 1) / kSwizzleNbytes * kSwizzleNbytes;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      hopper::barrier_init(hopper::shared_address(&barriers.full[i]), 1);
      hopper::barrier_init(hopper::shared_address(&barriers.empty[i]), kMultipliers * kBlocks);
    }
    hopper::barriers_are_set();
  }
  hopper::cluster_sync();
  if (threadIdx.x < 128) {
    hopper::fewer_registers<40>();
    if (threadIdx.x == 0) fetch(x, w, shape, stages, barriers);
    __syncwarp();
  } else {
    hopper::more_registers<232>();
    multiply<Y>(shape, epilogue, stages, barriers, columns[threadIdx.x / 128 - 1]);
  }
  hopper::cluster_sync();  // no block ends while another writes to its memory
#else
  __trap();  // never launched: int8_tiles_fit
#endif
}

using Encode = decltype(&cuTensorMapEncodeTiled);

/// The driver's, or null.
Encode encoder() {
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

/// Boxes of `box` rows of kDepth bytes; beyond the matrix they are zeros.
bool describe(const void* at, uint64_t rows, uint64_t k, uint32_t box, CUtensorMap& out) {
  const cuuint64_t sizes[] = {k, rows}, strides[] = {k};
  const cuuint32_t boxes[] = {kDepth, box}, steps[] = {1, 1};
  return encoder()(&out, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<void*>(at), sizes, strides,
                   boxes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

/// Blocks of the current GPU, or 0 where it isn't a Hopper.
int hopper_blocks() {
  int device = 0, major = 0, minor = 0, count = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return major == 9 && minor == 0 ? count / kBlocks * kBlocks : 0;
}

Shape shape_of(const Int8Tiles& c) {
  Shape out{};
  out.m = static_cast<int32_t>(c.m);
  out.n = static_cast<int32_t>(c.n);
  out.depths = static_cast<int32_t>((c.k + kDepth - 1) / kDepth);
  out.row_tiles = (out.m + kRows * kBlocks - 1) / (kRows * kBlocks);
  out.column_tiles = (out.n + kColumns - 1) / kColumns;
  out.y_stride = static_cast<int64_t>(c.y_stride);
  return out;
}

template <typename Y>
cudaError_t launch(const Int8Tiles& c, int blocks) {
  CUtensorMap x, w;
  if (!describe(c.x, c.m, c.k, kRows, x) || !describe(c.w, c.n, c.k, kColumns / kBlocks, w)) {
    return cudaErrorInvalidValue;
  }
  const Shape shape = shape_of(c);
  const Epilogue epilogue{c.x_scale, c.w_scale, c.constants, c.bias, c.bias_dtype, c.y};
  const auto kernel = int8_tiles_kernel<Y>;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedNbytes);
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = kBlocks;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim =
      static_cast<unsigned>(std::min(blocks, shape.row_tiles * shape.column_tiles * kBlocks));
  config.blockDim = kThreads;
  config.dynamicSmemBytes = kSharedNbytes;
  config.stream = c.stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, x, w, shape, epilogue);
}

}  // namespace

bool int8_tiles_fit(const Int8Tiles& call) {
  const auto aligned = [](const void* at, uint64_t nbytes) {
    return (reinterpret_cast<uintptr_t>(at) | nbytes) % 16 == 0;
  };
  constexpr uint64_t kMost = uint64_t{1} << 31;
  const uint64_t item = call.y_dtype == LS_DTYPE_F32 ? 4 : 2;
  if (call.m >= kMost || call.n >= kMost || call.k >= kMost || call.n % 8 != 0) return false;
  if (call.k == 0 || !aligned(call.x, call.k) || !aligned(call.w, call.k)) return false;
  if (!aligned(call.y, call.y_stride * item) || encoder() == nullptr) return false;
  const Shape shape = shape_of(call);
  return 2 * int64_t{shape.row_tiles} * shape.column_tiles * kBlocks >= hopper_blocks() &&
         hopper_blocks() != 0;
}

cudaError_t int8_tiles(const Int8Tiles& call) {
  if (call.m == 0 || call.n == 0) return cudaSuccess;
  return with_float(call.y_dtype,
                    [&](auto zero) { return launch<decltype(zero)>(call, hopper_blocks()); });
}

}  // namespace loadstone::common::cuda
