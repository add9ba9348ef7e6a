// What a file is by its first bytes, whatever its name says.
#pragma once

#include <string>
#include <string_view>

#include "base/file.hpp"
#include "base/result.hpp"

namespace loadstone::formats {

enum class ContentKind : uint8_t {
  too_short,  // under 8 bytes: no container that we know
  safetensors,
  gguf,
  zip,     // torch.save since 1.6, or any zip
  pickle,  // protocols 2 to 5
  tar,     // torch.save before 1.6
  html,    // a saved error or login page
  lfs,     // a Git LFS pointer instead of the file
  json,    // a bare JSON text
  unknown,
};

/// Bytes that kind_of_content looks at.
inline constexpr uint64_t kContentPrefix = 512;

/// `prefix`: the first bytes of the file (all of them, or kContentPrefix). A safetensors file is
/// one whose header length fits into the file and whose header begins with `{`.
ContentKind kind_of_content(std::string_view prefix, uint64_t file_nbytes);

Result<ContentKind> read_content_kind(const File& file, uint64_t file_nbytes);

/// The error for a file that is not `expected` ("safetensors", "GGUF"): says what it is and what to
/// do. Pickles are refused under any name and option.
Error refused_content(ContentKind kind, const std::string& path, std::string_view expected,
                      uint64_t file_nbytes);

}  // namespace loadstone::formats
