// Errors on stderr, and the code that the process ends with (design: exit codes).
#pragma once

#include "base/result.hpp"

namespace loadstone::cli {

inline constexpr int kFine = 0;
inline constexpr int kFailed = 1;      // while running: I/O, memory, device
inline constexpr int kWrongInput = 2;  // command line, configuration, checkpoint
inline constexpr int kGateNotPassed = 3;
inline constexpr int kCancelled = 130;

int exit_code_of(Code code);
/// "loadstone: error: …", a line for each problem, on stderr.
void print_error(const Error& error);
/// "loadstone: note: …" on stderr.
void print_note(const std::string& text);

}  // namespace loadstone::cli
