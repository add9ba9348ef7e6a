// Character tables of the tokenizer. Written by make_unicode_tables.py; all sorted by code point.
#pragma once

#include <cstdint>
#include <span>

namespace loadstone::tokenizer {

/// Code points [first, last].
struct Range {
  uint32_t first, last;
};

/// One canonical step: `code` is `a` (b = 0) or `a b`. Hangul is arithmetic and not listed.
struct Decomposition {
  uint32_t code, a, b;
};

/// `a b` composes to `code`; exclusions are left out. Sorted by (a, b).
struct Composition {
  uint32_t a, b, code;
};

/// Canonical combining class of [first, last]; 0 where nothing is listed.
struct CombiningRange {
  uint32_t first, last;
  uint8_t combining_class;
};

extern const std::span<const Range> kLetters;  // \p{L}
extern const std::span<const Range> kNumbers;  // \p{N}
extern const std::span<const Range> kSpaces;   // \s
extern const std::span<const Decomposition> kDecompositions;
extern const std::span<const Composition> kCompositions;
extern const std::span<const CombiningRange> kCombining;

}  // namespace loadstone::tokenizer
