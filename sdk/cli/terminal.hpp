// What standard output and error can show: colours, width. NO_COLOR, TERM=dumb and anything that
// is no terminal turn colours off.
#pragma once

#include <string>
#include <string_view>

namespace loadstone::cli {

enum class Stream { out, err };

enum class Style { plain, bold, dim, green, yellow, red, blue };

bool is_terminal(Stream stream);
bool has_colour(Stream stream);
/// Columns of the terminal, 80 if unknown.
unsigned width_of(Stream stream);
/// `text` in a style, or as it is where colours are off.
std::string styled(std::string_view text, Style style, Stream stream = Stream::out);

/// Writes all of `text`; false when the reader has gone or the device is full.
bool write_out(std::string_view text);
void write_err(std::string_view text);

/// Number of columns that UTF-8 text takes (one per code point).
size_t columns_of(std::string_view text);

}  // namespace loadstone::cli
