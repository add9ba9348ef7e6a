#include "formats/safetensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <memory>

#include "base/huge_pages.hpp"
#include "base/text.hpp"
#include "formats/content_kind.hpp"
#include "formats/safetensors_parser.hpp"
#include "formats/safetensors_scanner.hpp"

namespace loadstone::formats {
namespace {

constexpr uint64_t kLengthNbytes = 8;

Error header_rejected(const std::string& path, std::string detail) {
  return Error{Code::invalid_checkpoint, "safetensors header rejected", escaped(path, PATH_MAX),
               std::move(detail)};
}

Error bad_tiling(const std::string& path, const TensorEntry& tensor, const TensorEntry* previous,
                 uint64_t data_begin, uint64_t expected) {
  const uint64_t begin = tensor.offset - data_begin;
  std::string detail =
      previous == nullptr
          ? fmt::format("found the first range at {}, expected it at 0", begin)
          : fmt::format("found {} at [{}, {}), expected begin {}, the end of tensor {}",
                        begin < expected ? "an overlap" : "a gap", begin, begin + tensor.nbytes,
                        expected, loadstone::quoted(previous->name));
  return Error{Code::invalid_checkpoint, "tensor range rejected",
               escaped(path, PATH_MAX) + ": " + escaped(tensor.name), std::move(detail)};
}

// Sorts by offset and checks that the ranges tile [data_begin, file_nbytes).
Status check_ranges(std::vector<TensorEntry>& tensors, const std::string& path, uint64_t data_begin,
                    uint64_t file_nbytes) {
  const auto before = [](const TensorEntry& a, const TensorEntry& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.nbytes < b.nbytes;
  };
  if (!std::is_sorted(tensors.begin(), tensors.end(), before)) {
    std::stable_sort(tensors.begin(), tensors.end(), before);
  }
  uint64_t end = data_begin;
  const TensorEntry* previous = nullptr;
  for (const TensorEntry& tensor : tensors) {
    if (tensor.offset != end) {
      return bad_tiling(path, tensor, previous, data_begin, end - data_begin);
    }
    end += tensor.nbytes;  // the parser has checked this sum
    previous = &tensor;
  }
  if (end == file_nbytes) return {};
  if (end > file_nbytes) {
    return Error{Code::invalid_checkpoint, "file is truncated", escaped(path, PATH_MAX),
                 fmt::format("found {} bytes, expected {} ({} bytes missing: an interrupted "
                             "download?)",
                             file_nbytes, end, end - file_nbytes)};
  }
  return Error{Code::invalid_checkpoint, "file is too long", escaped(path, PATH_MAX),
               fmt::format("found {} bytes, expected {} ({} bytes belong to no tensor)",
                           file_nbytes, end, file_nbytes - end)};
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(std::span<const char> padded,
                                                   size_t header_nbytes, uint64_t file_nbytes,
                                                   const std::string& path,
                                                   const OpenOptions& options) {
  static_assert(kHeaderPadding >= simdjson::SIMDJSON_PADDING);
  if (padded.size() < header_nbytes + kHeaderPadding) {
    return Error{Code::invalid_argument, "header is not padded", path};
  }
  if (file_nbytes < kLengthNbytes + header_nbytes) {
    return Error{Code::invalid_argument, "file is smaller than its header", path};
  }
  SafetensorsHeader header;
  if (!scan_safetensors_header({padded.data(), header_nbytes}, header)) {
    header = {};
    SafetensorsParser parser(padded, header_nbytes, file_nbytes, path, options);
    LS_TRY(header, parser.parse());
  }
  LS_CHECK(check_ranges(header.tensors, path, kLengthNbytes + header_nbytes, file_nbytes));
  return header;
}

Result<SafetensorsHeader> read_safetensors_header(const File& file, uint64_t file_nbytes,
                                                  const OpenOptions& options) {
  if (file_nbytes < kLengthNbytes) {
    return refused_content(ContentKind::too_short, file.path(), "safetensors", file_nbytes);
  }
  uint8_t length_bytes[kLengthNbytes];
  LS_CHECK(file.read_exact(std::as_writable_bytes(std::span(length_bytes)), 0));
  uint64_t length = 0;
  for (size_t i = kLengthNbytes; i-- > 0;) length = length << 8 | length_bytes[i];
  if (length > file_nbytes - kLengthNbytes) {
    return header_rejected(
        file.path(), fmt::format("found header length {} bytes, expected at most {} (file has "
                                 "{})",
                                 length, file_nbytes - kLengthNbytes, file_nbytes));
  }
  if (length > options.max_header_nbytes) {
    return header_rejected(file.path(),
                           fmt::format("found header length {} bytes, expected at most {} (the "
                                       "limit max_header_nbytes)",
                                       length, options.max_header_nbytes));
  }
  // Filled by the read: value-initialising 100 MB first would touch every page twice.
  const size_t padded_nbytes = length + kHeaderPadding;
  const std::unique_ptr<char[]> buffer(new char[padded_nbytes]);
  prefer_huge_pages(buffer.get(), padded_nbytes);
  std::memset(buffer.get() + length, 0, kHeaderPadding);
  const std::span<char> padded(buffer.get(), padded_nbytes);
  LS_CHECK(file.read_exact(std::as_writable_bytes(padded.first(length)), kLengthNbytes));
  return parse_safetensors_header(padded, length, file_nbytes, file.path(), options);
}

}  // namespace loadstone::formats
