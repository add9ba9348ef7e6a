// Hopper's asynchronous units as kernels of plugins and runtime use them: barriers in shared
// memory, tiles copied by the copy engine into every block of a cluster, products of a warpgroup
// from shared memory. PTX ISA 8.1, sm_90a only. Private to kernels.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace loadstone::device::hopper {

__device__ inline uint32_t shared_address(const void* at) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(at));
}

__device__ inline void barrier_init(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
/// Makes barriers visible to the cluster and the copy engine.
__device__ inline void barriers_are_set() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void barrier_wait(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over;\nbra again;\nover:\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
__device__ inline void barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// Arrives once, and announces bytes that copies will bring.
__device__ inline void barrier_expect(uint32_t barrier, uint32_t nbytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(nbytes)
               : "memory");
}
/// Arrives at the same barrier of block `rank` of the cluster.
__device__ inline void barrier_arrive_at(uint32_t barrier, uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(barrier),
      "r"(rank)
      : "memory");
}
__device__ inline uint32_t cluster_rank() {
  uint32_t out;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(out));
  return out;
}
/// That a thread has begun and its block's barriers are set; and until all of the cluster have said
/// so. What a thread does between them waits for nobody.
__device__ inline void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
}
__device__ inline void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}
/// All threads of all blocks of the cluster.
__device__ inline void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

/// Contiguous bytes, multiples of 16, to shared memory.
__device__ inline void copy_bytes(uint32_t to, const void* from, uint32_t nbytes,
                                  uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(nbytes), "r"(barrier)
      : "memory");
}

/// Four floats to `address` in the shared memory of block `rank` of the cluster, 16 bytes of what
/// the barrier there waits for.
__device__ inline void send(uint32_t address, uint32_t barrier, uint32_t rank, const float4& four) {
  asm volatile(
      "{\n.reg .b32 there, waits;\n"
      "mapa.shared::cluster.u32 there, %0, %2;\n"
      "mapa.shared::cluster.u32 waits, %1, %2;\n"
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [there], {%3, %4, %5, %6}, "
      "[waits];\n}" ::"r"(address),
      "r"(barrier), "r"(rank), "f"(four.x), "f"(four.y), "f"(four.z), "f"(four.w)
      : "memory");
}
/// barrier_wait for what other blocks sent.
__device__ inline void barrier_wait_for_cluster(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over;\nbra again;\nover:\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

/// Until the kernels before in the stream are done, of a kernel that was launched to overlap their
/// ends.
__device__ inline void wait_for_kernels_before() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}
/// Such a kernel behind may start, once all blocks have said so.
__device__ inline void let_next_kernel_start() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

/// A box of a matrix to shared memory; `column` and `row` of its first element.
__device__ inline void copy_box(uint32_t to, const CUtensorMap& map, int32_t column, int32_t row,
                                uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
      "l"(&map), "r"(column), "r"(row), "r"(barrier)
      : "memory");
}
/// The same to every block of `blocks` (a bit each), at the same place and barrier there.
__device__ inline void copy_box_to(uint32_t to, const CUtensorMap& map, int32_t column, int32_t row,
                                   uint32_t barrier, uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
      "l"(&map), "r"(column), "r"(row), "r"(barrier), "h"(blocks)
      : "memory");
}

/// Rows of 128 bytes, swizzled as a box of SWIZZLE_128B lies; `at` a multiple of 1024. 32 bytes
/// along a row are 2 more.
__device__ inline uint64_t rows_descriptor(uint32_t at) {
  constexpr uint64_t kEightRows = uint64_t{1024 >> 4} << 32, kSwizzle128 = uint64_t{1} << 62;
  return (at & 0x3ffffu) >> 4 | uint64_t{1} << 16 | kEightRows | kSwizzle128;
}

__device__ inline void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void products_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Until at most `pending` commits aren't done.
template <int pending>
__device__ inline void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

template <int registers>
__device__ inline void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
__device__ inline void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}
/// Waits for the `threads` threads that use barrier `id`.
__device__ inline void some_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// Accumulators as operands of an asm statement; `kind` is "+r" or "+f".
#define LOADSTONE_FOUR(kind, d, i) kind(d[i]), kind(d[i + 1]), kind(d[i + 2]), kind(d[i + 3])
#define LOADSTONE_SIXTEEN(kind, d, i)                                                         \
  LOADSTONE_FOUR(kind, d, i), LOADSTONE_FOUR(kind, d, i + 4), LOADSTONE_FOUR(kind, d, i + 8), \
      LOADSTONE_FOUR(kind, d, i + 12)

/// d (64, 256) = a (64, 32)·bᵀ (256, 32) + d (without d where `adds` is 0), int8 to int32. Value
/// 4j+2h+c of a thread: row 16·warp + lane/4 + 8h, column 8j + 2·(lane%4) + c.
__device__ inline void product_s8(uint32_t (&d)[128], uint64_t a, uint64_t b, int adds) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.s8 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "
      "%111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, "
      "%125, %126, %127}, %128, %129, p;\n}"
      : LOADSTONE_SIXTEEN("+r", d, 0), LOADSTONE_SIXTEEN("+r", d, 16),
        LOADSTONE_SIXTEEN("+r", d, 32), LOADSTONE_SIXTEEN("+r", d, 48),
        LOADSTONE_SIXTEEN("+r", d, 64), LOADSTONE_SIXTEEN("+r", d, 80),
        LOADSTONE_SIXTEEN("+r", d, 96), LOADSTONE_SIXTEEN("+r", d, 112)
      : "l"(a), "l"(b), "r"(adds));
}

/// d (64, 128) = a (64, 32)·bᵀ (128, 32) + d (without d where `adds` is 0), e4m3 to float32. Values
/// lie as product_s8's.
__device__ inline void product_e4m3(float (&d)[64], uint64_t a, uint64_t b, int adds) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, %64, %65, p, 1, 1;\n}"
      : LOADSTONE_SIXTEEN("+f", d, 0), LOADSTONE_SIXTEEN("+f", d, 16),
        LOADSTONE_SIXTEEN("+f", d, 32), LOADSTONE_SIXTEEN("+f", d, 48)
      : "l"(a), "l"(b), "r"(adds));
}

}  // namespace loadstone::device::hopper
