#include "formats/content_kind.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/testing/model_folder.hpp"

namespace loadstone::formats {
namespace {

using testing::Gguf;
using ::testing::HasSubstr;
using testing::little_endian;
using testing::ModelFolder;
using testing::Safetensors;
using testing::safetensors_of;
using ::testing::StartsWith;

std::string tar_file() {
  std::string bytes(512, '\0');
  bytes.replace(257, 5, "ustar");
  bytes.replace(0, 4, "data");
  return bytes;
}

const std::string kPickle = std::string("\x80\x02\x8a\x0al\xfc\x46\xf9 j\xa8P\x19.", 14);
const std::string kZip = std::string("PK\x03\x04\x14\0\0\0\0\0\0\0", 12) + "archive/data.pkl";
const std::string kLfs = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";

struct Case {
  std::string content;
  std::string found;
};

std::vector<Case> other_contents() {
  return {{kZip, "found a zip archive (a PyTorch pickle), expected "},
          {kPickle, "found a pickle, expected "},
          {tar_file(), "found a tar archive (an old PyTorch pickle), expected "},
          {"<!DOCTYPE html><html></html>", "found an HTML page, expected "},
          {" \n<HTML><body>", "found an HTML page, expected "},
          {kLfs, "found a Git LFS pointer, expected "},
          {"{\"weight_map\": {}}", "found a JSON text, expected "}};
}

TEST(ContentKind, S18_OtherContentUnderTheNameOfSafetensors) {
  for (const Case& c : other_contents()) {
    ModelFolder folder;
    folder.write("model.safetensors", c.content);
    for (const char* name : {"", "model.safetensors"}) {
      EXPECT_THAT(
          folder.error(name),
          StartsWith("safetensors file rejected: model.safetensors: " + c.found + "safetensors"));
    }
  }
  ModelFolder folder;
  folder.write("model.safetensors", Gguf().bytes());
  EXPECT_EQ(folder.error(),
            "safetensors file rejected: model.safetensors: found GGUF, expected safetensors (name "
            "the file .gguf)");
}

TEST(ContentKind, S18_OtherContentUnderTheNameOfGguf) {
  for (const Case& c : other_contents()) {
    ModelFolder folder;
    folder.write("model.gguf", c.content);
    EXPECT_THAT(folder.error(), StartsWith("GGUF file rejected: model.gguf: " + c.found + "GGUF"));
  }
  ModelFolder folder;
  folder.weights("model.gguf", {"a"});
  EXPECT_EQ(folder.error(),
            "GGUF file rejected: model.gguf: found safetensors, expected GGUF (name the file "
            ".safetensors)");
}

TEST(ContentKind, S18_PicklesAreRefusedUnderAnyNameWithHowToConvert) {
  const std::string convert =
      "safetensors file rejected: pytorch_model.bin: found a pickle, expected safetensors (loading "
      "a pickle can run code, so it is always refused; convert it where you trust it: python -c "
      "'import torch, safetensors.torch as s; s.save_file(torch.load(\"pytorch_model.bin\", "
      "map_location=\"cpu\", weights_only=True), \"pytorch_model.safetensors\")')";
  for (const std::string name : {"pytorch_model.bin", "m.pt", "m.pth", "m.ckpt", "m.pkl"}) {
    for (const bool lenient : {false, true}) {
      ModelFolder folder;
      folder.write("config.json", "{}");
      folder.write(name, kPickle);
      OpenOptions options;
      options.lenient = lenient;
      EXPECT_THAT(folder.error("", options), HasSubstr(": found a pickle, expected safetensors"));
      EXPECT_THAT(folder.error(name, options), HasSubstr(": found a pickle, expected safetensors"));
    }
  }
  ModelFolder folder;
  folder.write("pytorch_model.bin", kPickle);
  EXPECT_EQ(folder.error(), convert);
}

TEST(ContentKind, S18_AComponentOfPicklesIsRefusedToo) {
  ModelFolder folder;
  folder.write("model_index.json", R"({"unet":["diffusers","U"]})");
  folder.write("unet/config.json", "{}");
  folder.write("unet/diffusion_pytorch_model.bin", kZip);
  EXPECT_THAT(folder.error(), HasSubstr("unet/diffusion_pytorch_model.bin: found a zip archive (a "
                                        "PyTorch pickle), expected safetensors"));
}

TEST(ContentKind, SafetensorsUnderAnotherNameOpens) {
  ModelFolder folder;
  folder.weights("weights.bin", {"a"});
  folder.write("weights.dat", Gguf().tensor("a", {4}, 0, 16).bytes());
  EXPECT_EQ(folder.error("weights.bin"), "opened");
  EXPECT_EQ(folder.error("weights.dat"), "opened");
}

// Header lengths whose first bytes are those of a pickle or of "GG".
TEST(ContentKind, HeaderLengthsThatLookLikePickles) {
  for (const size_t length : {0x280, 0x380, 0x480, 0x580}) {
    const std::string bytes = safetensors_of("{" + std::string(length - 2, ' ') + "}");
    EXPECT_EQ(kind_of_content(bytes, bytes.size()), ContentKind::safetensors);
    const std::string broken = safetensors_of(std::string(length, ' '));
    EXPECT_EQ(kind_of_content(broken, broken.size()), ContentKind::unknown);
  }
}

TEST(ContentKind, AnythingElseGoesToTheReader) {
  EXPECT_EQ(kind_of_content("", 0), ContentKind::too_short);
  EXPECT_EQ(kind_of_content("1234567", 7), ContentKind::too_short);
  const std::string huge = little_endian<uint64_t>(UINT64_MAX) + "abc";
  EXPECT_EQ(kind_of_content(huge, huge.size()), ContentKind::unknown);
}

}  // namespace
}  // namespace loadstone::formats
