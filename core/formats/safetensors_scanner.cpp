#include "formats/safetensors_scanner.hpp"

#define SIMDJSON_EXCEPTIONS 0
#include <simdjson.h>

#include <cstring>
#include <string>

#include "base/checked.hpp"
#include "base/huge_pages.hpp"
#include "formats/name_table.hpp"

namespace loadstone::formats {
namespace {

class Scanner {
 public:
  Scanner(std::string_view text, SafetensorsHeader& out)
      : at_(text.data()),
        end_(text.data() + text.size()),
        data_begin_(sizeof(uint64_t) + text.size()),
        out_(out) {}

  bool scan() {
    if (!take("{")) return false;
    bool more = true;
    if (take("\"__metadata__\":{")) {
      if (!metadata()) return false;
      more = take(",");
    }
    while (more) {
      if (!tensor()) return false;
      more = take(",");
    }
    if (!take("}")) return false;
    while (at_ < end_ && *at_ == ' ') ++at_;
    if (at_ != end_) return false;
    return !names_.first_repeated(
        [&](uint32_t i) -> const std::string& { return out_.tensors[i].name; });
  }

  void reserve(size_t tensors) {
    out_.tensors.reserve(tensors);
    prefer_huge_pages(out_.tensors.data(), tensors * sizeof(TensorEntry));
    names_.reserve(tensors);
  }

 private:
  template <size_t N>
  bool take(const char (&literal)[N]) {
    if (static_cast<size_t>(end_ - at_) < N - 1 || std::memcmp(at_, literal, N - 1) != 0) {
      return false;
    }
    at_ += N - 1;
    return true;
  }

  // Behind an opening quote: the text up to the closing one, when there is nothing to unescape.
  bool plain_text(std::string_view& text) {
    const auto* quote =
        static_cast<const char*>(std::memchr(at_, '"', static_cast<size_t>(end_ - at_)));
    if (quote == nullptr) return false;
    text = std::string_view(at_, static_cast<size_t>(quote - at_));
    unsigned odd = 0;
    for (const char letter : text) {
      odd |= static_cast<unsigned>(static_cast<unsigned char>(letter) < 0x20) |
             static_cast<unsigned>(letter == '\\');
    }
    at_ = quote + 1;
    return odd == 0;
  }

  // Up to 19 digits (fits 64 bits), no leading zero.
  bool number(uint64_t& value) {
    const char* begin = at_;
    value = 0;
    while (at_ < end_ && *at_ >= '0' && *at_ <= '9' && at_ - begin < 19) {
      value = value * 10 + static_cast<uint64_t>(*at_++ - '0');
    }
    return at_ != begin && (*begin != '0' || at_ - begin == 1);
  }

  bool metadata() {
    if (take("}")) return true;
    do {
      std::string_view key, value;
      if (!take("\"") || !plain_text(key) || !take(":\"") || !plain_text(value)) return false;
      for (const auto& entry : out_.metadata) {
        if (entry.first == key) return false;
      }
      if (out_.metadata.size() == kMaxPlainMetadata) return false;
      out_.metadata.emplace_back(key, value);
    } while (take(","));
    return take("}");
  }

  bool tensor() {
    std::string_view name, dtype;
    if (!take("\"") || !plain_text(name) || name.size() > kMaxNameNbytes) return false;
    if (name == "__metadata__") return false;
    TensorEntry& tensor = out_.tensors.emplace_back();
    tensor.name = name;
    names_.add(name);
    if (!take(":{\"dtype\":\"") || !plain_text(dtype) || !set_dtype(dtype, tensor)) return false;
    if (!take(",\"shape\":[") || !shape(tensor)) return false;
    uint64_t begin = 0, end = 0;
    if (!take(",\"data_offsets\":[") || !number(begin) || !take(",") || !number(end) ||
        !take("]}")) {
      return false;
    }
    if (begin > end || !checked_add(end, data_begin_)) return false;
    tensor.offset = data_begin_ + begin;
    tensor.nbytes = end - begin;
    return has_its_size(tensor);
  }

  bool set_dtype(std::string_view name, TensorEntry& tensor) {
    if (name != dtype_name_) {
      const auto dtype = dtype_from_safetensors(name);
      if (!dtype) return false;
      dtype_name_ = name;
      dtype_ = *dtype;
      layout_ = *layout_of(*dtype);
    }
    tensor.dtype = dtype_;
    return true;
  }

  bool shape(TensorEntry& tensor) {
    if (take("]")) return true;
    do {
      uint64_t dim = 0;
      if (!number(dim) || tensor.shape.size() == kMaxRank) return false;
      tensor.shape.push_back(dim);
    } while (take(","));
    return take("]");
  }

  bool has_its_size(const TensorEntry& tensor) const {
    const uint64_t last = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (layout_.block_elems != 1 && last % layout_.block_elems != 0) return false;
    const auto numel = checked_numel({tensor.shape.data(), tensor.shape.size()});
    if (!numel) return false;
    const uint64_t blocks = layout_.block_elems == 1 ? *numel : *numel / layout_.block_elems;
    const auto nbytes = checked_mul(blocks, layout_.block_nbytes);
    return nbytes && *nbytes == tensor.nbytes;
  }

  static constexpr size_t kMaxPlainMetadata = 64;  // bounds the pairwise check of keys

  const char* at_;
  const char* const end_;
  const uint64_t data_begin_;
  SafetensorsHeader& out_;
  NameHashes names_;
  std::string_view dtype_name_;  // of the tensor before
  DType dtype_ = DType::invalid;
  DTypeLayout layout_;
};

}  // namespace

bool scan_safetensors_header(std::string_view text, SafetensorsHeader& out) {
  // No entry is shorter than 48 bytes; what stays unused is address space, never touched.
  if (!simdjson::validate_utf8(text.data(), text.size())) return false;
  Scanner scanner(text, out);
  scanner.reserve(text.size() / 48);
  return scanner.scan();
}

}  // namespace loadstone::formats
