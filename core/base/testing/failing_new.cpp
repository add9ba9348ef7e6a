#include "base/testing/failing_new.hpp"

#include <cstdlib>
#include <new>

namespace loadstone::testing {

thread_local int64_t allocations_left = -1;

}  // namespace loadstone::testing

using loadstone::testing::allocations_left;

void* operator new(std::size_t nbytes) {
  if (allocations_left == 0) throw std::bad_alloc();
  if (allocations_left > 0) --allocations_left;
  if (void* memory = std::malloc(nbytes == 0 ? 1 : nbytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
