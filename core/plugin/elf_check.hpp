// What dlopen doesn't check before it maps a file: a cut library raises SIGBUS inside it.
#pragma once

#include <string>

#include "base/file.hpp"
#include "base/result.hpp"

namespace loadstone::plugin {

/// Whether the file is a whole shared library for this machine: ELF magic, 64 bits, little-endian,
/// this architecture, type ET_DYN, and every PT_LOAD segment and the section table inside the file.
/// Errors call it `shown`. Errors: unsupported (another machine), invalid_argument (no ELF, cut),
/// io.
Status check_elf(const File& file, const std::string& shown);

}  // namespace loadstone::plugin
