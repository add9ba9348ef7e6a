#include "formats/safetensors.hpp"

#define SIMDJSON_EXCEPTIONS 0  // an unchecked result does not compile
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cctype>
#include <climits>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>

#include "base/checked.hpp"
#include "base/text.hpp"
#include "formats/content_kind.hpp"
#include "formats/name_table.hpp"

namespace loadstone::formats {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr uint64_t kLengthNbytes = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

Error header_rejected(const std::string& path, std::string detail) {
  return Error{Code::invalid_checkpoint, "safetensors header rejected", escaped(path, PATH_MAX),
               std::move(detail)};
}

std::string_view simdjson_text(simdjson::error_code error) {
  switch (error) {
    case simdjson::INCORRECT_TYPE:
      return "a value of another type";
    case simdjson::STRING_ERROR:
      return "an invalid string escape";
    case simdjson::UNCLOSED_STRING:
      return "an unclosed string";
    case simdjson::UNESCAPED_CHARS:
      return "a control character in a string";
    case simdjson::INCOMPLETE_ARRAY_OR_OBJECT:
      return "no closing brace at the end of the header";
    default:
      return "no valid JSON";
  }
}

class HeaderParser {
 public:
  HeaderParser(std::span<const char> padded, size_t header_nbytes, uint64_t file_nbytes,
               const std::string& path, const OpenOptions& options)
      : text_(padded.data(), header_nbytes),
        padded_(padded),
        file_nbytes_(file_nbytes),
        data_begin_(kLengthNbytes + header_nbytes),
        path_(path),
        options_(options) {}

  Result<SafetensorsHeader> parse() {
    ondemand::parser parser(text_.size() + 1);
    ondemand::document document;
    const simdjson::padded_string_view view(text_, padded_.size());
    if (const auto error = parser.iterate(view).get(document)) return failure(error);
    ondemand::object root;
    if (const auto error = document.get_object().get(root)) return failure(error);
    // No entry is shorter than 48 bytes; what stays unused is address space, never touched.
    out_.tensors.reserve(text_.size() / 48);
    LS_CHECK(read_entries(root));
    const char* rest = nullptr;
    if (document.current_location().get(rest) != simdjson::OUT_OF_BOUNDS) {
      at_ = rest;
      return rejected("found bytes behind the closing brace, expected blanks only");
    }
    LS_CHECK(check_names());
    LS_CHECK(check_ranges());
    return std::move(out_);
  }

 private:
  Status read_entries(ondemand::object& root) {
    bool metadata_seen = false;
    for (auto item : root) {
      ondemand::field field;
      if (const auto error = std::move(item).get(field)) return failure(error);
      LS_TRY(const std::string_view name, read_key(field));
      if (name != kMetadataKey) {
        LS_CHECK(read_tensor(name, field.value()));
        continue;
      }
      if (metadata_seen) return duplicate(kMetadataKey);
      metadata_seen = true;
      LS_CHECK(read_metadata(field.value()));
    }
    return {};
  }

  // A key without escapes is taken where it lies; simdjson's unescaping copies byte by byte on a
  // baseline build and would be the larger part of the parse.
  Result<std::string_view> read_key(ondemand::field& field) {
    const char* raw = field.key().raw();
    at_ = raw;
    const size_t left = static_cast<size_t>(text_.data() + text_.size() - raw);
    const auto* quote = static_cast<const char*>(std::memchr(raw, '"', left));
    if (quote != nullptr) {
      const std::string_view name(raw, static_cast<size_t>(quote - raw));
      if (name.find('\\') == std::string_view::npos) return name;
    }
    std::string_view name;
    if (const auto error = field.unescaped_key().get(name)) return failure(error);
    return name;
  }

  Status read_metadata(ondemand::value& value) {
    ondemand::object object;
    if (const auto error = value.get_object().get(object)) return failure(error);
    for (auto item : object) {
      ondemand::field field;
      if (const auto error = std::move(item).get(field)) return failure(error);
      LS_TRY(const std::string_view key, read_key(field));
      std::string owned_key(key);
      for (const auto& [seen, text] : out_.metadata) {
        if (seen == owned_key) return duplicate(owned_key);
      }
      std::string_view text;
      if (field.value().get_string().get(text)) {
        return rejected(fmt::format("found metadata {} that is no string, expected a string",
                                    loadstone::quoted(owned_key)));
      }
      out_.metadata.emplace_back(std::move(owned_key), std::string(text));
      if (out_.metadata.size() > kMaxMetadata) {
        return rejected(
            fmt::format("found more than {} metadata keys, expected fewer", kMaxMetadata));
      }
    }
    return {};
  }

  Status read_tensor(std::string_view name, ondemand::value& value) {
    if (name.size() > kMaxNameNbytes) {
      return rejected(fmt::format("found a tensor name of {} bytes, expected at most {}",
                                  name.size(), kMaxNameNbytes));
    }
    if (out_.tensors.size() >= UINT32_MAX - 1) return rejected("found too many tensors");
    TensorEntry& tensor = out_.tensors.emplace_back();
    tensor.name = name;
    ondemand::object object;
    if (const auto error = value.get_object().get(object)) return failure(error);
    unsigned seen = 0;
    for (auto item : object) {
      ondemand::field field;
      if (const auto error = std::move(item).get(field)) return failure(error);
      LS_TRY(const std::string_view key, read_key(field));
      LS_TRY(const unsigned bit, read_field(key, field.value(), tensor));
      if ((seen & bit) != 0) return duplicate(key);
      seen |= bit;
    }
    if (seen == kAllFields) return check_size(tensor);
    return rejected(
        fmt::format("found tensor {} without {}, expected dtype, shape and data_offsets",
                    loadstone::quoted(name),
                    (seen & kDtype) == 0   ? "dtype"
                    : (seen & kShape) == 0 ? "shape"
                                           : "data_offsets"));
  }

  // Returns the field's bit; 0 for one that `lenient` passes over.
  Result<unsigned> read_field(std::string_view key, ondemand::value& value, TensorEntry& tensor) {
    if (key == "dtype") {
      LS_CHECK(read_dtype(value, tensor));
      return kDtype;
    }
    if (key == "shape") {
      LS_CHECK(read_shape(value, tensor));
      return kShape;
    }
    if (key == "data_offsets") {
      LS_CHECK(read_offsets(value, tensor));
      return kOffsets;
    }
    if (!options_.lenient) {
      return rejected(
          fmt::format("found field {} of tensor {}, expected dtype, shape and "
                      "data_offsets only",
                      loadstone::quoted(key), loadstone::quoted(tensor.name)));
    }
    LS_CHECK(skip_field(key, value, tensor));
    return 0u;
  }

  Status skip_field(std::string_view key, ondemand::value& value, const TensorEntry& tensor) {
    std::string note =
        fmt::format("{}: tensor {} has an unknown field {}", escaped(path_, PATH_MAX),
                    loadstone::quoted(tensor.name), loadstone::quoted(key));
    LS_TRY(const std::string_view text, take_raw(value));
    // Skipping validates nothing.
    const auto parsed = parse_json(text.substr(0, text.find_last_not_of(" \t\r\n") + 1), "");
    if (!parsed.ok()) {
      return rejected(fmt::format("found no valid JSON in field {} of tensor {}, expected JSON",
                                  loadstone::quoted(key), loadstone::quoted(tensor.name)));
    }
    if (out_.notes.size() < kMaxNotes) out_.notes.push_back(std::move(note));
    return {};
  }

  // The text of any value, which is passed over. Scalars must be taken by their type: what simdjson
  // skips by itself may swallow a colon behind a string.
  Result<std::string_view> take_raw(ondemand::value& value) const {
    ondemand::json_type type{};
    simdjson::error_code error = value.type().get(type);
    if (error) return failure(error);
    std::string_view text = value.raw_json_token();
    switch (type) {
      case ondemand::json_type::object: {
        ondemand::object object;
        error = value.get_object().get(object);
        if (!error) error = object.raw_json().get(text);
        break;
      }
      case ondemand::json_type::array: {
        ondemand::array array;
        error = value.get_array().get(array);
        if (!error) error = array.raw_json().get(text);
        break;
      }
      case ondemand::json_type::string:
        error = value.get_string().error();
        break;
      case ondemand::json_type::number:
        error = value.get_number().error();
        break;
      case ondemand::json_type::boolean:
        error = value.get_bool().error();
        break;
      case ondemand::json_type::null:
        error = value.is_null().error();
        break;
    }
    if (error) return failure(error);
    return text;
  }

  Status read_dtype(ondemand::value& value, TensorEntry& tensor) {
    std::string_view name;
    if (const auto error = value.get_string().get(name)) return failure(error);
    const auto dtype = dtype_from_safetensors(name);
    if (dtype) {
      tensor.dtype = *dtype;
      return {};
    }
    Error error = rejected(fmt::format("found dtype {} of tensor {}, expected one of {}",
                                       loadstone::quoted(name), loadstone::quoted(tensor.name),
                                       known_safetensors_dtypes()));
    std::string upper(name.substr(0, 16));
    for (char& letter : upper) letter = static_cast<char>(std::toupper(letter));
    if (dtype_from_safetensors(upper)) error.hint = loadstone::quoted(upper);
    return error;
  }

  Status read_shape(ondemand::value& value, TensorEntry& tensor) {
    ondemand::array array;
    if (const auto error = value.get_array().get(array)) return failure(error);
    for (auto item : array) {
      LS_TRY(const uint64_t dim, read_whole_number(item, "shape", tensor));
      if (tensor.shape.size() == kMaxRank) {
        return rejected(fmt::format("found more than {} dims of tensor {}, expected fewer",
                                    kMaxRank, loadstone::quoted(tensor.name)));
      }
      tensor.shape.push_back(dim);
    }
    return {};
  }

  // Leaves begin in `offset` and the length in `nbytes`, made absolute.
  Status read_offsets(ondemand::value& value, TensorEntry& tensor) {
    ondemand::array array;
    if (const auto error = value.get_array().get(array)) return failure(error);
    uint64_t ends[2] = {0, 0};
    size_t count = 0;
    for (auto item : array) {
      LS_TRY(const uint64_t end, read_whole_number(item, "data_offsets", tensor));
      if (count < 2) ends[count] = end;
      ++count;
    }
    if (count != 2) {
      return rejected(fmt::format("found {} data_offsets of tensor {}, expected 2", count,
                                  loadstone::quoted(tensor.name)));
    }
    if (ends[0] > ends[1] || !checked_add(ends[1], data_begin_)) {
      return range_rejected(tensor.name, fmt::format("found data_offsets [{}, {}], expected begin "
                                                     "<= end <= {}",
                                                     ends[0], ends[1], file_nbytes_ - data_begin_));
    }
    tensor.offset = data_begin_ + ends[0];
    tensor.nbytes = ends[1] - ends[0];
    return {};
  }

  Result<uint64_t> read_whole_number(simdjson::simdjson_result<ondemand::value> item,
                                     std::string_view what, const TensorEntry& tensor) const {
    ondemand::value value;
    if (const auto error = std::move(item).get(value)) return failure(error);
    const std::string_view token = value.raw_json_token();
    uint64_t number = 0;
    if (!value.get_uint64().get(number)) return number;
    return rejected(fmt::format("found {} in {} of tensor {}, expected whole numbers from 0 on",
                                escaped(token.substr(0, token.find_last_not_of(" \t\r\n") + 1), 40),
                                what, loadstone::quoted(tensor.name)));
  }

  Status check_size(const TensorEntry& tensor) const {
    const auto numel = checked_numel({tensor.shape.data(), tensor.shape.size()});
    const DTypeLayout layout = *layout_of(tensor.dtype);
    const uint64_t last = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (last % layout.block_elems != 0) {
      return range_rejected(
          tensor.name, fmt::format("found rows of {} elements, expected a multiple of {} for {} "
                                   "(rows fill whole bytes)",
                                   last, layout.block_elems, name_of(tensor.dtype)));
    }
    const auto nbytes =
        numel ? checked_mul(*numel / layout.block_elems, layout.block_nbytes) : std::nullopt;
    if (!nbytes) {
      return range_rejected(tensor.name,
                            fmt::format("found shape {} for {}, expected at most 2^64 "
                                        "bytes",
                                        shape_text(tensor.shape), name_of(tensor.dtype)));
    }
    if (*nbytes == tensor.nbytes) return {};
    const uint64_t begin = tensor.offset - data_begin_;
    return range_rejected(
        tensor.name, fmt::format("found {} bytes at [{}, {}), expected {} for {} {}", tensor.nbytes,
                                 begin, begin + tensor.nbytes, *nbytes, name_of(tensor.dtype),
                                 shape_text(tensor.shape)));
  }

  Status check_names() const {
    const auto repeated = first_repeated(
        out_.tensors.size(), [&](uint32_t i) { return std::string_view(out_.tensors[i].name); });
    if (repeated) return duplicate(out_.tensors[*repeated].name);
    return {};
  }

  Status check_ranges() {
    std::vector<TensorEntry>& tensors = out_.tensors;
    const auto before = [](const TensorEntry& a, const TensorEntry& b) {
      return a.offset != b.offset ? a.offset < b.offset : a.nbytes < b.nbytes;
    };
    if (!std::is_sorted(tensors.begin(), tensors.end(), before)) {
      std::stable_sort(tensors.begin(), tensors.end(), before);
    }
    uint64_t end = data_begin_;
    const TensorEntry* previous = nullptr;
    for (const TensorEntry& tensor : tensors) {
      if (tensor.offset != end) return bad_tiling(tensor, previous, end - data_begin_);
      end += tensor.nbytes;  // read_offsets has checked this sum
      previous = &tensor;
    }
    if (end == file_nbytes_) return {};
    if (end > file_nbytes_) {
      return Error{Code::invalid_checkpoint, "file is truncated", escaped(path_, PATH_MAX),
                   fmt::format("found {} bytes, expected {} ({} bytes missing: an interrupted "
                               "download?)",
                               file_nbytes_, end, end - file_nbytes_)};
    }
    return Error{Code::invalid_checkpoint, "file is too long", escaped(path_, PATH_MAX),
                 fmt::format("found {} bytes, expected {} ({} bytes belong to no tensor)",
                             file_nbytes_, end, file_nbytes_ - end)};
  }

  Error bad_tiling(const TensorEntry& tensor, const TensorEntry* previous,
                   uint64_t expected) const {
    const uint64_t begin = tensor.offset - data_begin_;
    if (previous == nullptr) {
      return range_rejected(tensor.name,
                            fmt::format("found the first range at {}, expected it at 0", begin));
    }
    return range_rejected(
        tensor.name,
        fmt::format("found {} at [{}, {}), expected begin {}, the end of tensor {}",
                    begin < expected ? "an overlap" : "a gap", begin, begin + tensor.nbytes,
                    expected, loadstone::quoted(previous->name)));
  }

  Error range_rejected(const std::string& name, std::string detail) const {
    return Error{Code::invalid_checkpoint, "tensor range rejected",
                 escaped(path_, PATH_MAX) + ": " + escaped(name), std::move(detail)};
  }

  Error duplicate(std::string_view name) const {
    return rejected(
        fmt::format("found duplicate key {}, expected it once", loadstone::quoted(name)));
  }

  Error failure(simdjson::error_code error) const {
    if (error == simdjson::UTF8_ERROR) {
      return header_rejected(path_, fmt::format("found invalid UTF-8 at byte {}, expected UTF-8",
                                                kLengthNbytes + valid_utf8_prefix(text_)));
    }
    if (error == simdjson::MEMALLOC) {
      return Error{Code::resource, "out of memory", escaped(path_, PATH_MAX),
                   fmt::format("found no memory to parse a header of {} bytes", text_.size())};
    }
    if (error == simdjson::EMPTY) {
      return header_rejected(path_, "found an empty header, expected a JSON map");
    }
    return rejected(fmt::format("found {}, expected a map of tensors", simdjson_text(error)));
  }

  // At the last key that was read: simdjson keeps no position once it fails.
  Error rejected(std::string detail) const {
    const size_t offset = at_ == nullptr ? 0 : static_cast<size_t>(at_ - text_.data());
    return header_rejected(path_, fmt::format("{} (at byte {})", detail, kLengthNbytes + offset));
  }

  static std::string shape_text(const Shape& shape) {
    return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
  }

  static constexpr unsigned kDtype = 1, kShape = 2, kOffsets = 4, kAllFields = 7;
  static constexpr size_t kMaxMetadata = 4096;  // bounds the pairwise check of keys
  static constexpr size_t kMaxNotes = 20;

  const std::string_view text_;
  const std::span<const char> padded_;
  const uint64_t file_nbytes_;
  const uint64_t data_begin_;
  const std::string& path_;
  const OpenOptions& options_;
  const char* at_ = nullptr;
  SafetensorsHeader out_;
};

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
  return HeaderParser(padded, header_nbytes, file_nbytes, path, options).parse();
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
  std::memset(buffer.get() + length, 0, kHeaderPadding);
  const std::span<char> padded(buffer.get(), padded_nbytes);
  LS_CHECK(file.read_exact(std::as_writable_bytes(padded.first(length)), kLengthNbytes));
  return parse_safetensors_header(padded, length, file_nbytes, file.path(), options);
}

}  // namespace loadstone::formats
