// What holds for every input that is read, however wrong it is: the contract of hostile inputs,
// over all truncations and byte changes of small good files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/testing/failing_new.hpp"
#include "base/text.hpp"
#include "formats/checkpoint.hpp"
#include "formats/testing/model_folder.hpp"

namespace loadstone::formats {
namespace {

using testing::Gguf;
using ::testing::HasSubstr;
using testing::little_endian;
using testing::ModelFolder;
using testing::Safetensors;
using testing::safetensors_of;

struct Hostile {
  std::string file;     // what is opened, inside the folder
  std::string content;  // of the file
};

std::string good_safetensors() {
  return Safetensors()
      .metadata("format", "\"pt\"")
      .zeros("a.weight", "BF16", "[2,3]", 12)
      .zeros("b", "F32", "[]", 4)
      .bytes();
}

std::string good_gguf() {
  return Gguf()
      .str("general.architecture", "flux")
      .i32s("comfy.gguf.orig_shape.a", {4, 8})
      .tensor("a", {32}, 2, 18)
      .tensor("b", {3, 2}, 0, 24)
      .bytes();
}

/// Every truncation, and every byte of the head set to values that matter.
std::vector<Hostile> damaged() {
  std::vector<Hostile> out;
  const std::pair<const char*, std::string> good[] = {{"m.safetensors", good_safetensors()},
                                                      {"m.gguf", good_gguf()}};
  for (const auto& [file, content] : good) {
    for (size_t nbytes = 0; nbytes < content.size(); ++nbytes) {
      out.push_back({file, content.substr(0, nbytes)});
    }
    for (size_t at = 0; at < content.size(); ++at) {
      for (const char byte : {'\0', '\x7f', '\xff', '"', '{', '9', '-'}) {
        std::string changed = content;
        changed[at] = byte;
        out.push_back({file, changed});
      }
    }
  }
  return out;
}

/// Numbers that lie: far beyond the file, near the limits of 32 and 64 bits.
std::vector<Hostile> lying() {
  std::vector<Hostile> out;
  for (const uint64_t number : {uint64_t{1} << 31, (uint64_t{1} << 32) - 1, uint64_t{1} << 32,
                                uint64_t{1} << 40, (uint64_t{1} << 61) + 1, uint64_t{1} << 62,
                                (uint64_t{1} << 63) - 1, uint64_t{1} << 63, ~uint64_t{0}}) {
    const std::string text = std::to_string(number);
    out.push_back({"m.safetensors", little_endian(number) + "{}"});
    for (const std::string& shape : {text, text + "," + text, text + ",16", "0," + text + ",8"}) {
      out.push_back({"m.safetensors", safetensors_of("{\"a\":{\"dtype\":\"F64\",\"shape\":[" +
                                                         shape + "],\"data_offsets\":[0,8]}}",
                                                     "12345678")});
    }
    out.push_back({"m.safetensors",
                   safetensors_of(
                       "{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[" + text + ",8]}}",
                       "12345678")});
    const auto signed_number = static_cast<int64_t>(number);
    out.push_back({"m.gguf", Gguf().raw_tensor("a", {32}, 0, number, 128).bytes()});
    out.push_back({"m.gguf", Gguf().raw_tensor("a", {signed_number, 4}, 0, 0, 128).bytes()});
    Gguf tensors, keys;
    tensors.extra_tensors = number;
    keys.extra_keys = number;
    out.push_back({"m.gguf", tensors.bytes()});
    out.push_back({"m.gguf", keys.bytes()});
    out.push_back(
        {"m.gguf",
         Gguf().raw_key("k", 9, little_endian<uint32_t>(8) + little_endian(number)).bytes()});
    out.push_back({"m.gguf", Gguf().raw_key("k", 8, little_endian(number) + "x").bytes()});
  }
  return out;
}

std::vector<Hostile> all() {
  std::vector<Hostile> out = damaged();
  for (Hostile& one : lying()) out.push_back(std::move(one));
  return out;
}

size_t open_descriptors() {
  const std::filesystem::directory_iterator entries("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(entries), end(entries)));
}

bool has_control_characters(const std::string& text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 && c != '\n'; });
}

/// What opening each of all() gave.
struct Outcome {
  Hostile input;
  bool opened = false;
  bool inside = true;  // every tensor lies inside the file
  Code code = Code::internal;
  std::string text;  // of the error
  size_t largest_allocation = 0;
};

class Contract : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    ModelFolder folder;
    descriptors_ = open_descriptors();
    for (Hostile& one : all()) {
      std::filesystem::remove(folder.path(one.file));  // overwriting would wait for the disk
      folder.write(one.file, one.content);
      Outcome outcome;
      loadstone::testing::largest_allocation = 0;
      const auto opened = folder.open(one.file);
      outcome.largest_allocation = loadstone::testing::largest_allocation;
      outcome.opened = opened.ok();
      if (opened.ok()) {
        for (const TensorEntry& tensor : opened->components.at(0).tensors) {
          outcome.inside &= tensor.offset <= one.content.size() &&
                            tensor.nbytes <= one.content.size() - tensor.offset;
        }
      } else {
        outcome.code = opened.error().code;
        outcome.text = opened.error().text();
      }
      outcome.input = std::move(one);
      outcomes_.push_back(std::move(outcome));
    }
    descriptors_left_ = open_descriptors();
  }
  static void TearDownTestSuite() { outcomes_.clear(); }

  static std::string shown(const Outcome& outcome) { return quoted(outcome.input.content, 4000); }

  static inline std::vector<Outcome> outcomes_;
  static inline size_t descriptors_ = 0, descriptors_left_ = 0;
};

TEST_F(Contract, G1_AModelOrOneTypedError) {
  size_t rejected = 0;
  for (const Outcome& outcome : outcomes_) {
    if (outcome.opened) {
      EXPECT_TRUE(outcome.inside) << shown(outcome);
      continue;
    }
    ++rejected;
    EXPECT_THAT(outcome.code, ::testing::AnyOf(Code::invalid_checkpoint, Code::unsupported))
        << outcome.text;
  }
  EXPECT_GT(rejected, 600u);
  EXPECT_EQ(descriptors_left_, descriptors_);
}

TEST_F(Contract, G2_NoSizeFromAFileReachesAnAllocatorUnchecked) {
  for (const Outcome& outcome : outcomes_) {
    // A parser's fixed buffers are smaller than this; what a number asked for would be larger.
    EXPECT_LT(outcome.largest_allocation, 4u << 20) << shown(outcome);
  }
}

TEST_F(Contract, G3_NumbersNearTheLimitsAreNeverWrappedRound) {
  const size_t lies = lying().size();
  for (size_t i = outcomes_.size() - lies; i < outcomes_.size(); ++i) {
    // Only an empty tensor may have such a dimension.
    if (outcomes_[i].opened) {
      EXPECT_THAT(outcomes_[i].input.content, HasSubstr("[0,"));
    }
  }
}

TEST_F(Contract, G4_AnErrorNamesTheFileWhatWasFoundAndWhatIsAllowed) {
  for (const Outcome& outcome : outcomes_) {
    if (outcome.opened) continue;
    EXPECT_THAT(outcome.text, HasSubstr(outcome.input.file));
    EXPECT_THAT(outcome.text, HasSubstr("found "));
    EXPECT_THAT(outcome.text, HasSubstr("expected "));
  }
}

TEST_F(Contract, G6_NamesFromFilesArePrintedEscapedAndCut) {
  const std::string names[] = {"a\x1b[31mred",         "a\nb",     "%s%n",
                               std::string(4000, 'x'), "\xff\xfe", "../../etc/passwd"};
  for (const std::string& name : names) {
    ModelFolder folder;
    const std::string wrong =
        Gguf().raw_tensor(name, {32}, 0, 0, 128).raw_tensor(name, {32}, 0, 128, 128).bytes();
    folder.write("m.gguf", wrong);
    const std::string text = folder.error("m.gguf");
    EXPECT_THAT(text, HasSubstr("found "));
    EXPECT_FALSE(has_control_characters(text)) << text;
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 0) << text;
    EXPECT_LT(text.size(), 600u) << text;
  }
}

TEST_F(Contract, G8_StrictIsTheDefault) {
  EXPECT_FALSE(OpenOptions().lenient);
  ModelFolder folder;
  folder.write("config.json", "{}");
  folder.write("model.safetensors.index.json", R"({"weight_map":{"a":"1.safetensors"}})");
  folder.weights("1.safetensors", {"a", "unnamed"});
  EXPECT_THAT(folder.error(), HasSubstr("\"unnamed\""));
  OpenOptions lenient;
  lenient.lenient = true;
  const auto opened = folder.open("", lenient);
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  EXPECT_THAT(opened->notes, ::testing::Contains(HasSubstr("unnamed")));
}

}  // namespace
}  // namespace loadstone::formats
