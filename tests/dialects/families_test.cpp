// Every family's folder as ModelOpt would have written it: the default scope in FP8, whatever the
// layout (components in folders, a flat root of stages, experts one by one, shards), dequantized to
// the names of COMMANDS and the values of the format.
#include <gmock/gmock.h>
#include <re2/re2.h>

#include <bit>
#include <filesystem>
#include <set>

#include "artifact.hpp"
#include "base/file.hpp"
#include "base/testing/shared.hpp"
#include "formats/checkpoint.hpp"

namespace loadstone {
namespace {

namespace fs = std::filesystem;
using testing::Artifact;
using testing::e4m3_value;
using testing::Json;
using testing::Numbers;

fs::path families() { return testing::shared_folder() / "models/families"; }

std::string text_of(const fs::path& path) {
  auto text = read_text(system_files(), path.string(), 64u << 20);
  EXPECT_TRUE(text.ok()) << path;
  return text.ok() ? *text : "{}";
}

/// One family rewritten into an artifact.
class Rewriting {
 public:
  Rewriting(const fs::path& family, Artifact& to) : family_(family), to_(to) {
    const Json expect = Json::parse(text_of(family / "expect.json"));
    components_ = expect["components"].size();
    for (const Json& row : expect["weights_2d"]) {
      if (row[7] == "quantize") owner_[row[0].get<std::string>()].insert(row[1]);
    }
  }

  /// The tensors that were quantized.
  size_t run() {
    auto checkpoint = formats::open_checkpoint(system_files(), family_.string());
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.error().text();
    for (const formats::Component& component : checkpoint->components) {
      for (const formats::TensorEntry& tensor : component.tensors) {
        add(*checkpoint, component, tensor);
      }
    }
    copy_configs();
    return quantized_;
  }

 private:
  static std::string without_shard(const std::string& file) {
    std::string whole = file;
    RE2::Replace(&whole, "-[0-9]+-of-[0-9]+", "");
    return whole;
  }

  /// The component of expect.json that a weight of the default scope belongs to, or "".
  std::string owner_of(const std::string& component, const std::string& name) const {
    for (const auto& [owner, names] : owner_) {
      if (names.contains(name) && (component == owner || component.empty())) return owner;
    }
    return "";
  }

  void add(const formats::Checkpoint& from, const formats::Component& component,
           const formats::TensorEntry& tensor) {
    const std::string path = from.files[tensor.file].path;
    const std::string file = fs::relative(path, family_).string();
    to_.into(without_shard(file), file == without_shard(file) ? 1 : 2);
    const testing::Dims shape(tensor.shape.begin(), tensor.shape.end());
    const std::string owner = owner_of(component.name, tensor.name);
    if (!owner.empty()) return add_fp8(owner, tensor.name, shape);
    std::vector<char> bytes(tensor.nbytes);
    auto room = std::as_writable_bytes(std::span(bytes));
    ASSERT_TRUE(from.files[tensor.file].file->read_exact(room, tensor.offset).ok());
    to_.tensor(tensor.name, std::string(name_of(tensor.dtype)), shape, bytes);
  }

  void add_fp8(const std::string& owner, const std::string& name, const testing::Dims& shape) {
    const std::string module = name.substr(0, name.rfind('.'));
    const auto codes = numbers_.e4m3(shape[0] * shape[1]);
    const float scale = numbers_.scales(1)[0];
    to_.tensor(name, "F8_E4M3", shape, codes);
    to_.floats(module + ".weight_scale", {}, {scale});
    to_.floats(module + ".input_scale", {}, {0.05f});
    std::vector<float> weight;
    for (const uint8_t code : codes) weight.push_back(e4m3_value(code) * scale);
    to_.expect(components_ > 1 ? owner + "/" + name : name, std::move(weight));
    declared_.insert(fs::exists(family_ / owner) ? owner + "/config.json" : "config.json");
    ++quantized_;
  }

  void copy_configs() {
    for (const auto& entry : fs::recursive_directory_iterator(family_)) {
      const std::string file = fs::relative(entry.path(), family_).string();
      const bool about = file == "expect.json" || file == "aliases.json";
      if (entry.path().extension() != ".json" || file.ends_with(".index.json") || about) continue;
      Json config = Json::parse(text_of(entry.path()));
      if (declared_.contains(file)) {
        config["quantization_config"] = {
            {"quant_method", "modelopt"}, {"quant_algo", "FP8"}, {"ignore", Json::array()}};
      }
      to_.json(file, config);
    }
  }

  fs::path family_;
  Artifact& to_;
  Numbers numbers_{17};
  std::map<std::string, std::set<std::string>> owner_;  // weights of the default scope
  std::set<std::string> declared_;
  size_t components_ = 0, quantized_ = 0;
};

TEST(FamilyArtifacts, DefaultScopesDequantizeUnderTheirComponentsNames) {
  if (!fs::exists(families())) GTEST_SKIP() << "no " << families() << ": set LOADSTONE_SHARED";
  size_t seen = 0;
  for (const auto& entry : fs::directory_iterator(families())) {
    if (!fs::exists(entry.path() / "expect.json")) continue;
    SCOPED_TRACE(entry.path().filename());
    Artifact artifact;
    if (Rewriting(entry.path(), artifact).run() == 0) continue;  // no default scope
    artifact.expect_present();
    ++seen;
  }
  EXPECT_GT(seen, 0u);
}

}  // namespace
}  // namespace loadstone
