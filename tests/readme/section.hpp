// A generated part of the README, between "<!-- NAME -->" and "<!-- end of NAME -->".
#pragma once

#include <string>
#include <vector>

namespace loadstone::testing {

/// Markdown: a header row and rows, every cell padded to its column.
std::string markdown(const std::vector<std::vector<std::string>>& rows);

/// Fails, printing the right text, where the README has another; with LOADSTONE_WRITE_README set it
/// writes it instead.
void expect_section(const std::string& name, const std::string& text);

}  // namespace loadstone::testing
