#include "runtime/tokenizer/unicode.hpp"

#include <algorithm>
#include <span>

#include "base/text.hpp"
#include "runtime/tokenizer/unicode_tables.hpp"

namespace loadstone::tokenizer {
namespace {

// The Hangul arithmetic of the Unicode standard, section 3.12.
constexpr char32_t kSBase = 0xAC00, kLBase = 0x1100, kVBase = 0x1161, kTBase = 0x11A7;
constexpr char32_t kLCount = 19, kVCount = 21, kTCount = 28, kSCount = kLCount * kVCount * kTCount;

bool contains(std::span<const Range> ranges, char32_t code) {
  auto after = std::upper_bound(ranges.begin(), ranges.end(), code,
                                [](char32_t value, const Range& r) { return value < r.first; });
  return after != ranges.begin() && code <= std::prev(after)->last;
}

uint8_t combining_class(char32_t code) {
  if (code < 0x300) return 0;
  auto after =
      std::upper_bound(kCombining.begin(), kCombining.end(), code,
                       [](char32_t value, const CombiningRange& r) { return value < r.first; });
  if (after == kCombining.begin() || code > std::prev(after)->last) return 0;
  return std::prev(after)->combining_class;
}

void decompose(char32_t code, std::u32string& out) {
  if (code < 0xC0) {
    out.push_back(code);
    return;
  }
  if (code >= kSBase && code < kSBase + kSCount) {
    const char32_t index = code - kSBase;
    out.push_back(kLBase + index / (kVCount * kTCount));
    out.push_back(kVBase + index % (kVCount * kTCount) / kTCount);
    if (index % kTCount != 0) out.push_back(kTBase + index % kTCount);
    return;
  }
  auto found =
      std::lower_bound(kDecompositions.begin(), kDecompositions.end(), code,
                       [](const Decomposition& d, char32_t value) { return d.code < value; });
  if (found == kDecompositions.end() || found->code != code) {
    out.push_back(code);
    return;
  }
  decompose(found->a, out);
  if (found->b != 0) decompose(found->b, out);
}

/// 0 if the two don't compose.
char32_t compose(char32_t a, char32_t b) {
  if (a >= kLBase && a < kLBase + kLCount && b >= kVBase && b < kVBase + kVCount) {
    return kSBase + ((a - kLBase) * kVCount + (b - kVBase)) * kTCount;
  }
  if (a >= kSBase && a < kSBase + kSCount && (a - kSBase) % kTCount == 0 && b > kTBase &&
      b < kTBase + kTCount) {
    return a + (b - kTBase);
  }
  auto found = std::lower_bound(kCompositions.begin(), kCompositions.end(), std::pair{a, b},
                                [](const Composition& c, const std::pair<char32_t, char32_t>& p) {
                                  return std::pair<char32_t, char32_t>{c.a, c.b} < p;
                                });
  if (found == kCompositions.end() || found->a != a || found->b != b) return 0;
  return found->code;
}

/// Sorts each run of marks by combining class, keeping the order of equals.
void order_marks(std::u32string& text) {
  size_t at = 0;
  while (at < text.size()) {
    if (combining_class(text[at]) == 0) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < text.size() && combining_class(text[end]) != 0) ++end;
    std::stable_sort(
        text.begin() + static_cast<ptrdiff_t>(at), text.begin() + static_cast<ptrdiff_t>(end),
        [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
    at = end;
  }
}

}  // namespace

bool is_letter(char32_t code) {
  if (code < 0x80) return (code | 0x20) >= 'a' && (code | 0x20) <= 'z';
  return contains(kLetters, code);
}

bool is_number(char32_t code) {
  if (code < 0x80) return code >= '0' && code <= '9';
  return contains(kNumbers, code);
}

bool is_space(char32_t code) { return contains(kSpaces, code); }

Result<std::u32string> decode_utf8(std::string_view text) {
  const size_t valid = valid_utf8_prefix(text);
  if (valid != text.size()) {
    return Error{Code::invalid_argument,
                 "text is not UTF-8",
                 "",
                 "found an invalid sequence at byte " + std::to_string(valid) + ", expected UTF-8",
                 "",
                 {}};
  }
  std::u32string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const size_t count = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    char32_t code = count == 1 ? lead : lead & (0x7Fu >> count);
    for (size_t i = 1; i < count; ++i) {
      code = (code << 6) | (static_cast<unsigned char>(text[at + i]) & 0x3Fu);
    }
    out.push_back(code);
    at += count;
  }
  return out;
}

void append_utf8(char32_t code, std::string& out) {
  auto tail = [&](int shift) { out.push_back(static_cast<char>(0x80 | ((code >> shift) & 0x3F))); };
  if (code < 0x80) {
    out.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out.push_back(static_cast<char>(0xC0 | (code >> 6)));
    tail(0);
  } else if (code < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | (code >> 12)));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xF0 | (code >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

std::u32string to_nfc(std::u32string_view text) {
  if (std::all_of(text.begin(), text.end(), [](char32_t c) { return c < 0xC0; })) {
    return std::u32string(text);
  }
  std::u32string decomposed;
  decomposed.reserve(text.size());
  for (char32_t code : text) decompose(code, decomposed);
  order_marks(decomposed);

  constexpr size_t kNone = SIZE_MAX;
  std::u32string out;
  out.reserve(decomposed.size());
  size_t starter = kNone;  // index in `out` of the last character of class 0
  uint8_t last_class = 0;  // of the last character kept after the starter; 0: none
  for (char32_t code : decomposed) {
    const uint8_t mark = combining_class(code);
    // A character is blocked from its starter by one of the same or a higher class between them.
    const bool adjacent = starter != kNone && starter + 1 == out.size();
    if (starter != kNone && (adjacent || (last_class != 0 && last_class < mark))) {
      if (char32_t joined = compose(out[starter], code)) {
        out[starter] = joined;
        continue;
      }
    }
    if (mark == 0) starter = out.size();
    last_class = mark;
    out.push_back(code);
  }
  return out;
}

}  // namespace loadstone::tokenizer
