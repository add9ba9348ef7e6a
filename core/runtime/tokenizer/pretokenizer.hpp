// Splits text into the words that byte-pair merging works on: one hand-written linear scanner per
// known pattern, so no regular expression of a file ever runs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace loadstone::tokenizer {

/// Ends (exclusive indices) of consecutive words; the last one is text.size(). Empty for no text.
using Splitter = std::vector<size_t> (*)(std::u32string_view text);

/// The scanner of a pattern as `tokenizer.json` spells it.
/// Errors: unsupported for any other pattern.
Result<Splitter> splitter_of(std::string_view pattern);

/// Qwen2's pattern:
///   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*
///   |\s*[\r\n]+|\s+(?!\S)|\s+
std::vector<size_t> split_qwen2(std::u32string_view text);

}  // namespace loadstone::tokenizer
