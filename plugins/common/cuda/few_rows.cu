#include "common/cuda/few_rows.cuh"
#include "common/cuda/few_rows_split.hpp"
#include "device/hopper.cuh"

namespace loadstone::common::cuda {
namespace {

namespace hopper = device::hopper;
using few::kBand;
using few::kBatch;
using few::kSteps;
using few::Split;
using int_packs::Matrix;
using int_packs::Packing;

/// Block `blockIdx.y` of the cluster: its batches.
struct Share {
  uint32_t begin, end;
  __device__ Share(uint64_t k, uint32_t shares) {
    const auto batches = static_cast<uint32_t>((k + kBatch - 1) / kBatch);
    begin = batches * blockIdx.y / shares;
    end = batches * (blockIdx.y + 1) / shares;
  }
};

/// x's columns of batches [begin, end) to `to`: (steps, MT, 32 lanes) in nibble order; zeros beyond
/// K. Rows beyond x are whatever lies there: their sums aren't kept.
template <typename T, int MT>
__device__ void stage_x(const FewRows& c, uint32_t begin, uint32_t end, uint4* to) {
  constexpr uint32_t kFlight = 4, kRun = 8;
  const uint32_t runs = (end - begin) * (kBatch / kRun), count = runs * static_cast<uint32_t>(c.m);
  for (uint32_t i = threadIdx.x; i < count; i += kFlight * blockDim.x) {
    uint4 x[kFlight];
#pragma unroll
    for (uint32_t j = 0; j < kFlight; ++j) {
      const uint32_t at = i + j * blockDim.x, row = at / runs;
      const uint64_t k = uint64_t{begin} * kBatch + at % runs * kRun;
      x[j] = make_uint4(0, 0, 0, 0);
      if (at < count && k < c.w.k) {
        x[j] = *reinterpret_cast<const uint4*>(static_cast<const T*>(c.x) + row * c.x_stride + k);
      }
    }
#pragma unroll
    for (uint32_t j = 0; j < kFlight; ++j) {
      const uint32_t at = i + j * blockDim.x, row = at / runs, run = at % runs;
      if (at >= count) continue;
      to[(run / 4 * MT + row / 8) * 32 + row % 8 * 4 + run % 4] = few::in_nibble_order(x[j]);
    }
  }
}

/// Sums of a block's rows of W: every warp's reach the block of the cluster that adds them up,
/// (sources, m, width) floats there, width rows a block.
class Parts {
 public:
  __device__ Parts(const FewRows& c, const Split& s, float* at, uint64_t* barrier)
      : at_(at),
        width_(kBand * s.side / s.shares),
        m_(static_cast<uint32_t>(c.m)),
        sources_(s.deep * s.shares) {
#if __CUDA_ARCH__ >= 900
    barrier_ = hopper::shared_address(barrier);
    if (threadIdx.x == 0) {
      hopper::barrier_init(barrier_, 1);
      hopper::barrier_expect(barrier_, sources_ * m_ * width_ * sizeof(float));
      hopper::barriers_are_set();
    }
    hopper::cluster_arrive();
#endif
  }

  template <int MT>
  __device__ void put(const Split& s, const few::Sums<MT>& total) {
#if __CUDA_ARCH__ >= 900
    hopper::cluster_wait();
#endif
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t n = warp % s.side * kBand + lane / 4 * 4;
    const uint32_t source = blockIdx.y * s.deep + warp / s.side;
#pragma unroll
    for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
      for (uint32_t i = 0; i < 2; ++i) {
        const uint32_t row = 8 * mt + 2 * (lane % 4) + i;
        if (row >= m_) continue;
        const float4 four =
            make_float4(total[0][mt][i], total[0][mt][2 + i], total[1][mt][i], total[1][mt][2 + i]);
        float* at = at_ + (source * m_ + row) * width_ + n % width_;
#if __CUDA_ARCH__ >= 900
        hopper::send(hopper::shared_address(at), barrier_, n / width_, four);
#else
        *reinterpret_cast<float4*>(at) = four;
#endif
      }
    }
  }

  /// Adds up and writes y.
  __device__ void finish(const FewRows& c, const Split& s) const {
#if __CUDA_ARCH__ >= 900
    hopper::barrier_wait_for_cluster(barrier_, 0);
#else
    __syncthreads();
#endif
    const uint32_t count = width_ * m_;
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
      const uint64_t column =
          uint64_t{blockIdx.x} * s.side * kBand + blockIdx.y * width_ + i % width_;
      if (column >= c.w.n) continue;
      float value = 0;
#pragma unroll 8
      for (uint32_t source = 0; source < sources_; ++source) value += at_[source * count + i];
      if (c.bias != nullptr) value += float_at(c.bias, c.bias_dtype, column);
      put_float(c.y, c.y_dtype, i / width_ * c.y_stride + column, value);
    }
  }

 private:
  float* at_;
  uint32_t width_, m_, sources_, barrier_ = 0;
};

/// `ahead`: batches of a warp on their way. A block reads its first words before the kernel in
/// front has ended, x after.
template <typename T, int MT, bool wide, int G, int ahead>
__global__ void __launch_bounds__(few::kMostWarps * 32)
    few_rows_kernel(const __grid_constant__ FewRows c, const __grid_constant__ Split s) {
  extern __shared__ __align__(16) uint8_t room[];
  __shared__ uint64_t barrier;
  auto* x = reinterpret_cast<uint4*>(room);
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Share share(c.w.k, s.shares);
  const uint64_t n = (uint64_t{blockIdx.x} * s.side + warp % s.side) * kBand;
  const uint32_t end = n < c.w.n ? share.end : share.begin;
  const few::Band<wide, G> band(c.w, n, lane);
  few::Batch<wide, G> batches[ahead];
  uint32_t batch = share.begin + warp / s.side;
#pragma unroll
  for (uint32_t i = 0; i < ahead; ++i) {
    if (batch + i * s.deep < end) band.load(batch + i * s.deep, batches[i]);
  }
  Parts parts(c, s, reinterpret_cast<float*>(x + s.chunk * kSteps * MT * 32), &barrier);
#if __CUDA_ARCH__ >= 900
  hopper::wait_for_kernels_before();
  hopper::let_next_kernel_start();
#endif
  few::Sums<MT> total = {};
  for (uint32_t from = share.begin; from < share.end; from += s.chunk) {
    const uint32_t to = min(from + s.chunk, share.end);
    if (from != share.begin) __syncthreads();
    stage_x<T, MT>(c, from, to, x);
    __syncthreads();
    while (batch < min(to, end)) {
#pragma unroll
      for (uint32_t i = 0; i < ahead; ++i, batch += s.deep) {
        if (batch >= end) continue;
        few::multiply<T, MT, wide, G>(c.w, batches[i], band.zero_shift(),
                                      x + (batch - from) * kSteps * MT * 32 + lane, total);
        const uint32_t next = batch + ahead * s.deep;
        if (next < end) band.load(next, batches[i]);
      }
    }
  }
  parts.put<MT>(s, total);
  parts.finish(c, s);
}

struct Gpu {
  int sm = 0, processors = 0;
  static Gpu current() {
    Gpu out;
    int device = 0, minor = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return out;
    cudaDeviceGetAttribute(&out.sm, cudaDevAttrComputeCapabilityMajor, device);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    cudaDeviceGetAttribute(&out.processors, cudaDevAttrMultiProcessorCount, device);
    out.sm = out.sm * 10 + minor;
    return out;
  }
};

template <typename T, int MT, bool wide, int G, int ahead>
cudaError_t launch(const FewRows& c, const Gpu& gpu, uint32_t warps) {
  const auto kernel = few_rows_kernel<T, MT, wide, G, ahead>;
  const auto bands = static_cast<uint32_t>(c.w.n / kBand);
  const auto batches = static_cast<uint32_t>((c.w.k + kBatch - 1) / kBatch);
  const few::Room room{static_cast<uint32_t>(gpu.processors), warps, ahead, gpu.sm >= 90};
  const Split s = few::split_of(bands, batches, c.m, room);
  const size_t x_nbytes = size_t{s.chunk} * kSteps * MT * 32 * sizeof(uint4);
  const size_t parts_nbytes = size_t{s.deep} * s.side * kBand * c.m * sizeof(float);
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(x_nbytes + parts_nbytes));
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {1, s.shares, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3((bands + s.side - 1) / s.side, s.shares);
  config.blockDim = 32 * s.side * s.deep;
  config.dynamicSmemBytes = x_nbytes + parts_nbytes;
  config.stream = c.stream;
  config.attrs = attributes;
  config.numAttrs = gpu.sm < 90 ? 0 : 2;
  return cudaLaunchKernelEx(&config, kernel, c, s);
}

/// Registers are for many warps, or, where all words are on their way at once, for few that wait
/// less for each other; those of small groups have no more to spare.
template <typename T, int MT, bool wide>
cudaError_t with_groups(const FewRows& c, const Gpu& gpu) {
  constexpr uint32_t kFew = 8, kMany = MT == 1 ? 24 : 16;
  if (c.w.group_size % kBatch != 0) return launch<T, MT, wide, 4, 2>(c, gpu, 16);
  const uint64_t batches = (c.w.k + kBatch - 1) / kBatch * (c.w.n / kBand);
  const uint64_t at_once = uint64_t{3} * kFew * static_cast<uint32_t>(gpu.processors);
  if (batches <= at_once) return launch<T, MT, wide, 1, 3>(c, gpu, kFew);
  return launch<T, MT, wide, 1, MT>(c, gpu, kMany);
}

template <typename T>
cudaError_t with_rows(const FewRows& c) {
  const Gpu gpu = Gpu::current();
  if (c.w.scale_dtype == LS_DTYPE_F32) {
    return c.m <= 8 ? with_groups<T, 1, true>(c, gpu) : with_groups<T, 2, true>(c, gpu);
  }
  return c.m <= 8 ? with_groups<T, 1, false>(c, gpu) : with_groups<T, 2, false>(c, gpu);
}

}  // namespace

bool has_few_rows(const Matrix& w, bool shuffled) {
  return w.packing == Packing::gptq && w.bits == 4 && !shuffled && w.n % kBand == 0 &&
         w.k % few::kStep == 0 && w.group_size % few::kStep == 0 && w.n < 1u << 28 &&
         w.k < 1u << 27;
}

bool few_rows_fit(const FewRows& c) {
  const bool half = c.x_dtype == LS_DTYPE_F16 || c.x_dtype == LS_DTYPE_BF16;
  return half && c.m <= FewRows::kMost && has_few_rows(c.w, c.w.g_idx != nullptr) &&
         (reinterpret_cast<uintptr_t>(c.x) | c.x_stride * 2 |
          reinterpret_cast<uintptr_t>(c.w.qweight) | reinterpret_cast<uintptr_t>(c.w.scales)) %
                 16 ==
             0;
}

cudaError_t few_rows(const FewRows& c) {
  if (c.m == 0) return cudaSuccess;
  return c.x_dtype == LS_DTYPE_F16 ? with_rows<__half>(c) : with_rows<__nv_bfloat16>(c);
}

}  // namespace loadstone::common::cuda
