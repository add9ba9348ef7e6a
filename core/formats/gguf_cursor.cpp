#include "formats/gguf_cursor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <climits>

#include "base/text.hpp"

namespace loadstone::formats {

static_assert(std::endian::native == std::endian::little, "numbers are taken as they lie");

Result<ByteRange> GgufCursor::take(uint64_t nbytes) {
  constexpr uint64_t kFirstRead = 64 << 10;
  if (nbytes > rest()) {
    return rejected(
        fmt::format("found {} bytes wanted at byte {}, expected at most {} (the file "
                    "ends there)",
                    nbytes, offset_, rest()));
  }
  const uint64_t end = offset_ + nbytes;
  if (end > max_nbytes_) {
    return rejected(
        fmt::format("found a head of more than {} bytes, expected less (the limit "
                    "max_header_nbytes)",
                    max_nbytes_));
  }
  const uint64_t have = buffer_.size();
  if (end > have) {
    const uint64_t ahead = std::min(have + std::max(kFirstRead, have), file_nbytes_);
    buffer_.resize(std::max(end, ahead));
    LS_CHECK(file_.read_exact(std::span(buffer_).subspan(have), have));
  }
  const ByteRange range{offset_, nbytes};
  offset_ = end;
  return range;
}

Result<ByteRange> GgufCursor::text(std::string_view what, uint64_t max_nbytes) {
  LS_TRY(const uint64_t nbytes, number<uint64_t>());
  const uint64_t limit = std::min(rest(), max_nbytes);
  if (nbytes <= limit) return take(nbytes);
  return rejected(fmt::format("found {} of {} bytes at byte {}, expected at most {}", what, nbytes,
                              offset_ - sizeof(uint64_t), limit));
}

Error GgufCursor::rejected(std::string detail) const {
  return Error{Code::invalid_checkpoint, "gguf header rejected", escaped(file_.path(), PATH_MAX),
               std::move(detail)};
}

}  // namespace loadstone::formats
