// Asks for huge pages under a large buffer that is about to be filled: on fresh memory the page
// faults cost more than the copy.
#pragma once

#include <cstddef>

namespace loadstone {

/// Advice for the whole 2 MiB pages inside [at, at + nbytes); nothing for less, no error.
void prefer_huge_pages(void* at, size_t nbytes);

}  // namespace loadstone
