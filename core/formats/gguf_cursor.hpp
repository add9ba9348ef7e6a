// A bounded cursor over the head of a file: reads ahead in growing steps, so that millions of small
// values cost no call each, and never beyond the file or the header limit.
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.hpp"
#include "base/result.hpp"

namespace loadstone::formats {

/// A range of the bytes read so far; stays valid while the buffer grows.
struct ByteRange {
  uint64_t offset = 0;
  uint64_t nbytes = 0;
};

class GgufCursor {
 public:
  GgufCursor(const File& file, uint64_t file_nbytes, uint64_t max_header_nbytes)
      : file_(file), file_nbytes_(file_nbytes), max_nbytes_(max_header_nbytes) {}

  uint64_t offset() const { return offset_; }
  /// Bytes between the cursor and the end of the file.
  uint64_t rest() const { return file_nbytes_ - offset_; }

  /// Advances over `nbytes`, which are in the buffer afterwards.
  Result<ByteRange> take(uint64_t nbytes);
  /// A little-endian number.
  template <typename T>
  Result<T> number() {
    LS_TRY(const ByteRange range, take(sizeof(T)));
    return at<T>(range.offset);
  }
  /// u64 length and so many bytes.
  Result<ByteRange> text(std::string_view what, uint64_t max_nbytes);

  /// Of bytes taken before.
  template <typename T>
  T at(uint64_t offset) const {
    T value;
    std::memcpy(&value, buffer_.data() + offset, sizeof(T));
    return value;
  }
  std::string_view view(ByteRange range) const {
    return {reinterpret_cast<const char*>(buffer_.data()) + range.offset, range.nbytes};
  }

  Error rejected(std::string detail) const;

 private:
  const File& file_;
  const uint64_t file_nbytes_;
  const uint64_t max_nbytes_;
  uint64_t offset_ = 0;
  std::vector<std::byte> buffer_;
};

}  // namespace loadstone::formats
