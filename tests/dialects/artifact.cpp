#include "artifact.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "base/file.hpp"
#include "formats/testing/containers.hpp"
#include "load/dequantize.hpp"

namespace loadstone::testing {
namespace {

namespace fs = std::filesystem;
using formats::testing::Safetensors;

plugin::Registry& registry() {
  static plugin::Registry made = [] {
    plugin::RegistryOptions options;
    options.dirs = {LOADSTONE_BINARY_DIR "/plugins"};
    options.trust_writable = true;
    auto scanned = plugin::Registry::scan(options);
    if (!scanned.ok()) throw std::runtime_error(scanned.error().text());
    return std::move(*scanned);
  }();
  return made;
}

std::string shard_name(const std::string& file, uint32_t index, uint32_t count) {
  const std::string stem = file.substr(0, file.rfind(".safetensors"));
  char number[32];
  std::snprintf(number, sizeof number, "-%05u-of-%05u", index + 1, count);
  return stem + number + ".safetensors";
}

Result<load::DequantizeReport> run(const std::string& folder, const std::string& output,
                                   std::vector<std::string>& notes) {
  LS_TRY(auto opened, formats::open_checkpoint(system_files(), folder));
  auto checkpoint = std::make_shared<const formats::Checkpoint>(std::move(opened));
  LS_TRY(auto graph, graph::build_graph(*checkpoint, LOADSTONE_SOURCE_DIR "/model_adapters"));
  load::DequantizeOptions options;
  options.output = output;
  LS_TRY(auto report, load::dequantize(checkpoint, std::move(graph), registry(), options));
  notes = report.notes;
  return report;
}

/// The F32 tensors of one written file.
void read_back(const std::string& path, const std::string& prefix, Dequantized& out) {
  auto opened = formats::open_checkpoint(system_files(), path);
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  for (const auto& entry : opened->components[0].tensors) {
    std::vector<float>& values = out.values[prefix + entry.name];
    if (entry.dtype != DType::F32) continue;
    values.resize(entry.nbytes / sizeof(float));
    auto bytes = std::as_writable_bytes(std::span(values));
    ASSERT_TRUE(opened->files[entry.file].file->read_exact(bytes, entry.offset).ok());
  }
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](float x, float y) {
           return std::bit_cast<uint32_t>(x + 0.0f) == std::bit_cast<uint32_t>(y + 0.0f);
         });
}

}  // namespace

std::vector<uint16_t> bf16(const std::vector<float>& values) {
  std::vector<uint16_t> out;
  for (const float value : values) {
    out.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
  }
  return out;
}

std::vector<float> bf16_values(const std::vector<float>& values) {
  std::vector<float> out;
  for (const uint16_t half : bf16(values)) {
    out.push_back(std::bit_cast<float>(uint32_t{half} << 16));
  }
  return out;
}

float e4m3_value(uint8_t code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  const float size = exponent == 0
                         ? std::ldexp(static_cast<float>(fraction), -9)
                         : std::ldexp(1.0f + static_cast<float>(fraction) / 8.0f, exponent - 7);
  return (code & 0x80) != 0 ? -size : size;
}

std::vector<uint8_t> Numbers::e4m3(size_t count) {
  std::vector<uint8_t> out = bytes(count);
  for (uint8_t& one : out) {
    if ((one & 0x7f) == 0x7f) one = 0x38;
  }
  return out;
}

void Artifact::kept(const std::string& name, const Dims& shape, Numbers& numbers) {
  uint64_t count = 1;
  for (const uint64_t dim : shape) count *= dim;
  const std::vector<float> values = bf16_values(numbers.scales(count));
  tensor(name, "BF16", shape, bf16(values));
  expect(name, values);
}

void Artifact::write_files() {
  for (const auto& [file, tensors] : files_) {
    const uint32_t count = shards_.count(file) != 0 ? shards_.at(file) : 1;
    std::vector<Safetensors> shards(count);
    Json map = Json::object();
    for (size_t i = 0; i < tensors.size(); ++i) {
      const auto index = static_cast<uint32_t>(i * count / tensors.size());
      const Tensor& one = tensors[i];
      shards[index].tensor(one.name, one.dtype, Json(one.shape).dump(), one.bytes);
      map[one.name] = fs::path(shard_name(file, index, count)).filename().string();
    }
    for (uint32_t i = 0; i < count; ++i) {
      write(count == 1 ? file : shard_name(file, i, count), shards[i].bytes());
    }
    if (count > 1)
      json(file + ".index.json", {{"metadata", {{"total_size", 0}}}, {"weight_map", map}});
  }
}

Dequantized Artifact::dequantize() {
  write_files();
  const TempFolder output;
  Dequantized out;
  const auto report = run(path(), output.path("out"), out.notes);
  for (std::string& note : out.notes) note = without_path(note);
  if (!report.ok()) {
    out.error = without_path(report.error().text());
    return out;
  }
  for (const load::DequantizedFile& file : report->files) {
    const bool several = report->files.size() > 1;
    read_back(file.path, several ? fs::path(file.path).stem().string() + "/" : "", out);
  }
  return out;
}

Dequantized Artifact::expect_present() {
  Dequantized out = dequantize();
  EXPECT_EQ(out.error, "");
  if (!out.error.empty()) return out;
  for (const auto& [name, values] : expected_) {
    EXPECT_TRUE(out.values.count(name) != 0) << name << " is not written";
    EXPECT_TRUE(same_bits(out.values[name], values)) << name << " differs";
  }
  return out;
}

Dequantized Artifact::expect_values() {
  Dequantized out = expect_present();
  for (const auto& [name, values] : out.values) {
    EXPECT_TRUE(expected_.count(name) != 0) << name << " is written";
  }
  return out;
}

std::string Artifact::refusal() {
  const Dequantized out = dequantize();
  return out.error.empty() ? "none" : out.error;
}

}  // namespace loadstone::testing
