#include "common/cuda/async_copy.cuh"
#include "common/cuda/groups_product.hpp"
#include "common/cuda/types.cuh"

namespace loadstone::common::cuda {
namespace {

constexpr int kTile = 128;  // rows of x and of W a block
constexpr int kDepth = 64;  // columns at a time: a row of shared memory is 128 bytes
constexpr int kChunk = 8;   // values of 16 bytes
constexpr int kStages = 3;
constexpr int kThreads = 256;
constexpr int kRowsOfWarp = 64, kColumnsOfWarp = 32;
constexpr int kRowTiles = kRowsOfWarp / 16, kColumnTiles = kColumnsOfWarp / 8;

/// Both operands of kDepth columns; chunk c of row r lies at c ^ (r % 8), so that eight rows of one
/// chunk are in all banks.
struct Stage {
  uint4 x[kTile][kDepth / kChunk];
  uint4 w[kTile][kDepth / kChunk];
};

__device__ void fetch_side(const void* from, uint64_t row, uint64_t rows, uint64_t k,
                           uint64_t column, uint4 (&to)[kTile][kDepth / kChunk]) {
  constexpr int kChunks = kDepth / kChunk;
#pragma unroll
  for (int i = 0; i < kTile * kChunks / kThreads; ++i) {
    const int index = static_cast<int>(threadIdx.x) + i * kThreads;
    const int r = index / kChunks, c = index % kChunks;
    const bool inside = row + r < rows;
    const auto* at = static_cast<const __nv_bfloat16*>(from) + (inside ? row + r : 0) * k + column;
    copy_async_or_zeros(&to[r][c ^ r % 8], at + c * kChunk, inside);
  }
}

__device__ void fetch(const GroupsProduct& c, uint64_t depth, Stage* stages) {
  if (depth * kDepth < c.k) {
    Stage& to = stages[depth % kStages];
    fetch_side(c.x, blockIdx.x * uint64_t{kTile}, c.m, c.k, depth * kDepth, to.x);
    fetch_side(c.w, blockIdx.y * uint64_t{kTile}, c.n, c.k, depth * kDepth, to.w);
  }
  copies_end();
}

/// Four 8 x 8 matrices of 16-bit values; lane l names row l % 8 of matrix l / 8.
__device__ void load_matrices(uint32_t (&out)[4], const uint4* row) {
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(at)
               : "memory");
}

using Sums = float[kRowTiles][kColumnTiles][4];

/// sums += x·Wᵀ over a stage.
__device__ void multiply(const Stage& from, int row, int column, Sums& sums) {
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int k = 0; k < kDepth / 16; ++k) {
    uint32_t a[kRowTiles][4], b[kColumnTiles / 2][4];
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
      const int r = row + 16 * i + lane % 16;
      load_matrices(a[i], &from.x[r][(2 * k + lane / 16) ^ r % 8]);
    }
#pragma unroll
    for (int j = 0; j < kColumnTiles / 2; ++j) {
      const int r = column + 16 * j + lane % 8 + lane / 16 * 8;
      load_matrices(b[j], &from.w[r][(2 * k + lane / 8 % 2) ^ r % 8]);
    }
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) {
        const uint32_t* pair = &b[j / 2][2 * (j % 2)];
        float(&c)[4] = sums[i][j];
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
            "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[i][0]), "r"(a[i][1]), "r"(a[i][2]), "r"(a[i][3]), "r"(pair[0]), "r"(pair[1]));
      }
    }
  }
}

/// Rows and columns of y that a lane's sums are of.
struct Place {
  uint64_t row, column;
  __device__ Place(int i, int j, int at, int warp_row, int warp_column) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    row = blockIdx.x * uint64_t{kTile} + warp_row + 16 * i + lane / 4 + at / 2 * 8;
    column = blockIdx.y * uint64_t{kTile} + warp_column + 8 * j + 2 * (lane % 4) + at % 2;
  }
  __device__ bool inside(const GroupsProduct& c) const { return row < c.m && column < c.n; }
};

/// total += sums · scales of group g; sums = 0
__device__ void add_group(const GroupsProduct& c, uint64_t g, int row, int column, Sums& sums,
                          Sums& total) {
  const uint64_t groups = c.k / c.group;
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
    for (int j = 0; j < kColumnTiles; ++j) {
#pragma unroll
      for (int at = 0; at < 4; ++at) {
        const Place place(i, j, at, row, column);
        if (place.inside(c)) {
          const float scale =
              c.x_scale[place.row * c.x_row + g * c.x_group] * c.w_scale[place.column * groups + g];
          total[i][j][at] += sums[i][j][at] * scale;
        }
        sums[i][j][at] = 0;
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads) groups_kernel(const __grid_constant__ GroupsProduct c) {
  extern __shared__ __align__(128) uint8_t room[];
  auto* stages = reinterpret_cast<Stage*>(room);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int row = warp % 2 * kRowsOfWarp, column = warp / 2 * kColumnsOfWarp;
  const uint64_t depths = c.k / kDepth, depths_a_group = c.group / kDepth;
  for (int i = 0; i < kStages - 1; ++i) fetch(c, i, stages);
  Sums sums = {}, total = {};
  for (uint64_t depth = 0; depth < depths; ++depth) {
    copies_wait<kStages - 2>();
    __syncthreads();  // all see the stage, and none reads the one that is filled next
    fetch(c, depth + kStages - 1, stages);
    multiply(stages[depth % kStages], row, column, sums);
    if ((depth + 1) % depths_a_group == 0) {
      add_group(c, depth / depths_a_group, row, column, sums, total);
    }
  }
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
    for (int j = 0; j < kColumnTiles; ++j) {
#pragma unroll
      for (int at = 0; at < 4; ++at) {
        const Place place(i, j, at, row, column);
        if (!place.inside(c)) continue;
        float value = total[i][j][at];
        if (c.bias != nullptr) value += float_at(c.bias, c.bias_dtype, place.column);
        put_float(c.y, c.y_dtype, place.row * c.y_stride + place.column, value);
      }
    }
  }
}

}  // namespace

cudaError_t groups_product(const GroupsProduct& call) {
  if (call.m == 0 || call.n == 0) return cudaSuccess;
  if (call.group % kDepth != 0 || call.k % call.group != 0) return cudaErrorInvalidValue;
  constexpr auto kSharedNbytes = static_cast<int>(sizeof(Stage) * kStages);
  const cudaError_t status = cudaFuncSetAttribute(
      groups_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedNbytes);
  if (status != cudaSuccess) return status;
  const dim3 grid(static_cast<unsigned>((call.m + kTile - 1) / kTile),
                  static_cast<unsigned>((call.n + kTile - 1) / kTile));
  groups_kernel<<<grid, kThreads, kSharedNbytes, call.stream>>>(call);
  return cudaGetLastError();
}

}  // namespace loadstone::common::cuda
