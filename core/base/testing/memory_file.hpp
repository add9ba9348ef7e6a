// A File over bytes in memory.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "base/file.hpp"

namespace loadstone::testing {

/// The bytes must outlive the file.
class MemoryFile final : public File {
 public:
  explicit MemoryFile(std::string_view bytes, std::string path = "memory")
      : File(std::move(path)), bytes_(bytes) {}

  ssize_t pread_some(std::span<std::byte> into, uint64_t offset) const override {
    if (offset >= bytes_.size()) return 0;
    const size_t count = std::min<size_t>(into.size(), bytes_.size() - offset);
    std::memcpy(into.data(), bytes_.data() + offset, count);
    return static_cast<ssize_t>(count);
  }
  Result<FileIdentity> identity() const override { return FileIdentity{.nbytes = bytes_.size()}; }

 private:
  std::string_view bytes_;
};

}  // namespace loadstone::testing
