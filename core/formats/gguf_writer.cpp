#include "formats/gguf_writer.hpp"

#include <algorithm>
#include <array>
#include <unordered_set>

#include "base/checked.hpp"
#include "base/text.hpp"

namespace loadstone::formats {
namespace {

constexpr uint64_t kAlignment = 32;    // general.alignment's default
constexpr size_t kMaxNameNbytes = 63;  // GGML_MAX_NAME less the final zero
constexpr uint32_t kVersion = 3, kTypeU32 = 4, kTypeString = 8;

Error bad(const TensorSpec& tensor, std::string found, std::string expected) {
  return Error{Code::invalid_argument,
               "tensor can't be written as GGUF",
               loadstone::quoted(tensor.name),
               "found " + std::move(found) + ", expected " + std::move(expected),
               "",
               {}};
}

class Head {
 public:
  template <typename T>
  void number(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) {
      bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
    }
  }
  void text(const std::string& value) {
    number(uint64_t{value.size()});
    const auto bytes = std::as_bytes(std::span(value));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void pad() { bytes_.resize((bytes_.size() + kAlignment - 1) / kAlignment * kAlignment); }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

Result<uint64_t> nbytes_of(const TensorSpec& tensor) {
  const auto layout = layout_of(tensor.dtype);
  if (!layout || !ggml_type_of(tensor.dtype)) {
    return bad(tensor, "dtype " + std::string(name_of(tensor.dtype)), "one that ggml has");
  }
  if (tensor.shape.empty() || tensor.shape.size() > 4) {
    return bad(tensor, "rank " + std::to_string(tensor.shape.size()), "1 to 4");
  }
  const auto count = checked_numel({tensor.shape.data(), tensor.shape.size()});
  if (!count || *count == 0 || tensor.shape.back() % layout->block_elems != 0) {
    return bad(tensor, "a shape that is empty, overflows or cuts a block", "whole blocks");
  }
  const auto nbytes = checked_mul(*count / layout->block_elems, layout->block_nbytes);
  if (!nbytes) return bad(tensor, "a shape that overflows", "below 2^64 bytes");
  return *nbytes;
}

Status check_name(const TensorSpec& tensor, std::unordered_set<std::string_view>& names) {
  if (tensor.name.empty() || tensor.name.size() > kMaxNameNbytes) {
    return bad(tensor, "a name of " + std::to_string(tensor.name.size()) + " bytes",
               "1 to " + std::to_string(kMaxNameNbytes));
  }
  if (valid_utf8_prefix(tensor.name) != tensor.name.size() || !names.insert(tensor.name).second) {
    return bad(tensor, "a repeated or non-UTF-8 name", "a name of its own");
  }
  return {};
}

void add_metadata(const GgufWriter::Metadata& metadata, Head& head) {
  for (const auto& [key, value] : metadata) {
    head.text(key);
    if (const auto* text = std::get_if<std::string>(&value)) {
      head.number(kTypeString);
      head.text(*text);
    } else {
      head.number(kTypeU32);
      head.number(std::get<uint32_t>(value));
    }
  }
}

}  // namespace

std::optional<uint32_t> ggml_type_of(DType dtype) {
  if (is_ggml(dtype)) return static_cast<uint32_t>(dtype) - kGgmlBase;
  constexpr std::pair<DType, uint32_t> kPlain[] = {
      {DType::F32, 0},  {DType::F16, 1},  {DType::I8, 24},  {DType::I16, 25},
      {DType::I32, 26}, {DType::I64, 27}, {DType::F64, 28}, {DType::BF16, 30}};
  for (const auto& [plain, id] : kPlain) {
    if (plain == dtype) return id;
  }
  return std::nullopt;
}

Result<GgufWriter> GgufWriter::create(const std::string& path, std::span<const TensorSpec> tensors,
                                      const Metadata& metadata) {
  Head head;
  for (const char c : {'G', 'G', 'U', 'F'}) head.number(static_cast<uint8_t>(c));
  head.number(kVersion);
  head.number(uint64_t{tensors.size()});
  head.number(uint64_t{metadata.size()});
  add_metadata(metadata, head);
  std::vector<uint64_t> sizes;
  std::unordered_set<std::string_view> names;
  uint64_t offset = 0;
  for (const TensorSpec& tensor : tensors) {
    LS_CHECK(check_name(tensor, names));
    LS_TRY(const uint64_t nbytes, nbytes_of(tensor));
    head.text(tensor.name);
    head.number(static_cast<uint32_t>(tensor.shape.size()));
    for (size_t i = tensor.shape.size(); i-- > 0;) head.number(uint64_t{tensor.shape[i]});
    head.number(*ggml_type_of(tensor.dtype));
    head.number(offset);
    sizes.push_back(nbytes);
    const auto end = checked_add(offset, nbytes + kAlignment);
    if (!end || nbytes > UINT64_MAX - kAlignment) {
      return bad(tensor, "an offset that overflows", "below 2^64 bytes");
    }
    offset += (nbytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  head.pad();
  LS_TRY(OutputFile file, OutputFile::create(path));
  LS_CHECK(file.write(head.bytes()));
  return GgufWriter(std::move(file), std::move(sizes));
}

Status GgufWriter::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (tensor_ == sizes_.size()) {
      return Error{Code::internal, "tensor bytes don't fit", escaped(file_.path()),
                   "found " + std::to_string(bytes.size()) + " more bytes, expected none", ""};
    }
    const uint64_t count = std::min<uint64_t>(bytes.size(), sizes_[tensor_] - done_);
    LS_CHECK(file_.write(bytes.first(count)));
    done_ += count;
    bytes = bytes.subspan(count);
    LS_CHECK(close_tensors());
  }
  return {};
}

Status GgufWriter::close_tensors() {
  constexpr std::array<std::byte, kAlignment> kZeros{};
  if (tensor_ == sizes_.size() || done_ != sizes_[tensor_]) return {};
  const uint64_t over = sizes_[tensor_] % kAlignment;
  ++tensor_;
  done_ = 0;
  if (over == 0) return {};
  return file_.write(std::span(kZeros).first(kAlignment - over));
}

Status GgufWriter::finish() {
  if (tensor_ != sizes_.size()) {
    return Error{Code::internal, "tensor bytes are missing", escaped(file_.path()),
                 "found " + std::to_string(tensor_) + " whole tensors, expected " +
                     std::to_string(sizes_.size()),
                 ""};
  }
  return file_.commit();
}

}  // namespace loadstone::formats
