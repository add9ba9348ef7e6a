// Test side only: the shared checkpoints of one runtime method, module by module, with the
// tools' own dequantized weights as hashes.
#pragma once

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iostream>

#include "common/testing/driver.hpp"
#include "common/testing/sha256.hpp"

namespace loadstone::common::testing {

/// A folder below checkpoints/ with its tensors, expect.json and truth.json.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::filesystem::path folder)
      : folder_(std::move(folder)),
        expect_(json("expect.json")),
        truth_(json("truth.json")["tensors"]) {}

  std::string name() const { return folder_.string(); }
  const Json& expect() const { return expect_; }
  std::string tool() const { return expect_["tool"]; }
  std::string method() const { return expect_["method"]; }
  /// quantization_config of config.json, or null.
  Json declaration() const {
    const Json config = json("config.json");
    return config.is_null() ? Json() : config.value("quantization_config", Json());
  }
  /// Header metadata of the safetensors files, by key.
  Json metadata(const std::string& key) const {
    const_cast<CheckpointFolder*>(this)->read();
    return metadata_.contains(key) ? Json::parse(metadata_[key].get<std::string>()) : Json();
  }
  const std::map<std::string, Tensor>& tensors() const {
    const_cast<CheckpointFolder*>(this)->read();
    return tensors_;
  }

  /// A module as a layer of its own; `module` without the file's prefix.
  TestLayer layer(const std::string& module) const {
    const std::string full = prefix_of(module) + module;
    TestLayer out;
    const Json& shape = truth_.at(module + ".weight")["shape"];
    out.out = shape[0];
    out.in = shape[1];
    out.path = module;
    out.part(module, 0, out.out);
    for (const auto& [name, tensor] : tensors()) {
      if (name.rfind(full + ".", 0) != 0) continue;
      const std::string suffix = name.substr(full.size() + 1);
      if (suffix != "bias") out.tensor(suffix, tensor);
    }
    return out;
  }

  void expect_weight(const std::string& module, const std::vector<float>& weight) const {
    const Json& wanted = truth_.at(module + ".weight");
    const Json& hash = wanted.contains("sha256_f32") ? wanted["sha256_f32"] : wanted["sha256"];
    EXPECT_EQ(sha256_of_floats(weight), hash) << module;
  }

 private:
  Json json(const char* file) const {
    const std::string path = (folder_ / file).string();
    return exists(path) ? Json::parse(read_file(path)) : Json();
  }
  void read() {
    if (!tensors_.empty()) return;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      const auto& path = entry.path();
      if (path.extension() != ".safetensors" || path.filename() == "truth.safetensors") continue;
      tensors_.merge(read_safetensors(path.string()));
      const std::vector<char> file = read_file(path.string());
      uint64_t header = 0;
      std::memcpy(&header, file.data(), sizeof header);
      const Json entries = Json::parse(file.begin() + 8, file.begin() + 8 + header);
      if (entries.contains("__metadata__")) metadata_.update(entries["__metadata__"]);
    }
  }
  std::string prefix_of(const std::string& module) const {
    for (const auto& [name, tensor] : tensors()) {
      if (name.starts_with(module + ".")) return "";
      const size_t at = name.find("." + module + ".");
      if (at != std::string::npos) return name.substr(0, at + 1);
    }
    throw std::runtime_error("no tensor " + module + ".weight");
  }

  std::filesystem::path folder_;
  Json expect_, truth_, metadata_ = Json::object();
  std::map<std::string, Tensor> tensors_;
};

/// All folders that `wanted` accepts, in order of their paths.
inline std::vector<CheckpointFolder> find_checkpoints(
    const std::function<bool(const CheckpointFolder&)>& wanted) {
  std::vector<std::filesystem::path> paths;
  const std::filesystem::path root = shared_path("checkpoints");
  if (std::filesystem::exists(root)) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
      const auto folder = entry.path().parent_path();
      if (entry.path().filename() != "expect.json") continue;
      if (exists((folder / "truth.json").string())) paths.push_back(folder);
    }
  }
  std::sort(paths.begin(), paths.end());
  std::vector<CheckpointFolder> out;
  for (const auto& path : paths) {
    CheckpointFolder folder(path);
    if (wanted(folder)) out.push_back(std::move(folder));
  }
  return out;
}

/// What `driver` saves of a layer is what was read, every byte under its own name.
inline void expect_saved_as_read(Driver& driver, TestLayer& layer, Produced& produced) {
  for (const auto& one : driver.save(layer, produced)) {
    const auto source = std::find_if(layer.sources().begin(), layer.sources().end(),
                                     [&](const auto& from) { return from.name == one.name; });
    ASSERT_NE(source, layer.sources().end()) << one.name;
    EXPECT_EQ(one.bytes, source->bytes) << one.name;
  }
}

/// Every quantized module of `folder`, read as its fields say, equals its truth, and there is
/// at least one; `more` looks at each as well.
inline void expect_checkpoint(
    Driver& driver, const CheckpointFolder& folder, const Declared& declared,
    const std::function<void(Driver&, TestLayer&, Produced&)>& more = {}) {
  SCOPED_TRACE(folder.name());
  int layers = 0;
  for (const auto& [module, scheme] : folder.expect()["layers"].items()) {
    SCOPED_TRACE(module);
    driver.configure(declared.of(module));
    TestLayer layer = folder.layer(module);
    layer.show_values();
    Produced produced = driver.produce(layer);
    folder.expect_weight(module, driver.raw_weight(layer, produced));
    if (more) more(driver, layer, produced);
    ++layers;
  }
  EXPECT_GT(layers, 0);
  std::cout << folder.name() << ": " << layers << " layers equal\n";
}

/// The same, saved as read, for every checkpoint below `shared` that declares `quant_method`, which
/// `plugin` reads; skips where there is none.
inline void expect_checkpoints_of(const char* plugin, const std::string& quant_method) {
  const auto folders = find_checkpoints([&](const CheckpointFolder& folder) {
    const Json declaration = folder.declaration();
    return declaration.is_object() && declaration.value("quant_method", "") == quant_method;
  });
  if (folders.empty()) GTEST_SKIP() << "no checkpoints: " << shared_path("checkpoints");
  Driver driver(plugin);
  for (const CheckpointFolder& folder : folders) {
    const Declared declared = driver.read_declaration(folder.declaration());
    expect_checkpoint(driver, folder, declared, expect_saved_as_read);
  }
}

}  // namespace loadstone::common::testing
