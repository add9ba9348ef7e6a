#include "formats/safetensors_writer.hpp"

#include <array>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/checked.hpp"
#include "base/text.hpp"

namespace loadstone::formats {
namespace {

constexpr std::string_view kMetadataKey = "__metadata__";

Error bad(const TensorSpec& tensor, std::string found, std::string expected) {
  return Error{Code::invalid_argument,
               "tensor can't be written",
               loadstone::quoted(tensor.name),
               "found " + std::move(found) + ", expected " + std::move(expected),
               "",
               {}};
}

/// Bytes of a dense tensor; sub-byte types need whole blocks in each row.
Result<uint64_t> nbytes_of(const TensorSpec& tensor) {
  const auto layout = layout_of(tensor.dtype);
  if (!layout || is_ggml(tensor.dtype)) {
    return bad(tensor, "dtype " + std::string(name_of(tensor.dtype)), known_safetensors_dtypes());
  }
  const auto count = checked_numel({tensor.shape.data(), tensor.shape.size()});
  const uint64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (!count || row % layout->block_elems != 0) {
    return bad(tensor, "a shape that overflows or cuts a block", "whole blocks below 2^64 bytes");
  }
  const auto nbytes = checked_mul(*count / layout->block_elems, layout->block_nbytes);
  if (!nbytes) return bad(tensor, "a shape that overflows", "below 2^64 bytes");
  return *nbytes;
}

struct Header {
  std::string text;
  uint64_t data_nbytes = 0;
};

Result<Header> make_header(std::span<const TensorSpec> tensors,
                           const SafetensorsWriter::Metadata& metadata) {
  nlohmann::ordered_json root = nlohmann::ordered_json::object();
  if (!metadata.empty()) {
    auto& entries = root[std::string(kMetadataKey)] = nlohmann::ordered_json::object();
    for (const auto& [key, value] : metadata) entries[key] = value;
  }
  Header header;
  std::unordered_set<std::string_view> names;
  for (const TensorSpec& tensor : tensors) {
    if (tensor.name == kMetadataKey || valid_utf8_prefix(tensor.name) != tensor.name.size() ||
        !names.insert(tensor.name).second) {
      return bad(tensor, "a reserved, repeated or non-UTF-8 name", "a name of its own");
    }
    LS_TRY(const uint64_t nbytes, nbytes_of(tensor));
    const auto end = checked_add(header.data_nbytes, nbytes);
    if (!end) return bad(tensor, "an offset that overflows", "below 2^64 bytes");
    root[tensor.name] = {{"dtype", name_of(tensor.dtype)},
                         {"shape", std::vector<uint64_t>(tensor.shape.begin(), tensor.shape.end())},
                         {"data_offsets", {header.data_nbytes, *end}}};
    header.data_nbytes = *end;
  }
  header.text = root.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  header.text.resize((header.text.size() + 7) / 8 * 8, ' ');
  return header;
}

}  // namespace

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string& path,
                                                    std::span<const TensorSpec> tensors,
                                                    const Metadata& metadata) {
  LS_TRY(const Header header, make_header(tensors, metadata));
  LS_TRY(OutputFile file, OutputFile::create(path));
  std::array<std::byte, 8> length{};
  for (size_t i = 0; i < length.size(); ++i) {
    length[i] = static_cast<std::byte>(uint64_t{header.text.size()} >> (8 * i));
  }
  LS_CHECK(file.write(length));
  LS_CHECK(file.write(std::as_bytes(std::span(header.text))));
  return SafetensorsWriter(std::move(file), header.data_nbytes);
}

Status SafetensorsWriter::append(std::span<const std::byte> bytes) {
  if (bytes.size() > left_) {
    return Error{Code::internal,
                 "tensor bytes don't fit",
                 escaped(file_.path()),
                 "found " + std::to_string(bytes.size()) + " more bytes, expected at most " +
                     std::to_string(left_),
                 "",
                 {}};
  }
  LS_CHECK(file_.write(bytes));
  left_ -= bytes.size();
  return {};
}

Status SafetensorsWriter::finish() {
  if (left_ != 0) {
    return Error{Code::internal,
                 "tensor bytes are missing",
                 escaped(file_.path()),
                 "found " + std::to_string(left_) + " bytes too few, expected none",
                 "",
                 {}};
  }
  return file_.commit();
}

}  // namespace loadstone::formats
