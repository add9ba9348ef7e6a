// Test fixture: a folder of plugins of one's own, made of faulty_plugin.cpp's builds.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "plugin/registry.hpp"

namespace loadstone::plugin::testing {

class PluginFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "plugins-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = std::filesystem::canonical(pattern).string();
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  /// A build of the faulty plugin as faulty.so with its manifest.
  void install(const std::string& fault) {
    std::filesystem::remove(path("faulty.so"));  // a loaded one stays as it is
    std::filesystem::copy_file(std::string(LOADSTONE_BINARY_DIR) + "/tests/faulty/" + fault + ".so",
                               path("faulty.so"));
    write("faulty.info", manifest());
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name), std::ios::binary) << text;
  }
  static std::string manifest(const std::string& name = "faulty",
                              const std::string& method = "faulty") {
    return "name " + name + "\nversion 1.2.3\nlicence MIT\nabi 0.1\nsummary \"on demand\"\n" +
           "methods { " + method + " }\nclaims { claim { method " + method +
           "\n origin quantization_config\n quant_method faulty } }\n";
  }

  /// An error's text without the folder's name.
  std::string plain(std::string text) const {
    for (size_t at; (at = text.find(folder_ + "/")) != std::string::npos;) {
      text.erase(at, folder_.size() + 1);
    }
    return text;
  }

  Result<Method> open() const {
    LS_TRY(const Manifest manifest, read_manifest(path("faulty.info")));
    LS_TRY(std::vector<Method> methods, open_library(manifest));
    return std::move(methods.front());
  }
  std::string open_error() const {
    const auto opened = open();
    return opened.ok() ? "opened" : plain(opened.error().text());
  }

  std::string folder_;
};

/// A layer "blocks.0.proj" of 4 × 3 bytes with one U8 tensor "weight".
class SmallLayer {
 public:
  SmallLayer() {
    part_.struct_size = sizeof part_;
    part_.name = "blocks.0.proj";
    part_.out_count = part_.file_total = 4;
    tensor_.struct_size = sizeof tensor_;
    tensor_.dtype = LS_DTYPE_U8;
    tensor_.rank = 2;
    for (uint64_t& axis : tensor_.shape) axis = 1;
    tensor_.shape[0] = 4;
    tensor_.shape[1] = 3;
    tensor_.nbytes = 12;
    tensor_.row_nbytes = 3;
    tensor_.name = "weight";
    layer_.struct_size = sizeof layer_;
    layer_.kind = LS_KIND_LINEAR;
    layer_.load_dtype = LS_DTYPE_F32;
    layer_.want = LS_WANT_QUANTIZE;
    layer_.groups = 1;
    layer_.component = "transformer";
    layer_.path = "blocks.0.proj";
    layer_.role = "";
    layer_.out = 4;
    layer_.in = 3;
    layer_.parts = parts_;
    layer_.part_count = 1;
    layer_.tensors = tensors_;
    layer_.tensor_count = 1;
    target_.struct_size = sizeof target_;
    target_.kind = LS_TARGET_CPU;
    target_.name = "cpu";
  }
  const ls_layer& layer() const { return layer_; }
  const ls_target& target() const { return target_; }

 private:
  ls_part part_{};
  ls_tensor tensor_{};
  const ls_part* parts_[1] = {&part_};
  const ls_tensor* tensors_[1] = {&tensor_};
  ls_layer layer_{};
  ls_target target_{};
};

}  // namespace loadstone::plugin::testing
