// Bytes of safetensors and GGUF files, good and bad, for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace loadstone::formats::testing {

template <typename T>
std::string little_endian(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

/// A file of the given header text and data.
inline std::string safetensors_of(std::string_view header, std::string_view data = "") {
  return little_endian<uint64_t>(header.size()) + std::string(header) + std::string(data);
}

/// A header of tensors laid out one behind the other.
class Safetensors {
 public:
  Safetensors& metadata(const std::string& key, const std::string& json_text) {
    metadata_ += (metadata_.empty() ? "" : ",") + ("\"" + key + "\":" + json_text);
    return *this;
  }
  /// `shape` as JSON, e.g. "[2,3]".
  Safetensors& tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                      std::string_view bytes) {
    entries_ += (entries_.empty() ? "" : ",") +
                ("\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
                 ",\"data_offsets\":[" + std::to_string(data_.size()) + "," +
                 std::to_string(data_.size() + bytes.size()) + "]}");
    data_ += bytes;
    return *this;
  }
  Safetensors& zeros(const std::string& name, const std::string& dtype, const std::string& shape,
                     size_t nbytes) {
    return tensor(name, dtype, shape, std::string(nbytes, '\0'));
  }
  std::string header() const {
    if (metadata_.empty()) return "{" + entries_ + "}";
    return "{\"__metadata__\":{" + metadata_ + "}" + (entries_.empty() ? "" : ",") + entries_ + "}";
  }
  std::string bytes() const { return safetensors_of(header(), data_); }

 private:
  std::string metadata_, entries_, data_;
};

/// A GGUF file; counts and fields may be overridden to lie.
class Gguf {
 public:
  uint32_t version = 3;
  std::string magic = "GGUF";
  uint64_t extra_tensors = 0, extra_keys = 0;  // added to the true counts
  uint64_t alignment = 32;                     // of the layout; the key is written by alignment_key

  Gguf& raw_key(const std::string& name, uint32_t type, const std::string& value) {
    keys_ += text(name) + little_endian(type) + value;
    ++key_count_;
    return *this;
  }
  Gguf& u32(const std::string& name, uint32_t value) {
    return raw_key(name, 4, little_endian(value));
  }
  Gguf& i32(const std::string& name, int32_t value) {
    return raw_key(name, 5, little_endian(value));
  }
  Gguf& u16(const std::string& name, uint16_t value) {
    return raw_key(name, 2, little_endian(value));
  }
  Gguf& str(const std::string& name, const std::string& value) {
    return raw_key(name, 8, text(value));
  }
  Gguf& i32s(const std::string& name, const std::vector<int32_t>& values) {
    std::string bytes = little_endian<uint32_t>(5) + little_endian<uint64_t>(values.size());
    for (const int32_t value : values) bytes += little_endian(value);
    return raw_key(name, 9, bytes);
  }
  /// Dims innermost first; nbytes of data follow, padded to the alignment.
  Gguf& tensor(const std::string& name, std::vector<int64_t> dims, uint32_t type, uint64_t nbytes) {
    return raw_tensor(name, std::move(dims), type, data_.size(), nbytes);
  }
  Gguf& raw_tensor(const std::string& name, std::vector<int64_t> dims, uint32_t type,
                   uint64_t offset, uint64_t nbytes) {
    tensors_ += text(name) + little_endian<uint32_t>(static_cast<uint32_t>(dims.size()));
    for (const int64_t dim : dims) tensors_ += little_endian(dim);
    tensors_ += little_endian(type) + little_endian(offset);
    ++tensor_count_;
    data_.resize((data_.size() + nbytes + alignment - 1) / alignment * alignment);
    return *this;
  }
  std::string head() const {
    return magic + little_endian(version) + little_endian(tensor_count_ + extra_tensors) +
           little_endian(key_count_ + extra_keys) + keys_ + tensors_;
  }
  std::string bytes() const {
    std::string out = head();
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data_;
  }

  static std::string text(const std::string& value) {
    return little_endian<uint64_t>(value.size()) + value;
  }

 private:
  std::string keys_, tensors_, data_;
  uint64_t key_count_ = 0, tensor_count_ = 0;
};

}  // namespace loadstone::formats::testing
