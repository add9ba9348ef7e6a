// Where the operands lie between the kernels. Tiles are 128 rows of 128 codes, each 8 rows in the
// order that Hopper's products read (SWIZZLE_128B), so that a tile is one contiguous copy. Heads
// below 128 are padded with zeros. Private to kernels.
#pragma once

#include <cstdint>

#include "runtime/attention/cuda/attention.hpp"

namespace loadstone::runtime::fp8_attention::cuda {

constexpr int kTile = 128;                  // queries, keys and channels of a tile
constexpr int kValueRows = kTile + 8;       // channels of v, then ones: the sum of the weights
constexpr int kTileNbytes = kTile * kTile;  // of q and k
constexpr int kValueNbytes = kValueRows * kTile;

/// Byte of column c in row r of a tile.
__host__ __device__ inline int place_in_tile(int r, int c) {
  return r * kTile + ((((c >> 4) ^ r) & 7) << 4 | (c & 15));
}

/// The key that stands at position p of 32: a thread's scores of four eights of keys are, as they
/// lie in its registers, its operand of the second product.
__host__ __device__ inline int key_at(int p) {
  return (p & 16) | (p & 2) << 2 | (p >> 1 & 6) | (p & 1);
}

struct Workspace {
  uint8_t *q, *k, *v;   // tiles, by head and tile
  float* q_scales;      // times Call::scale [batch·heads, tiles·128]
  float* k_scales;      // [batch·kv_heads, tiles]
  float* v_scales;      // [batch·kv_heads, 128]
  float* k_sums;        // of a tile's keys [batch·kv_heads, tiles, 128]
  uint32_t* v_largest;  // bits of magnitudes, as k_sums
  uint64_t nbytes;
};

inline int64_t tiles_of(int64_t rows) { return (rows + kTile - 1) / kTile; }

inline Workspace cut(const Call& call, void* base) {
  const int64_t q_heads = call.batch * call.heads, kv_heads = call.batch * call.kv_heads;
  const int64_t q_tiles = q_heads * tiles_of(call.queries),
                k_tiles = kv_heads * tiles_of(call.keys);
  uint64_t used = 0;
  const auto take = [&](auto*& out, int64_t count) {
    using T = std::remove_reference_t<decltype(*out)>;
    out = reinterpret_cast<T*>(static_cast<char*>(base) + used);
    used += (static_cast<uint64_t>(count) * sizeof(T) + 1023) / 1024 * 1024;
  };
  Workspace out{};
  take(out.q, q_tiles * kTileNbytes);
  take(out.k, k_tiles * kTileNbytes);
  take(out.v, k_tiles * kValueNbytes);
  take(out.q_scales, q_tiles * kTile);
  take(out.k_scales, k_tiles);
  take(out.v_scales, kv_heads * kTile);
  take(out.k_sums, k_tiles * kTile);
  take(out.v_largest, k_tiles * kTile);
  out.nbytes = used;
  return out;
}

cudaError_t prepare(const Call& call, const Workspace& space, cudaStream_t stream);
cudaError_t attend(const Call& call, const Workspace& space, cudaStream_t stream);

}  // namespace loadstone::runtime::fp8_attention::cuda
