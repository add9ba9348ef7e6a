#include "base/huge_pages.hpp"

#include <sys/mman.h>

#include <cstdint>

namespace loadstone {

void prefer_huge_pages(void* at, size_t nbytes) {
  constexpr uintptr_t kHugePage = 2 << 20;
  const auto begin = reinterpret_cast<uintptr_t>(at);
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t last = (begin + nbytes) / kHugePage * kHugePage;
  if (first >= last) return;
  (void)::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}

}  // namespace loadstone
