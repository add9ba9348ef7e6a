// Every model folder and checkpoint of the shared data opens, with the tensors that its expect.json
// and an independent read of the files' headers say.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/testing/shared.hpp"
#include "formats/checkpoint.hpp"

namespace loadstone::formats {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json read_json(const fs::path& path) {
  std::ifstream stream(path);
  return json::parse(stream);
}

// Header of a safetensors file by another JSON parser.
json header_of(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  unsigned char length_bytes[8];
  stream.read(reinterpret_cast<char*>(length_bytes), 8);
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | length_bytes[i];
  std::string text(length, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(length));
  json header = json::parse(text);
  header.erase("__metadata__");
  header["__begin__"] = 8 + length;
  return header;
}

// Folders below `root` that hold an expect.json.
std::vector<fs::path> expected_folders(const fs::path& root) {
  std::vector<fs::path> out;
  if (!fs::is_directory(root)) return out;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.path().filename() == "expect.json") out.push_back(entry.path().parent_path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

// Every tensor of the checkpoint is in its file's header at the same place, and the other way
// round for every file that was opened.
void expect_tensors_as_in_headers(const Checkpoint& checkpoint) {
  std::map<uint32_t, json> headers;
  std::map<uint32_t, size_t> counted;
  for (const Component& component : checkpoint.components) {
    uint32_t last_file = 0;
    uint64_t last_offset = 0;
    for (const TensorEntry& tensor : component.tensors) {
      const FileEntry& file = checkpoint.files.at(tensor.file);
      if (file.path.ends_with(".gguf")) continue;
      if (!headers.contains(tensor.file)) headers[tensor.file] = header_of(file.path);
      const json& header = headers[tensor.file];
      ASSERT_TRUE(header.contains(tensor.name)) << tensor.name;
      const json& entry = header[tensor.name];
      EXPECT_EQ(entry["dtype"], std::string(name_of(tensor.dtype)));
      EXPECT_EQ(entry["shape"].get<std::vector<uint64_t>>(),
                std::vector<uint64_t>(tensor.shape.begin(), tensor.shape.end()));
      const uint64_t begin = header["__begin__"].get<uint64_t>();
      EXPECT_EQ(entry["data_offsets"][0].get<uint64_t>() + begin, tensor.offset);
      EXPECT_EQ(entry["data_offsets"][1].get<uint64_t>() + begin, tensor.offset + tensor.nbytes);
      EXPECT_TRUE(last_file < tensor.file ||
                  (last_file == tensor.file && last_offset <= tensor.offset));
      last_file = tensor.file;
      last_offset = tensor.offset;
      ++counted[tensor.file];
    }
  }
  for (const auto& [file, header] : headers) EXPECT_EQ(counted[file], header.size() - 1);
}

class OracleTest : public ::testing::Test {
 protected:
  void SetUp() override { LS_NEEDS(testing::shared_folder()); }
};

TEST_F(OracleTest, OpensEveryFamilyFolder) {
  const auto folders = expected_folders(testing::shared_folder() / "models");
  if (folders.empty()) GTEST_SKIP() << "no model folders";
  for (const fs::path& folder : folders) {
    SCOPED_TRACE(folder);
    auto opened = open_checkpoint(system_files(), folder.string());
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    expect_tensors_as_in_headers(*opened);
    // Tensors a folder of the model, as expect.json counts them (its components may share one).
    std::map<std::string, uint64_t> expected, found;
    std::map<std::string, std::set<std::string>> expected_files, found_files;
    const json expect = read_json(folder / "expect.json");
    for (const json& component : expect["components"]) {
      const std::string path = component["path"];
      expected[path] += component["tensors"].get<uint64_t>();
      for (const auto& file : component["files"]) expected_files[path].insert(file);
    }
    for (const Component& component : opened->components) {
      found[component.folder] += component.tensors.size();
      for (const TensorEntry& tensor : component.tensors) {
        found_files[component.folder].insert(fs::path(opened->files[tensor.file].path).filename());
      }
    }
    EXPECT_EQ(found, expected);
    EXPECT_EQ(found_files, expected_files);
    for (const std::string& note : opened->notes) ADD_FAILURE() << note;
  }
}

TEST_F(OracleTest, DiffusersComponentsComeInOrderWithTheirClass) {
  size_t seen = 0;
  for (const fs::path& folder : expected_folders(testing::shared_folder() / "models")) {
    if (!fs::exists(folder / "model_index.json")) continue;
    SCOPED_TRACE(folder);
    auto opened = open_checkpoint(system_files(), folder.string());
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    EXPECT_EQ(opened->layout, Layout::diffusers);
    std::ifstream stream(folder / "model_index.json");
    const auto index = nlohmann::ordered_json::parse(stream);
    std::vector<std::string> ordered;
    for (const auto& [key, value] : index.items()) {
      const Component* component = opened->component(key);
      if (component == nullptr) continue;
      ordered.push_back(key);
      EXPECT_EQ(value[0], component->library);
      EXPECT_EQ(value[1], component->class_name);
      EXPECT_TRUE(component->config.is_map());
    }
    std::vector<std::string> found;
    for (const Component& component : opened->components) found.push_back(component.name);
    EXPECT_EQ(found, ordered);
    ++seen;
  }
  if (seen == 0) GTEST_SKIP() << "no diffusers folders";
}

TEST_F(OracleTest, OpensEveryCheckpointWithItsDeclarations) {
  const auto folders = expected_folders(testing::shared_folder() / "checkpoints");
  if (folders.empty()) GTEST_SKIP() << "no checkpoints";
  for (const fs::path& folder : folders) {
    SCOPED_TRACE(folder);
    auto opened = open_checkpoint(system_files(), folder.string());
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    expect_tensors_as_in_headers(*opened);
    std::set<std::string> tensors;
    for (const Component& component : opened->components) {
      const std::string prefix = component.folder.empty() ? "" : component.folder + "/";
      for (const TensorEntry& tensor : component.tensors) tensors.insert(prefix + tensor.name);
      EXPECT_FALSE(component.declarations.empty()) << component.name;
    }
    // `kept` names are stored under their own names.
    const json expected = read_json(folder / "expect.json");
    for (const auto& kept : expected.value("kept", json::array())) {
      if (!kept.is_string()) continue;
      EXPECT_TRUE(tensors.contains(kept.get<std::string>())) << kept;
    }
  }
}

// truth.json gives each dequantized matrix's shape under the file's names, less a prefix.
TEST_F(OracleTest, GgufShapesAreThoseOfTheTruth) {
  size_t compared = 0;
  for (const fs::path& folder : expected_folders(testing::shared_folder() / "checkpoints")) {
    auto opened = open_checkpoint(system_files(), folder.string());
    if (!opened.ok() || !opened->files.at(0).path.ends_with(".gguf")) continue;
    SCOPED_TRACE(folder);
    const json truth = read_json(folder / "truth.json");
    for (const auto& [name, expected] : truth["tensors"].items()) {
      const TensorEntry* tensor = opened->components[0].find(name);
      if (tensor == nullptr) {
        tensor = opened->components[0].find("model.diffusion_model." + name);
      }
      ASSERT_NE(tensor, nullptr) << name;
      EXPECT_EQ(std::vector<uint64_t>(tensor->shape.begin(), tensor->shape.end()),
                expected["shape"].get<std::vector<uint64_t>>())
          << name;
      ++compared;
    }
  }
  if (compared == 0) GTEST_SKIP() << "no GGUF checkpoints";
}

}  // namespace
}  // namespace loadstone::formats
