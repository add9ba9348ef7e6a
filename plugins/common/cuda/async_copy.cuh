// Copies from global to shared memory that go on while a thread works (cp.async, sm_80). A thread
// sees what it copied itself after copies_wait, others after a barrier behind it. Private to
// kernels.
#pragma once

#include <cstdint>

namespace loadstone::common::cuda {

/// 4, 8 or 16 bytes, aligned as many.
template <int nbytes>
__device__ inline void copy_async(void* to, const void* from) {
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  if constexpr (nbytes == 16) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(at), "l"(from)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(at), "l"(from), "n"(nbytes)
                 : "memory");
  }
}
/// 16 bytes, or zeros without reading.
__device__ inline void copy_async_or_zeros(void* to, const void* from, bool reads) {
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(at), "l"(from),
               "r"(reads ? 16 : 0)
               : "memory");
}
/// Closes a group of copies.
__device__ inline void copies_end() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Until all groups but the last `open` have arrived.
template <int open>
__device__ inline void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(open) : "memory");
}

}  // namespace loadstone::common::cuda
