// Command line → Invocation. The only place that knows the argument parser.
#pragma once

#include "base/result.hpp"
#include "options.hpp"

namespace loadstone::cli {

/// Errors: invalid_argument: an unknown command or flag (with the nearest one), a bad value, a
/// missing argument.
Result<Invocation> parse_command_line(int argc, const char* const* argv);

}  // namespace loadstone::cli
