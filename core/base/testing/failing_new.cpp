#include "base/testing/failing_new.hpp"

#include <cstdlib>
#include <new>

namespace loadstone::testing {

thread_local int64_t allocations_left = -1;
thread_local size_t largest_allocation = 0;

}  // namespace loadstone::testing

using loadstone::testing::allocations_left;
using loadstone::testing::largest_allocation;

// All forms but the aligned ones: a sanitizer's own would not match what these free.
void* operator new(std::size_t nbytes) {
  if (allocations_left == 0) throw std::bad_alloc();
  if (allocations_left > 0) --allocations_left;
  if (nbytes > largest_allocation) largest_allocation = nbytes;
  if (void* memory = std::malloc(nbytes == 0 ? 1 : nbytes)) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t nbytes, const std::nothrow_t&) noexcept {
  if (allocations_left == 0) return nullptr;
  if (allocations_left > 0) --allocations_left;
  if (nbytes > largest_allocation) largest_allocation = nbytes;
  return std::malloc(nbytes == 0 ? 1 : nbytes);
}
void* operator new[](std::size_t nbytes) { return operator new(nbytes); }
void* operator new[](std::size_t nbytes, const std::nothrow_t& nothrow) noexcept {
  return operator new(nbytes, nothrow);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
