#include "base/text.hpp"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <optional>

namespace loadstone {
namespace {

constexpr std::string_view kEllipsis = "…";

// Controls, format characters (bidirectional overrides among them) and line separators can forge
// or hide text on a terminal; everything else is shown as it is.
bool must_escape(utf8proc_int32_t codepoint) {
  switch (utf8proc_category(codepoint)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return true;
    default:
      return false;
  }
}

std::string escape_codepoint(utf8proc_int32_t codepoint) {
  switch (codepoint) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case 0:
      return "\\0";
    default:
      break;
  }
  if (codepoint < 0x80) return fmt::format("\\x{:02x}", codepoint);
  if (codepoint <= 0xFFFF) return fmt::format("\\u{:04x}", codepoint);
  return fmt::format("\\U{:08x}", codepoint);
}

std::string escape(std::string_view name, size_t max_nbytes, bool quotes) {
  std::string out;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(name.data());
  for (size_t at = 0; at < name.size();) {
    utf8proc_int32_t codepoint = -1;
    const auto left = static_cast<utf8proc_ssize_t>(std::min<size_t>(name.size() - at, 4));
    const utf8proc_ssize_t used = utf8proc_iterate(bytes + at, left, &codepoint);
    const size_t length = used > 0 ? static_cast<size_t>(used) : 1;
    if (at + length > max_nbytes) return out += kEllipsis;
    if (used <= 0) {
      out += fmt::format("\\x{:02x}", bytes[at]);
    } else if (must_escape(codepoint)) {
      out += escape_codepoint(codepoint);
    } else {
      if (quotes && (codepoint == '"' || codepoint == '\\')) out += '\\';
      out += name.substr(at, length);
    }
    at += length;
  }
  return out;
}

// Levenshtein distance of a and b, or nullopt when it is above `limit`.
std::optional<size_t> distance_within(std::string_view a, std::string_view b, size_t limit) {
  const size_t longer = std::max(a.size(), b.size());
  if (longer - std::min(a.size(), b.size()) > limit) return std::nullopt;
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    size_t row_min = row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
      row_min = std::min(row_min, row[j]);
    }
    if (row_min > limit) return std::nullopt;
  }
  if (row.back() > limit) return std::nullopt;
  return row.back();
}

}  // namespace

std::string quoted(std::string_view name, size_t max_nbytes) {
  return "\"" + escape(name, max_nbytes, true) + "\"";
}

std::string escaped(std::string_view name, size_t max_nbytes) {
  return escape(name, max_nbytes, false);
}

size_t valid_utf8_prefix(std::string_view text) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  size_t at = 0;
  while (at < text.size()) {
    utf8proc_int32_t codepoint = -1;
    const auto left = static_cast<utf8proc_ssize_t>(std::min<size_t>(text.size() - at, 4));
    const utf8proc_ssize_t used = utf8proc_iterate(bytes + at, left, &codepoint);
    if (used <= 0) return at;
    at += static_cast<size_t>(used);
  }
  return at;
}

std::string nearest(std::string_view name, std::span<const std::string> candidates) {
  constexpr size_t kLongestName = 512;  // bounds the work on names from files
  if (name.empty() || name.size() > kLongestName) return {};
  // At least one character must be right, or every short word is near every other.
  size_t limit = std::min(std::max<size_t>(2, name.size() / 3), name.size() - 1);
  const std::string* best = nullptr;
  for (const std::string& candidate : candidates) {
    const auto distance = distance_within(name, candidate, limit);
    if (!distance) continue;
    best = &candidate;
    if (*distance == 0) break;
    limit = *distance - 1;
  }
  return best ? *best : std::string();
}

std::string human_nbytes(uint64_t nbytes) {
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (nbytes == 1) return "1 byte";
  if (nbytes < 1024) return fmt::format("{} bytes", nbytes);
  double value = static_cast<double>(nbytes) / 1024;
  size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string join(std::span<const std::string> words, std::string_view last, size_t max) {
  std::string out;
  const size_t shown = std::min(words.size(), max);
  for (size_t i = 0; i < shown; ++i) {
    if (i > 0) out += i + 1 == words.size() ? last : std::string_view(", ");
    out += words[i];
  }
  if (shown < words.size()) {
    out += fmt::format("{}{} more", shown == 0 ? "" : " and ", words.size() - shown);
  }
  return out;
}

}  // namespace loadstone
