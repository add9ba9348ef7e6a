// A checkpoint folder written as a tool writes it, with the weights that its format defines; what
// dequantize makes of it is held against them.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/testing/temp_folder.hpp"

namespace loadstone::testing {

using Json = nlohmann::ordered_json;
using Dims = std::vector<uint64_t>;

/// float32 values as bf16, by their upper halves; and the floats that those are.
std::vector<uint16_t> bf16(const std::vector<float>& values);
std::vector<float> bf16_values(const std::vector<float>& values);

/// Of an e4m3 code that is a number: 1 sign, 4 exponent and 3 fraction bits, bias 7.
float e4m3_value(uint8_t code);

/// The same numbers every time.
class Numbers {
 public:
  explicit Numbers(uint32_t seed) : state_(seed * 2654435761u + 1) {}
  uint32_t below(uint32_t bound) {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<uint32_t>((uint64_t{state_ >> 8} * bound) >> 24);
  }
  /// 0.005 to 0.015, as scales are.
  std::vector<float> scales(size_t count) {
    std::vector<float> out(count);
    for (float& one : out) one = 0.005f + 0.01f * static_cast<float>(below(1 << 20)) / (1 << 20);
    return out;
  }
  /// Whole numbers from `low` to `high`.
  std::vector<int8_t> codes(size_t count, int low, int high) {
    std::vector<int8_t> out(count);
    for (int8_t& one : out) {
      one =
          static_cast<int8_t>(low + static_cast<int>(below(static_cast<uint32_t>(high - low + 1))));
    }
    return out;
  }
  /// e4m3 codes that are numbers.
  std::vector<uint8_t> e4m3(size_t count);
  std::vector<uint8_t> bytes(size_t count, uint32_t bound = 256) {
    std::vector<uint8_t> out(count);
    for (uint8_t& one : out) one = static_cast<uint8_t>(below(bound));
    return out;
  }

 private:
  uint32_t state_;
};

/// Values by name of all output files ("folder/name" where there are several files).
struct Dequantized {
  std::map<std::string, std::vector<float>> values;
  std::vector<std::string> notes;
  std::string error;  // text without the folder's path; "" when it went well
};

class Artifact : public TempFolder {
 public:
  /// Tensors go to `file`; a file with shards > 1 is cut, with its index beside it.
  void into(const std::string& file, uint32_t shards = 1) {
    file_ = file;
    shards_[file] = shards;
  }
  template <typename T>
  void tensor(const std::string& name, const std::string& dtype, const Dims& shape,
              const std::vector<T>& values) {
    std::string bytes(values.size() * sizeof(T), '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    files_[file_].push_back({name, dtype, shape, std::move(bytes)});
  }
  void floats(const std::string& name, const Dims& shape, const std::vector<float>& values) {
    tensor(name, "F32", shape, values);
  }
  /// A plain bf16 tensor, expected as it is.
  void kept(const std::string& name, const Dims& shape, Numbers& numbers);
  void expect(const std::string& name, std::vector<float> values) {
    expected_[name] = std::move(values);
  }
  void json(const std::string& file, const Json& value) const { write(file, value.dump()); }

  /// Writes the files and dequantizes the folder.
  Dequantized dequantize();
  /// The same, and every expected tensor is there bit for bit; the outcome for more.
  Dequantized expect_values();
  /// The same where other tensors are written too.
  Dequantized expect_present();
  /// The error, or "none".
  std::string refusal();

 private:
  struct Tensor {
    std::string name, dtype;
    Dims shape;
    std::string bytes;
  };
  void write_files();
  std::string file_ = "model.safetensors";
  std::map<std::string, uint32_t> shards_;
  std::map<std::string, std::vector<Tensor>> files_;
  std::map<std::string, std::vector<float>> expected_;
};

}  // namespace loadstone::testing
