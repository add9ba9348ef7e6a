// Plain floats from one dtype to another while loading.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.hpp"

namespace loadstone::load {

/// Converts `elems` values; both pointers are aligned to their dtype. Rounds to nearest, ties to
/// even; NaN stays NaN, infinities stay. `from` is F16, BF16, F32, F64, F8_E4M3 or F8_E5M2, `to`
/// is F16, BF16, F32 or F64. False if a finite value exceeds the range of `to` (the rest is
/// converted all the same) or a dtype is none of these.
bool cast(const std::byte* from, DType from_dtype, std::byte* to, DType to_dtype, uint64_t elems);

/// Whether `cast` reads this dtype.
bool can_cast_from(DType dtype);

}  // namespace loadstone::load
