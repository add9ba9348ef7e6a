// What the tokenizer needs of Unicode: UTF-8, three character classes, normal form C.
// The tables are not the system's: the tokenizer's models were trained with these.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace loadstone::tokenizer {

bool is_letter(char32_t code);  // \p{L}
bool is_number(char32_t code);  // \p{N}
bool is_space(char32_t code);   // \s

/// Code points of UTF-8 text. Errors: invalid_argument with the offset of the first byte that is
/// no UTF-8 (overlong forms and surrogates included).
Result<std::u32string> decode_utf8(std::string_view text);
/// Appends one code point.
void append_utf8(char32_t code, std::string& out);

/// Normal form C: decompose, order marks by combining class, compose. Linear but for the sorting
/// of a run of marks.
std::u32string to_nfc(std::u32string_view text);

}  // namespace loadstone::tokenizer
