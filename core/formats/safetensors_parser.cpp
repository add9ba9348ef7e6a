#include "formats/safetensors_parser.hpp"

#include <fmt/format.h>

#include <cctype>
#include <climits>
#include <cstring>

#include "base/checked.hpp"
#include "base/huge_pages.hpp"
#include "base/text.hpp"

namespace loadstone::formats {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr uint64_t kLengthNbytes = 8;
constexpr std::string_view kMetadataKey = "__metadata__";
constexpr unsigned kDtype = 1, kShape = 2, kOffsets = 4, kAllFields = 7;
constexpr size_t kMaxMetadata = 4096;  // bounds the pairwise check of keys
constexpr size_t kMaxNotes = 20;
// No entry is shorter: what is reserved beyond the true count is address space, never touched.
constexpr size_t kLeastEntryNbytes = 48;
constexpr size_t kLargeHeader = 4 << 20;

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

std::string_view trimmed(std::string_view token) {
  return token.substr(0, token.find_last_not_of(" \t\r\n") + 1);
}

std::string shape_text(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

}  // namespace

SafetensorsParser::SafetensorsParser(std::span<const char> padded, size_t header_nbytes,
                                     uint64_t file_nbytes, const std::string& path,
                                     const OpenOptions& options)
    : text_(padded.data(), header_nbytes),
      padded_(padded),
      file_nbytes_(file_nbytes),
      data_begin_(kLengthNbytes + header_nbytes),
      path_(path),
      options_(options) {}

Result<SafetensorsHeader> SafetensorsParser::parse() {
  ondemand::parser parser(text_.size() + 1);
  ondemand::document document;
  ondemand::object root;
  auto error = parser.iterate(simdjson::padded_string_view(text_, padded_.size())).get(document);
  if (!error) error = document.get_object().get(root);
  if (error) {
    fail(error);
    return std::move(*error_);
  }
  const size_t most = text_.size() / kLeastEntryNbytes;
  out_.tensors.reserve(most);
  if (text_.size() >= kLargeHeader) {
    prefer_huge_pages(out_.tensors.data(), most * sizeof(TensorEntry));
  }
  names_.reserve(most);
  if (!read_entries(root)) return std::move(*error_);
  const char* rest = nullptr;
  if (document.current_location().get(rest) != simdjson::OUT_OF_BOUNDS) {
    at_ = rest;
    fail_at("found bytes behind the closing brace, expected blanks only");
    return std::move(*error_);
  }
  LS_CHECK(check_names());
  return std::move(out_);
}

bool SafetensorsParser::read_entries(ondemand::object& root) {
  bool metadata_seen = false;
  for (auto item : root) {
    Field field;
    if (const auto error = std::move(item).get(field)) return fail(error);
    std::string_view name;
    if (!read_name(field, name)) return false;
    if (name != kMetadataKey) {
      if (!read_tensor(name, field.value())) return false;
      continue;
    }
    if (metadata_seen) return fail_duplicate(kMetadataKey);
    metadata_seen = true;
    if (!read_metadata(field.value())) return false;
  }
  return true;
}

// A name without escapes is taken where it lies; simdjson's unescaping copies byte by byte on a
// baseline build.
bool SafetensorsParser::read_name(Field& field, std::string_view& name) {
  const char* raw = field.key().raw();
  at_ = raw;
  const size_t left = static_cast<size_t>(text_.data() + text_.size() - raw);
  const auto* quote = static_cast<const char*>(std::memchr(raw, '"', left));
  if (quote != nullptr) {
    name = std::string_view(raw, static_cast<size_t>(quote - raw));
    if (std::memchr(raw, '\\', name.size()) == nullptr) return true;
  }
  if (const auto error = field.unescaped_key().get(name)) return fail(error);
  return true;
}

bool SafetensorsParser::read_metadata(Value& value) {
  ondemand::object object;
  if (const auto error = value.get_object().get(object)) return fail(error);
  for (auto item : object) {
    Field field;
    if (const auto error = std::move(item).get(field)) return fail(error);
    std::string_view key;
    if (!read_name(field, key)) return false;
    std::string owned_key(key);
    for (const auto& [seen, text] : out_.metadata) {
      if (seen == owned_key) return fail_duplicate(owned_key);
    }
    std::string_view text;
    if (field.value().get_string().get(text)) {
      return fail_at(fmt::format("found metadata {} that is no string, expected a string",
                                 loadstone::quoted(owned_key)));
    }
    out_.metadata.emplace_back(std::move(owned_key), std::string(text));
    if (out_.metadata.size() > kMaxMetadata) {
      return fail_at(fmt::format("found more than {} metadata keys, expected fewer", kMaxMetadata));
    }
  }
  return true;
}

bool SafetensorsParser::read_tensor(std::string_view name, Value& value) {
  if (name.size() > kMaxNameNbytes) {
    return fail_at(fmt::format("found a tensor name of {} bytes, expected at most {}", name.size(),
                               kMaxNameNbytes));
  }
  if (out_.tensors.size() >= UINT32_MAX - 1) return fail_at("found too many tensors");
  TensorEntry& tensor = out_.tensors.emplace_back();
  tensor.name = name;
  names_.add(name);
  ondemand::object object;
  if (const auto error = value.get_object().get(object)) return fail(error);
  unsigned seen = 0;
  for (auto item : object) {
    Field field;
    if (const auto error = std::move(item).get(field)) return fail(error);
    if (!read_field(field, tensor, seen)) return false;
  }
  if (seen == kAllFields) return check_size(tensor);
  return fail_at(fmt::format("found tensor {} without {}, expected dtype, shape and data_offsets",
                             loadstone::quoted(tensor.name),
                             (seen & kDtype) == 0   ? "dtype"
                             : (seen & kShape) == 0 ? "shape"
                                                    : "data_offsets"));
}

bool SafetensorsParser::read_field(Field& field, TensorEntry& tensor, unsigned& seen) {
  // Compares within the padding behind the text, whatever the key.
  const ondemand::raw_json_string key = field.key();
  at_ = key.raw();
  unsigned bit = 0;
  bool ok = true;
  if (key.unsafe_is_equal("dtype")) {
    bit = kDtype;
    ok = read_dtype(field.value(), tensor);
  } else if (key.unsafe_is_equal("shape")) {
    bit = kShape;
    ok = read_shape(field.value(), tensor);
  } else if (key.unsafe_is_equal("data_offsets")) {
    bit = kOffsets;
    ok = read_offsets(field.value(), tensor);
  } else {
    return read_other_field(field, tensor, seen);
  }
  if (!ok) return false;
  if ((seen & bit) != 0) {
    at_ = key.raw();
    return fail_duplicate(bit == kDtype ? "dtype" : bit == kShape ? "shape" : "data_offsets");
  }
  seen |= bit;
  return true;
}

// A known key written with escapes, or one that only `lenient` passes over.
bool SafetensorsParser::read_other_field(Field& field, TensorEntry& tensor, unsigned& seen) {
  std::string_view key;
  if (!read_name(field, key)) return false;
  struct Known {
    std::string_view name;
    unsigned bit;
    bool (SafetensorsParser::*read)(Value&, TensorEntry&);
  };
  constexpr Known kKnown[] = {{"dtype", kDtype, &SafetensorsParser::read_dtype},
                              {"shape", kShape, &SafetensorsParser::read_shape},
                              {"data_offsets", kOffsets, &SafetensorsParser::read_offsets}};
  for (const Known& known : kKnown) {
    if (key != known.name) continue;
    if ((seen & known.bit) != 0) return fail_duplicate(known.name);
    seen |= known.bit;
    return (this->*known.read)(field.value(), tensor);
  }
  if (!options_.lenient) {
    return fail_at(
        fmt::format("found field {} of tensor {}, expected dtype, shape and "
                    "data_offsets only",
                    loadstone::quoted(key), loadstone::quoted(tensor.name)));
  }
  return skip_field(key, field.value(), tensor);
}

bool SafetensorsParser::skip_field(std::string_view key, Value& value, const TensorEntry& tensor) {
  std::string note = fmt::format("{}: tensor {} has an unknown field {}", escaped(path_, PATH_MAX),
                                 loadstone::quoted(tensor.name), loadstone::quoted(key));
  std::string_view text;
  if (!take_raw(value, text)) return false;
  // Skipping validates nothing.
  if (!parse_json(trimmed(text), "").ok()) {
    return fail_at(fmt::format("found no valid JSON in field {} of tensor {}, expected JSON",
                               loadstone::quoted(key), loadstone::quoted(tensor.name)));
  }
  if (out_.notes.size() < kMaxNotes) out_.notes.push_back(std::move(note));
  return true;
}

// The text of any value, which is passed over. Scalars must be taken by their type: what simdjson
// skips by itself may swallow a colon behind a string.
bool SafetensorsParser::take_raw(Value& value, std::string_view& text) {
  ondemand::json_type type{};
  simdjson::error_code error = value.type().get(type);
  if (error) return fail(error);
  text = value.raw_json_token();
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
  return error ? fail(error) : true;
}

bool SafetensorsParser::read_dtype(Value& value, TensorEntry& tensor) {
  ondemand::raw_json_string raw;
  if (const auto error = value.get_raw_json_string().get(raw)) return fail(error);
  if (!last_dtype_.empty() && raw.unsafe_is_equal(last_dtype_)) {
    tensor.dtype = last_dtype_value_;
    return true;
  }
  // Escapes in a dtype are legal JSON, and no name has any: such a text is unknown as it stands.
  const size_t left = static_cast<size_t>(text_.data() + text_.size() - raw.raw());
  const auto* quote = static_cast<const char*>(std::memchr(raw.raw(), '"', left));
  if (quote == nullptr) return fail(simdjson::UNCLOSED_STRING);
  const std::string_view name(raw.raw(), static_cast<size_t>(quote - raw.raw()));
  if (const auto dtype = dtype_from_safetensors(name)) {
    tensor.dtype = last_dtype_value_ = *dtype;
    last_dtype_ = name;
    layout_ = *layout_of(*dtype);
    return true;
  }
  fail_at(fmt::format("found dtype {} of tensor {}, expected one of {}", loadstone::quoted(name),
                      loadstone::quoted(tensor.name), known_safetensors_dtypes()));
  std::string upper(name.substr(0, 16));
  for (char& letter : upper) letter = static_cast<char>(std::toupper(letter));
  if (dtype_from_safetensors(upper)) error_->hint = loadstone::quoted(upper);
  return false;
}

bool SafetensorsParser::read_shape(Value& value, TensorEntry& tensor) {
  ondemand::array array;
  if (const auto error = value.get_array().get(array)) return fail(error);
  tensor.shape.clear();
  for (auto item : array) {
    uint64_t dim = 0;
    if (!read_whole_number(item, "shape", tensor, dim)) return false;
    if (tensor.shape.size() == kMaxRank) {
      return fail_at(fmt::format("found more than {} dims of tensor {}, expected fewer", kMaxRank,
                                 loadstone::quoted(tensor.name)));
    }
    tensor.shape.push_back(dim);
  }
  return true;
}

bool SafetensorsParser::read_offsets(Value& value, TensorEntry& tensor) {
  ondemand::array array;
  if (const auto error = value.get_array().get(array)) return fail(error);
  uint64_t ends[2] = {0, 0};
  size_t count = 0;
  for (auto item : array) {
    uint64_t end = 0;
    if (!read_whole_number(item, "data_offsets", tensor, end)) return false;
    if (count < 2) ends[count] = end;
    ++count;
  }
  if (count != 2) {
    return fail_at(fmt::format("found {} data_offsets of tensor {}, expected 2", count,
                               loadstone::quoted(tensor.name)));
  }
  if (ends[0] > ends[1] || !checked_add(ends[1], data_begin_)) {
    return fail_range(tensor.name,
                      fmt::format("found data_offsets [{}, {}], expected begin <= end <= {}",
                                  ends[0], ends[1], file_nbytes_ - data_begin_));
  }
  tensor.offset = data_begin_ + ends[0];
  tensor.nbytes = ends[1] - ends[0];
  return true;
}

bool SafetensorsParser::read_whole_number(Item item, std::string_view what,
                                          const TensorEntry& tensor, uint64_t& number) {
  Value value;
  if (const auto error = std::move(item).get(value)) return fail(error);
  if (!value.get_uint64().get(number)) return true;
  return fail_at(fmt::format("found {} in {} of tensor {}, expected whole numbers from 0 on",
                             escaped(trimmed(value.raw_json_token()), 40), what,
                             loadstone::quoted(tensor.name)));
}

bool SafetensorsParser::check_size(const TensorEntry& tensor) {
  const auto numel = checked_numel({tensor.shape.data(), tensor.shape.size()});
  const uint64_t last = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (layout_.block_elems != 1 && last % layout_.block_elems != 0) {
    return fail_range(tensor.name,
                      fmt::format("found rows of {} elements, expected a multiple of {} for {} "
                                  "(rows fill whole bytes)",
                                  last, layout_.block_elems, name_of(tensor.dtype)));
  }
  const auto nbytes =
      numel ? checked_mul(*numel / layout_.block_elems, layout_.block_nbytes) : std::nullopt;
  if (!nbytes) {
    return fail_range(tensor.name, fmt::format("found shape {} for {}, expected at most 2^64 bytes",
                                               shape_text(tensor.shape), name_of(tensor.dtype)));
  }
  if (*nbytes == tensor.nbytes) return true;
  const uint64_t begin = tensor.offset - data_begin_;
  return fail_range(tensor.name, fmt::format("found {} bytes at [{}, {}), expected {} for {} {}",
                                             tensor.nbytes, begin, begin + tensor.nbytes, *nbytes,
                                             name_of(tensor.dtype), shape_text(tensor.shape)));
}

Status SafetensorsParser::check_names() const {
  const auto repeated =
      names_.first_repeated([&](uint32_t i) -> const std::string& { return out_.tensors[i].name; });
  if (!repeated) return {};
  return Error{Code::invalid_checkpoint, "safetensors header rejected", escaped(path_, PATH_MAX),
               fmt::format("found duplicate key {}, expected it once",
                           loadstone::quoted(out_.tensors[*repeated].name))};
}

bool SafetensorsParser::fail(Error error) {
  error_ = std::move(error);
  return false;
}

bool SafetensorsParser::fail(simdjson::error_code error) {
  const auto rejected = [&](std::string detail) {
    return fail(Error{Code::invalid_checkpoint, "safetensors header rejected",
                      escaped(path_, PATH_MAX), std::move(detail)});
  };
  switch (error) {
    case simdjson::UTF8_ERROR:
      return rejected(fmt::format("found invalid UTF-8 at byte {}, expected UTF-8",
                                  kLengthNbytes + valid_utf8_prefix(text_)));
    case simdjson::EMPTY:
      return rejected("found an empty header, expected a JSON map");
    case simdjson::MEMALLOC:
      return fail(
          Error{Code::resource, "out of memory", escaped(path_, PATH_MAX),
                fmt::format("found no memory to parse a header of {} bytes", text_.size())});
    default:
      return fail_at(fmt::format("found {}, expected a map of tensors", simdjson_text(error)));
  }
}

// simdjson keeps no position once it fails; the last key is near.
bool SafetensorsParser::fail_at(std::string detail) {
  const size_t offset = at_ == nullptr ? 0 : static_cast<size_t>(at_ - text_.data());
  return fail(Error{Code::invalid_checkpoint, "safetensors header rejected",
                    escaped(path_, PATH_MAX),
                    fmt::format("{} (at byte {})", detail, kLengthNbytes + offset)});
}

bool SafetensorsParser::fail_range(const std::string& name, std::string detail) {
  return fail(Error{Code::invalid_checkpoint, "tensor range rejected",
                    escaped(path_, PATH_MAX) + ": " + escaped(name), std::move(detail)});
}

bool SafetensorsParser::fail_duplicate(std::string_view name) {
  return fail_at(fmt::format("found duplicate key {}, expected it once", loadstone::quoted(name)));
}

}  // namespace loadstone::formats
