#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/checkpoint.hpp"
#include "formats/testing/model_folder.hpp"

namespace loadstone::formats {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ModelFolder;

std::vector<std::string> names_of(const Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const Component& component : checkpoint.components) names.push_back(component.name);
  return names;
}

TEST(OpenFolder, DiffusersComponentsFollowTheIndex) {
  ModelFolder folder;
  folder.write("model_index.json", R"({"_class_name":"P","vae":["diffusers","AutoencoderKL"],
      "boundary_ratio":0.875,"transformer":["diffusers","T"],"safety":[null,null],
      "scheduler":["diffusers","EulerScheduler"]})");
  folder.write("vae/config.json", "{}");
  folder.weights("vae/diffusion_pytorch_model.safetensors", {"v"});
  folder.write("transformer/config.json", R"({"_class_name":"T","a":1})");
  folder.weights("transformer/model.safetensors", {"t"});
  folder.write("scheduler/scheduler_config.json", "{}");
  folder.weights("flux1.safetensors", {"of", "the", "root"});  // not part of the folders
  auto opened = folder.open();
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  EXPECT_EQ(opened->layout, Layout::diffusers);
  EXPECT_THAT(names_of(*opened), ElementsAre("vae", "transformer"));
  const Component& transformer = *opened->component("transformer");
  EXPECT_EQ(transformer.class_name, "T");
  EXPECT_EQ(transformer.library, "diffusers");
  EXPECT_EQ(transformer.config.find("a")->integer(), 1);
  EXPECT_EQ(transformer.tensors.size(), 1u);
  EXPECT_EQ(opened->tensor_nbytes(), 2u);
}

TEST(OpenFolder, OneRoot) {
  ModelFolder folder;
  folder.write("config.json", R"({"architectures":["Qwen3ForCausalLM"],"model_type":"qwen3"})");
  folder.weights("model.safetensors", {"a", "b"});
  folder.weights("model.fp16.safetensors", {"c"});
  auto opened = folder.open();
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  EXPECT_EQ(opened->layout, Layout::transformers);
  ASSERT_THAT(names_of(*opened), ElementsAre(""));
  EXPECT_EQ(opened->components[0].class_name, "Qwen3ForCausalLM");
  EXPECT_EQ(opened->components[0].library, "transformers");
  EXPECT_EQ(opened->components[0].tensors.size(), 2u);
  ASSERT_EQ(opened->notes.size(), 1u);
  EXPECT_THAT(opened->notes[0], HasSubstr("not read: model.fp16.safetensors"));
}

TEST(OpenFolder, FilesBesideOneConfigAreComponentsAndNestedFoldersToo) {
  ModelFolder folder;
  folder.write("config.json", "{}");
  folder.weights("ema.safetensors", {"a"});
  folder.weights("ae.safetensors", {"b"});
  folder.write("speech_tokenizer/config.json", "{}");
  folder.weights("speech_tokenizer/model.safetensors", {"c"});
  folder.weights("leftovers/model.safetensors", {"d"});  // no config: not a component
  auto opened = folder.open();
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  EXPECT_THAT(names_of(*opened), ElementsAre("ae", "ema", "speech_tokenizer"));
  EXPECT_EQ(opened->component("ae")->folder, "");
  EXPECT_EQ(opened->component("speech_tokenizer")->folder, "speech_tokenizer");
}

TEST(OpenFolder, CascadeFoldersWithoutAnIndex) {
  ModelFolder folder;
  folder.weights("low_noise_model/quant_model_weight_w8a8.safetensors", {"a"});
  folder.write("low_noise_model/quant_model_description_w8a8.json", R"({"a":"W8A8"})");
  folder.weights("high_noise_model/quant_model_weight_w8a8.safetensors", {"a", "b"});
  auto opened = folder.open();
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  EXPECT_EQ(opened->layout, Layout::cascade);
  EXPECT_THAT(names_of(*opened), ElementsAre("high_noise_model", "low_noise_model"));
  ASSERT_EQ(opened->components[1].declarations.size(), 1u);
  EXPECT_EQ(opened->components[1].declarations[0].origin, "quant_model_description.json");
}

TEST(OpenFolder, AFolderWithOneFileIsThatFile) {
  ModelFolder folder;
  folder.weights("anything.safetensors", {"a"});
  auto opened = folder.open();
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  EXPECT_EQ(opened->layout, Layout::single_file);
  EXPECT_THAT(names_of(*opened), ElementsAre(""));
  auto file = folder.open("anything.safetensors");
  ASSERT_TRUE(file.ok()) << file.error().text();
  EXPECT_EQ(file->layout, Layout::single_file);
  EXPECT_EQ(file->root, opened->root);
}

TEST(OpenFolder, AmbiguousWeightsAreNotGuessed) {
  struct Case {
    std::vector<std::string> files;
    std::string error;
  };
  const Case cases[] = {
      {{"a.safetensors", "b.safetensors"},
       "weights are ambiguous: .: found a.safetensors and b.safetensors, expected "
       "model.safetensors, diffusion_pytorch_model.safetensors, an index or one file (name the "
       "file instead of the folder)"},
      {{"model.safetensors", "diffusion_pytorch_model.safetensors"},
       "weights are ambiguous: .: found model.safetensors and "
       "diffusion_pytorch_model.safetensors, expected one of them"},
      {{"a.gguf", "b.gguf"},
       "weights are ambiguous: .: found a.gguf and b.gguf, expected one GGUF set (name the file "
       "instead of the folder)"},
      {{"a.gguf", "b.safetensors"},
       "weights are ambiguous: .: found b.safetensors and a.gguf, expected one of them (name the "
       "file instead of the folder)"},
      {{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"},
       "weights index is missing: .: found model-00001-of-00002.safetensors and "
       "model-00002-of-00002.safetensors without an index, expected one file "
       "*.safetensors.index.json (download it too)"},
      {{},
       "model has no weights: .: found no *.safetensors or *.gguf file, expected weights (an "
       "incomplete download?)"}};
  for (const Case& c : cases) {
    ModelFolder folder;
    for (const std::string& file : c.files) folder.weights(file, {"a"});
    EXPECT_EQ(folder.error(), c.error);
  }
  ModelFolder folder;
  folder.weights("model-00001-of-00002.safetensors", {"a"});
  EXPECT_EQ(folder.error("model-00001-of-00002.safetensors"),
            "file is one shard of several: model-00001-of-00002.safetensors: found a numbered "
            "shard, expected the folder that holds all of them and their index");
}

TEST(OpenFolder, MissingPathsNameTheNearest) {
  ModelFolder folder;
  folder.weights("emoji/model.safetensors", {"a"});
  EXPECT_EQ(folder.error("emojy"),
            "model not found: emojy: found no such file or folder, expected a model's folder or "
            "file, or a hub name ORGANISATION/NAME; did you mean \"emoji\"?");
  EXPECT_EQ(open_checkpoint(system_files(), "").error().code, Code::invalid_argument);
}

TEST(OpenFolder, S01_AFifoOrFolderAsShard) {
  ModelFolder folder;
  ASSERT_EQ(::mkfifo(folder.path("model.safetensors").c_str(), 0600), 0);
  EXPECT_EQ(folder.error(),
            "not a regular file: model.safetensors: found a FIFO, expected a regular file");
  EXPECT_EQ(folder.error("model.safetensors"),
            "not a regular file: model.safetensors: found a FIFO, expected a regular file");
  ModelFolder index;
  index.write("model.safetensors.index.json", R"({"weight_map":{"a":"s.safetensors"}})");
  std::filesystem::create_directory(index.path("s.safetensors"));
  EXPECT_EQ(index.error(),
            "not a regular file: s.safetensors: found a directory, expected a regular file");
}

class IndexTest : public ::testing::Test {
 protected:
  void index(const std::string& text) { folder_.write("model.safetensors.index.json", text); }
  void map(const std::string& entries) { index("{\"weight_map\":{" + entries + "}}"); }
  ModelFolder folder_;
};

TEST_F(IndexTest, TheIndexIsTheLaw) {
  folder_.weights("b-2.safetensors", {"x", "y"});
  folder_.weights("a-1.safetensors", {"z"});
  map(R"("z":"a-1.safetensors","x":"b-2.safetensors","y":"b-2.safetensors")");
  auto opened = folder_.open();
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  EXPECT_EQ(opened->files.size(), 2u);
  EXPECT_EQ(opened->components[0].tensors[0].name, "z");
  EXPECT_EQ(opened->components[0].tensors[0].file, 0u);
  EXPECT_EQ(opened->components[0].tensors[2].file, 1u);
  EXPECT_TRUE(opened->notes.empty());
}

TEST_F(IndexTest, S12_ShardNamesAreNoPaths) {
  folder_.weights("good.safetensors", {"a"});
  for (const std::string name : {"../good.safetensors", "/etc/passwd", "x/good.safetensors", "..",
                                 ".", "", "a\\\\b.safetensors", "a\\u0000b", "a\\nb"}) {
    map("\"a\":\"" + name + "\"");
    EXPECT_THAT(folder_.error(),
                ::testing::StartsWith("weights index rejected: model.safetensors.index.json:1:20: "
                                      "found \""))
        << name;
    EXPECT_THAT(folder_.error(), HasSubstr("expected a file name of the same folder")) << name;
  }
  map("\"a\":\"../../x\"");
  EXPECT_EQ(folder_.error(),
            "weights index rejected: model.safetensors.index.json:1:20: found \"../../x\" as the "
            "file of \"a\", expected a file name of the same folder");
}

TEST_F(IndexTest, S14_MissingShard) {
  folder_.weights("1.safetensors", {"a"});
  map(R"("a":"1.safetensors","b":"2.safetensors")");
  EXPECT_EQ(folder_.error(),
            "shard is missing: 2.safetensors: found no file, expected the shard that "
            "model.safetensors.index.json names (an incomplete download?)");
}

TEST_F(IndexTest, S14_ShardsAndIndexDisagree) {
  struct Case {
    std::vector<std::string> first, second;
    std::string map, found;
  };
  const Case cases[] = {{{"a"},
                         {"b"},
                         R"("a":"1.safetensors","b":"2.safetensors","c":"2.safetensors")",
                         "1 tensors of the index are in no shard (\"c\")"},
                        {{"a"},
                         {"b"},
                         R"("a":"2.safetensors","b":"1.safetensors")",
                         "2 tensors lie in another shard than the index says (\"a\", \"b\")"},
                        {{"a", "c"},
                         {"b", "a"},
                         R"("a":"1.safetensors","b":"2.safetensors","c":"1.safetensors")",
                         "1 tensors lie in two shards (\"a\")"},
                        {{"a", "x"},
                         {"b"},
                         R"("a":"1.safetensors","b":"2.safetensors")",
                         "1 tensors of the shards are not in the index (\"x\")"}};
  for (const Case& c : cases) {
    folder_.weights("1.safetensors", c.first);
    folder_.weights("2.safetensors", c.second);
    map(c.map);
    EXPECT_EQ(folder_.error(),
              "shards disagree with their index: model.safetensors.index.json: found that " +
                  c.found +
                  ", expected each tensor once, where the index says (an interrupted download?)");
  }
}

TEST_F(IndexTest, S14_TenNamesAndTheTotal) {
  folder_.weights("1.safetensors", {"a"});
  std::string entries = "\"a\":\"1.safetensors\"";
  for (int i = 10; i < 40; ++i) entries += ",\"n" + std::to_string(i) + "\":\"1.safetensors\"";
  map(entries);
  EXPECT_THAT(folder_.error(), HasSubstr("30 tensors of the index are in no shard (\"n10\", "));
  EXPECT_THAT(folder_.error(), HasSubstr("\"n19\", …)"));
  EXPECT_THAT(folder_.error(), ::testing::Not(HasSubstr("n20")));
}

TEST_F(IndexTest, S14_ExtraTensorsAreForTheLenient) {
  folder_.weights("1.safetensors", {"a", "extra"});
  map(R"("a":"1.safetensors")");
  OpenOptions lenient;
  lenient.lenient = true;
  auto opened = folder_.open("", lenient);
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  ASSERT_EQ(opened->notes.size(), 1u);
  EXPECT_THAT(opened->notes[0], HasSubstr("\"extra\""));
}

TEST_F(IndexTest, S15_ShapeOfTheIndex) {
  folder_.weights("1.safetensors", {"a"});
  const std::string where = "weights index rejected: model.safetensors.index.json:1:";
  const std::pair<std::string, std::string> cases[] = {
      {"{}", where + "1: found no \"weight_map\", expected a map \"weight_map\" of tensor to file"},
      {"[]", where + "1: found no \"weight_map\", expected a map \"weight_map\" of tensor to file"},
      {R"({"weight_map":[]})",
       where + "15: found a list of 0, expected a map \"weight_map\" of tensor to file"},
      {R"({"weight_map":{}})", where + "15: found an empty \"weight_map\", expected tensors"},
      {R"({"weight_map":{"a":1}})",
       where + "20: found 1 as the file of \"a\", expected a file name of the same folder"},
      {R"({"weight_map":{"a":"1.safetensors","a":"1.safetensors"}})",
       "duplicate key: model.safetensors.index.json:1:36: found \"a\" again, expected it once "
       "(first at line 1, column 16)"},
      {"{",
       "invalid JSON: model.safetensors.index.json:1:1: found an unfinished document or bytes "
       "behind it, expected a list or map that ends here"}};
  for (const auto& [text, error] : cases) {
    index(text);
    EXPECT_EQ(folder_.error(), error);
    EXPECT_EQ(folder_.open().error().code, Code::invalid_checkpoint);
  }
}

TEST_F(IndexTest, S15_TwoIndexes) {
  folder_.weights("1.safetensors", {"a"});
  map(R"("a":"1.safetensors")");
  folder_.write("diffusion_pytorch_model.safetensors.index.json",
                R"({"weight_map":{"a":"1.safetensors"}})");
  EXPECT_EQ(folder_.error(),
            "weights are ambiguous: .: found diffusion_pytorch_model.safetensors.index.json and "
            "model.safetensors.index.json, expected one weights index");
}

TEST_F(IndexTest, S15_TotalSizeIsComparedAndNeverUsed) {
  folder_.weights("1.safetensors", {"a", "b"});
  const std::pair<std::string, std::string> cases[] = {
      {"2", ""},
      {"2.0", ""},
      {"99999999999999999999", "total_size is 1e+20, expected bytes"},
      {"1099511627776", "total_size is 1099511627776, the shards' tensors are 2 bytes"},
      {"-1", "total_size is -1, expected bytes"},
      {"\"2\"", "total_size is \"2\", expected bytes"}};
  for (const auto& [total, note] : cases) {
    index(R"({"metadata":{"total_size":)" + total +
          R"(},"weight_map":{"a":"1.safetensors","b":"1.safetensors"}})");
    auto opened = folder_.open();
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    if (note.empty()) {
      EXPECT_TRUE(opened->notes.empty()) << opened->notes[0];
    } else {
      ASSERT_EQ(opened->notes.size(), 1u);
      EXPECT_THAT(opened->notes[0], HasSubstr(note));
    }
  }
}

TEST(OpenFolder, S13_LinksOutOfTheModelAreRefused) {
  ModelFolder outside;
  const std::string target = outside.weights("secret.safetensors", {"a"});
  outside.write("config.json", "{}");

  ModelFolder shard;
  std::filesystem::create_symlink(target, shard.path("model.safetensors"));
  EXPECT_THAT(shard.error(), HasSubstr("file lies outside the model: model.safetensors: "));
  EXPECT_THAT(shard.open().error().text(),
              HasSubstr("found a link to \"" + target + "\", expected a file inside \"" +
                        shard.path() + "\" or its cache's blobs"));

  ModelFolder config;
  config.weights("model.safetensors", {"a"});
  std::filesystem::create_symlink(outside.path("config.json"), config.path("config.json"));
  EXPECT_THAT(config.error(), HasSubstr("file lies outside the model: config.json"));

  ModelFolder component;
  component.write("model_index.json", R"({"vae":["diffusers","V"]})");
  std::filesystem::create_directory_symlink(outside.path(), component.path("vae"));
  EXPECT_THAT(component.error(), HasSubstr("file lies outside the model: vae/"));
}

TEST(OpenFolder, S13_LinksInsideTheModelAndToItsBlobsAreFine) {
  ModelFolder inside;
  inside.weights("files/w", {"a"});
  std::filesystem::create_symlink("files/w", inside.path("model.safetensors"));
  EXPECT_EQ(inside.error(), "opened");

  ModelFolder cache;
  const std::string snapshot =
      "models--Org--Name/snapshots/0123456789012345678901234567890123456789/";
  cache.weights("models--Org--Name/blobs/abc", {"a"});
  cache.weights("models--Org--Other/blobs/def", {"a"});
  std::filesystem::create_directories(cache.path(snapshot + "vae"));
  std::filesystem::create_symlink("../../blobs/abc", cache.path(snapshot + "model.safetensors"));
  std::filesystem::create_symlink("../../../blobs/abc",
                                  cache.path(snapshot + "vae/model.safetensors"));
  EXPECT_EQ(cache.error(snapshot), "opened");
  EXPECT_EQ(cache.error(snapshot + "vae"), "opened");
  EXPECT_EQ(cache.error(snapshot + "model.safetensors"), "opened");
  // Another repository's blobs are not this model's.
  std::filesystem::remove(cache.path(snapshot + "model.safetensors"));
  std::filesystem::create_symlink("../../../models--Org--Other/blobs/def",
                                  cache.path(snapshot + "model.safetensors"));
  EXPECT_THAT(cache.error(snapshot), HasSubstr("file lies outside the model"));
}

TEST(OpenFolder, S13_TheModelItselfMayBeALink) {
  ModelFolder outside;
  outside.weights("model.safetensors", {"a"});
  ModelFolder links;
  std::filesystem::create_directory_symlink(outside.path(), links.path("model"));
  std::filesystem::create_symlink(outside.path("model.safetensors"),
                                  links.path("file.safetensors"));
  EXPECT_EQ(links.error("model"), "opened");
  EXPECT_EQ(links.error("file.safetensors"), "opened");
}

TEST(OpenFolder, S16_ModelIndex) {
  const std::string where = "model_index.json rejected: model_index.json:1:";
  const std::pair<std::string, std::string> cases[] = {
      {R"({"../x":["diffusers","V"]})",
       where + "2: found component \"../x\", expected a name of letters, digits and _"},
      {R"({"/etc":["diffusers","V"]})",
       where + "2: found component \"/etc\", expected a name of letters, digits and _"},
      {R"({"":["diffusers","V"]})",
       where + "2: found component \"\", expected a name of letters, digits and _"},
      {R"({"vae":["diffusers"]})",
       where + "8: found a list of 1 for component \"vae\", expected [library, class] or [null, "
               "null]"},
      {R"({"vae":[null,"V"]})",
       where + "8: found a list of 2 for component \"vae\", expected [library, class] or [null, "
               "null]"},
      {R"({"vae":{"a":1}})",
       where + "8: found a map of 1 key for component \"vae\", expected [library, class] or [null, "
               "null]"},
      {"[]", where + "1: found a list of 0, expected a map of components"},
      {R"({"gone":["diffusers","V"]})",
       "component folder is missing: gone: found no folder, expected one for \"gone\" of "
       "model_index.json (an incomplete download?)"},
      {R"({"a":[null,null]})",
       "model has no weights: model_index.json: found no component with tensors, expected at least "
       "one"}};
  for (const auto& [text, error] : cases) {
    ModelFolder folder;
    folder.write("model_index.json", text);
    EXPECT_EQ(folder.error(), error);
  }
}

TEST(OpenFolder, S16_AComponentWithoutItsWeights) {
  ModelFolder folder;
  folder.write("model_index.json",
               R"({"vae":["diffusers","V"],"t":["transformers","QwenTokenizer"]})");
  folder.write("vae/config.json", "{}");
  folder.write("t/tokenizer.json", "{}");
  EXPECT_EQ(
      folder.error(),
      "model has no weights: vae: found no *.safetensors or *.gguf file, expected weights (an "
      "incomplete download?)");
  folder.weights("vae/model.safetensors", {"a"});
  EXPECT_EQ(folder.error(), "opened");
}

}  // namespace
}  // namespace loadstone::formats
