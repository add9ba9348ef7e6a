#include "common/cuda/code_tiles.hpp"
#include "common/cuda/tiles.cuh"

namespace loadstone::common::cuda {
namespace {

namespace hopper = device::hopper;
using tiles::kBlocks;
using tiles::kMultipliers;
using tiles::pair_bits;

// A cluster of two blocks makes 256 x 256 of y at a time: each block 128 rows, both the same
// columns, of whose W each fetches half for both. A block: one warpgroup that fetches, two that
// multiply 64 rows each.
constexpr int kRows = 128, kColumns = 256, kDepth = 128;  // of a block's tile; depth in bytes
constexpr int kStages = 4;
constexpr uint32_t kXNbytes = kRows * kDepth, kWNbytes = kColumns * kDepth;
constexpr uint32_t kStageNbytes = kXNbytes + kWNbytes;
constexpr uint32_t kSharedNbytes = kStages * kStageNbytes + tiles::kSwizzleNbytes;

using Barriers = tiles::Barriers<kStages>;
using Turn = tiles::Turn<kStages>;

struct Shape {
  int32_t m, n, depths;  // depths: steps along k
  tiles::Grid grid;
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

/// Scales and bias of a tile's columns, as a warpgroup reads them.
struct Columns {
  float scale[kColumns], bias[kColumns];
  int32_t constant[kColumns];
};

/// A thread's share of them. Asked for before a tile's sums and kept after them: reading global
/// memory in between would hold every tile up.
struct OwnColumns {
  static constexpr int kCount = kColumns / 128;
  float scale[kCount], bias[kCount];
  int32_t constant[kCount];

  __device__ OwnColumns(const Shape& s, const Epilogue& e, int32_t first) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int32_t at = first + static_cast<int32_t>(threadIdx.x % 128) + 128 * i;
      const bool inside = at < s.n;
      scale[i] = inside ? e.w_scale[at] : 0.0f;
      bias[i] = inside && e.bias != nullptr ? float_at(e.bias, e.bias_dtype, at) : 0.0f;
      constant[i] = inside && e.constants != nullptr ? e.constants[at] : 0;
    }
  }
  __device__ void keep(Columns& columns) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int at = static_cast<int>(threadIdx.x % 128) + 128 * i;
      columns.scale[at] = scale[i];
      columns.bias[at] = bias[i];
      columns.constant[at] = constant[i];
    }
  }
};

__device__ void fetch(const CUtensorMap& x, const CUtensorMap& w, const Shape& s, uint32_t stages,
                      const Barriers& barriers) {
  const uint32_t rank = hopper::cluster_rank();
  Turn turn;
  for (int32_t index = blockIdx.x / kBlocks; index < s.grid.count(); index += gridDim.x / kBlocks) {
    const tiles::Place tile(s.grid, index);
    for (int32_t step = 0; step < s.depths; ++step, turn.next()) {
      hopper::barrier_wait(hopper::shared_address(&barriers.empty[turn.stage]), turn.parity ^ 1);
      const uint32_t full = hopper::shared_address(&barriers.full[turn.stage]);
      hopper::barrier_expect(full, kStageNbytes);
      const uint32_t at = stages + turn.stage * kStageNbytes;
      hopper::copy_box(at, x, step * kDepth, tile.row * kRows * kBlocks + rank * kRows, full);
      constexpr int32_t kHalf = kColumns / kBlocks;
      hopper::copy_box_to(at + kXNbytes + rank * kHalf * kDepth, w, step * kDepth,
                          tile.column * kColumns + rank * kHalf, full, (1 << kBlocks) - 1);
    }
  }
}

/// One row of a thread's: where its values go.
template <typename Y>
struct Line {
  Y* at;
  bool inside;

  __device__ Line(const Shape& s, const Epilogue& e, int32_t row)
      : at(static_cast<Y*>(e.y) + row * s.y_stride), inside(row < s.m) {}
};

__device__ float with_constant(uint32_t sum, int32_t constant) {
  return static_cast<float>(static_cast<int32_t>(sum) + constant);
}
__device__ float with_constant(float sum, int32_t) { return sum; }

/// Rows `row` and 8 below of one thread, 32 columns of a warp at a time.
template <typename Y, typename Sum>
__device__ void write(const Sum (&sums)[128], const Shape& s, const Epilogue& e,
                      const Columns& columns, const float (&x_scales)[2], int32_t row,
                      int32_t first_column) {
  const uint32_t lane = threadIdx.x % 32;
  const auto quarter = static_cast<int32_t>(lane % 4);
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
        const Sum* sum = &sums[4 * (j + b) + 2 * half];
        const float x_scale = x_scales[half];
        const float low = with_constant(sum[0], constant.x);
        const float high = with_constant(sum[1], constant.y);
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
        tiles::transpose_four(bits, lane);
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

/// One tile's sums, int8: exact. Products of a step run while the next one is issued.
__device__ Turn sum_up(uint32_t (&sums)[128], int32_t depths, uint32_t stages, int group,
                       const Barriers& barriers, Turn turn) {
  int before = 0;
  for (int32_t step = 0; step < depths; ++step) {
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
  return turn;
}

/// One tile's sums, e4m3: the tensor core drops low bits of what it adds to, so it sums one step
/// alone, and steps are added in float32. While one warpgroup adds, the other multiplies.
__device__ Turn sum_up(float (&sums)[128], int32_t depths, uint32_t stages, int group,
                       const Barriers& barriers, Turn turn) {
  constexpr int kHalf = kColumns / 2;
#pragma unroll
  for (float& sum : sums) sum = 0;
  for (int32_t step = 0; step < depths; ++step, turn.next()) {
    hopper::barrier_wait(hopper::shared_address(&barriers.full[turn.stage]), turn.parity);
    const uint32_t at = stages + turn.stage * kStageNbytes;
    const uint64_t x = hopper::rows_descriptor(at + group * (kXNbytes / kMultipliers));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint64_t w = hopper::rows_descriptor(at + kXNbytes + half * kHalf * kDepth);
      float own[64];
      hopper::products_begin();
#pragma unroll
      for (int part = 0; part < kDepth / 32; ++part) {
        hopper::product_e4m3(own, x + 2 * part, w + 2 * part, part != 0);
      }
      hopper::products_commit();
      hopper::products_wait<0>();
      if (half == 1) release(barriers, turn.stage);
#pragma unroll
      for (int i = 0; i < 64; ++i) sums[64 * half + i] += own[i];
    }
  }
  return turn;
}

template <typename Y, typename Sum>
__device__ void multiply(const Shape& s, const Epilogue& e, uint32_t stages,
                         const Barriers& barriers, Columns& columns) {
  const int group = static_cast<int>(threadIdx.x / 128) - 1;
  const auto thread = static_cast<int32_t>(threadIdx.x % 128);
  const int32_t own_row = static_cast<int32_t>(hopper::cluster_rank()) * kRows +
                          group * (kRows / kMultipliers) + thread / 32 * 16 + thread % 32 / 4;
  Turn turn;
  for (int32_t index = blockIdx.x / kBlocks; index < s.grid.count(); index += gridDim.x / kBlocks) {
    const tiles::Place tile(s.grid, index);
    const int32_t row = tile.row * kRows * kBlocks + own_row, column = tile.column * kColumns;
    const OwnColumns own(s, e, column);
    const float x_scales[2] = {row < s.m ? e.x_scale[row] : 0.0f,
                               row + 8 < s.m ? e.x_scale[row + 8] : 0.0f};
    Sum sums[128];
    turn = sum_up(sums, s.depths, stages, group, barriers, turn);
    hopper::some_sync(1 + group, 128);  // the last tile's columns have been read
    own.keep(columns);
    hopper::some_sync(1 + group, 128);
    write<Y>(sums, s, e, columns, x_scales, row, column);
  }
}

#endif

template <typename Y, typename Sum>
__global__ void __launch_bounds__(tiles::kThreads, 1)
    code_tiles_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w,
                      const Shape shape, const Epilogue epilogue) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t raw[];
  __shared__ Barriers barriers;
  __shared__ Columns columns[kMultipliers];
  const uint32_t stages = tiles::first_stage(raw);
  if (threadIdx.x == 0) barriers.init(kMultipliers * kBlocks);
  hopper::cluster_sync();
  hopper::wait_for_kernels_before();
  if (threadIdx.x < 128) {
    hopper::fewer_registers<tiles::kFetcherRegisters>();
    if (threadIdx.x == 0) fetch(x, w, shape, stages, barriers);
    __syncwarp();
  } else {
    hopper::more_registers<tiles::kMultiplierRegisters>();
    multiply<Y, Sum>(shape, epilogue, stages, barriers, columns[threadIdx.x / 128 - 1]);
  }
  hopper::cluster_sync();  // no block ends while another writes to its memory
#else
  __trap();  // never launched: code_tiles_fit
#endif
}

Shape shape_of(const CodeTiles& c) {
  Shape out{};
  out.m = static_cast<int32_t>(c.m);
  out.n = static_cast<int32_t>(c.n);
  out.depths = static_cast<int32_t>((c.k + kDepth - 1) / kDepth);
  out.grid.row_tiles = (out.m + kRows * kBlocks - 1) / (kRows * kBlocks);
  out.grid.column_tiles = (out.n + kColumns - 1) / kColumns;
  out.y_stride = static_cast<int64_t>(c.y_stride);
  return out;
}

template <typename Y, typename Sum>
cudaError_t launch(const CodeTiles& c) {
  constexpr auto kBytes = CU_TENSOR_MAP_DATA_TYPE_UINT8;
  constexpr auto kSwizzle = CU_TENSOR_MAP_SWIZZLE_128B;
  CUtensorMap x, w;
  if (!tiles::describe({kBytes, c.x, c.m, c.k, c.k, kRows, kDepth, kSwizzle}, x) ||
      !tiles::describe({kBytes, c.w, c.n, c.k, c.k, kColumns / kBlocks, kDepth, kSwizzle}, w)) {
    return cudaErrorInvalidValue;
  }
  const Shape shape = shape_of(c);
  const Epilogue epilogue{c.x_scale, c.w_scale, c.constants, c.bias, c.bias_dtype, c.y};
  return tiles::launch(code_tiles_kernel<Y, Sum>, kSharedNbytes, shape.grid, c.stream, x, w, shape,
                       epilogue);
}

}  // namespace

bool code_tiles_fit(const CodeTiles& call) {
  const auto aligned = [](const void* at, uint64_t nbytes) {
    return (reinterpret_cast<uintptr_t>(at) | nbytes) % 16 == 0;
  };
  constexpr uint64_t kMost = uint64_t{1} << 31;
  const uint64_t item = call.y_dtype == LS_DTYPE_F32 ? 4 : 2;
  if (call.m >= kMost || call.n >= kMost || call.k >= kMost || call.n % 8 != 0) return false;
  if (call.k == 0 || !aligned(call.x, call.k) || !aligned(call.w, call.k)) return false;
  return aligned(call.y, call.y_stride * item) && tiles::worth(shape_of(call).grid);
}

cudaError_t code_tiles(const CodeTiles& call) {
  if (call.m == 0 || call.n == 0) return cudaSuccess;
  return with_float(call.y_dtype, [&](auto zero) {
    using Y = decltype(zero);
    return call.dtype == LS_DTYPE_I8 ? launch<Y, uint32_t>(call) : launch<Y, float>(call);
  });
}

}  // namespace loadstone::common::cuda
