// The examples that --help shows for each command.
#pragma once

#include <string>
#include <string_view>

namespace loadstone::cli {

/// "Examples:\n  …" for "inspect", "plugins list", …; "" names the program itself.
std::string examples_of(std::string_view command);

}  // namespace loadstone::cli
