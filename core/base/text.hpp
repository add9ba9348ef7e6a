// Text for people: escaping of names that come from files, nearest names, units.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace loadstone {

/// `"name"` with control characters and invalid UTF-8 escaped, cut after `max_nbytes` (…).
std::string quoted(std::string_view name, size_t max_nbytes = 200);
/// The same without quotes, for paths in front of a colon.
std::string escaped(std::string_view name, size_t max_nbytes = 200);

/// Length of the longest prefix that is valid UTF-8.
size_t valid_utf8_prefix(std::string_view text);

/// The candidate nearest to `name` if its edit distance is at most 2 or a third of its length,
/// else "". Ties: the first candidate.
std::string nearest(std::string_view name, std::span<const std::string> candidates);

/// "21.4 GiB", "512 bytes".
std::string human_nbytes(uint64_t nbytes);
/// "a, b or c"; with `max` the rest is counted: "a, b and 40 more".
std::string join(std::span<const std::string> words, std::string_view last = " or ",
                 size_t max = SIZE_MAX);

}  // namespace loadstone
