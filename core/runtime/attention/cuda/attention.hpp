// README.md's arithmetic on Hopper (sm_90a): three launches on one stream, nothing synchronizes.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace loadstone::runtime::fp8_attention::cuda {

enum class Float : uint8_t { f32, f16, bf16 };

/// A tensor [batch, heads, rows, dim] on the GPU; strides in elements, multiples of 8, the last 1;
/// its address a multiple of 16 bytes.
struct Heads {
  const void* at = nullptr;
  int64_t batch_stride = 0, head_stride = 0, row_stride = 0;
};

struct Call {
  Heads q, k, v;
  Float type = Float::bf16;  // of q, k, v and out
  int64_t batch = 0, heads = 0, kv_heads = 0, queries = 0, keys = 0, dim = 0;
  float scale = 0;            // of scores, times log2(e)
  float rotation_root = 0;    // float32(1/√dim)
  uint32_t minus[4] = {};     // bit i: channel i's sign is -1
  void* out = nullptr;        // [batch, queries, heads·dim], dense
  void* workspace = nullptr;  // workspace_nbytes(call), on a multiple of 1024
};

uint64_t workspace_nbytes(const Call& call);
/// On the current GPU, which must be of compute capability 9.0.
cudaError_t run(const Call& call, cudaStream_t stream);

}  // namespace loadstone::runtime::fp8_attention::cuda
