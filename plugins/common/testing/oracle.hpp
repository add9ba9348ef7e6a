// Test side only: the shared oracles (numerics.json, layers.json with its safetensors file), and
// the kernel levels of this machine. A test that needs them skips, with the reason, when they are
// absent.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/cpu.hpp"

namespace loadstone::common::testing {

using Json = nlohmann::json;

/// The shared folder: LOADSTONE_SHARED, or ../shared beside the project.
inline std::string shared_path(const std::string& below) {
  const char* root = std::getenv("LOADSTONE_SHARED");
  return (root != nullptr ? std::string(root) : std::string(LOADSTONE_SOURCE_DIR "/../shared")) +
         "/" + below;
}

inline bool exists(const std::string& path) { return std::ifstream(path).good(); }

inline std::vector<char> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// A JSON file below the shared folder; null when absent.
inline Json shared_json(const std::string& below) {
  const std::string path = shared_path(below);
  return exists(path) ? Json::parse(read_file(path)) : Json();
}

#define LOADSTONE_NEED_ORACLE(json, below) \
  if ((json).is_null()) GTEST_SKIP() << "no oracle: " << testing::shared_path(below)

/// A tensor of a safetensors file, bytes copied.
struct Tensor {
  std::string dtype;
  std::vector<uint64_t> shape;
  std::vector<char> bytes;

  template <typename T>
  std::vector<T> as() const {
    std::vector<T> out(bytes.size() / sizeof(T));
    std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
    return out;
  }
  uint64_t elements() const {
    uint64_t count = 1;
    for (const uint64_t extent : shape) count *= extent;
    return count;
  }
};

/// All tensors of a safetensors file of the oracles (trusted: no checks).
inline std::map<std::string, Tensor> read_safetensors(const std::string& path) {
  const std::vector<char> file = read_file(path);
  uint64_t header = 0;
  std::memcpy(&header, file.data(), sizeof header);
  const Json entries = Json::parse(file.begin() + 8, file.begin() + 8 + header);
  std::map<std::string, Tensor> out;
  for (const auto& [name, entry] : entries.items()) {
    if (name == "__metadata__") continue;
    Tensor& tensor = out[name];
    tensor.dtype = entry["dtype"];
    tensor.shape = entry["shape"].get<std::vector<uint64_t>>();
    const char* begin = file.data() + 8 + header + entry["data_offsets"][0].get<uint64_t>();
    const char* end = file.data() + 8 + header + entry["data_offsets"][1].get<uint64_t>();
    tensor.bytes.assign(begin, end);
  }
  return out;
}

/// FNV-1a 64 over the float32 bytes, -0 counted as +0, as 16 hex digits.
inline std::string fnv1a64(const std::vector<float>& values) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const float value : values) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    if (bits == 0x80000000u) bits = 0;
    for (int byte = 0; byte < 4; ++byte) {
      hash = (hash ^ ((bits >> (8 * byte)) & 0xffu)) * 0x100000001b3ull;
    }
  }
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

/// Every kernel level that this machine can run, scalar first.
inline std::vector<Cpu> levels() {
  std::vector<Cpu> out;
  for (const Cpu cpu : {Cpu::scalar, Cpu::avx2, Cpu::avx512}) {
    if (cpu <= best_cpu()) out.push_back(cpu);
  }
  return out;
}

inline float from_bits(uint32_t bits) {
  float out = 0;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}
inline uint32_t to_bits(float value) {
  uint32_t out = 0;
  std::memcpy(&out, &value, sizeof out);
  return out;
}

/// A list of float32 bit patterns.
inline std::vector<float> floats_from_bits(const Json& list) {
  std::vector<float> out;
  for (const auto& bits : list) out.push_back(from_bits(bits.get<uint32_t>()));
  return out;
}

/// Deterministic values for kernels: xorshift, any bit pattern.
class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed * 2654435761u | 1u) {}
  uint32_t bits() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_;
  }
  /// Uniform in [-1, 1).
  float uniform() { return static_cast<float>(static_cast<int32_t>(bits())) * 0x1p-31f; }

 private:
  uint32_t state_;
};

/// Equal bits, or both NaN.
inline ::testing::AssertionResult same_float(float a, float b) {
  if (to_bits(a) == to_bits(b) || (a != a && b != b)) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << std::hex << to_bits(a) << " and " << to_bits(b);
}

}  // namespace loadstone::common::testing
