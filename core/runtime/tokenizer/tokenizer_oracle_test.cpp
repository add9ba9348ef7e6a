// Token ids against recorded ones: every references/*/tokenizer-cases.json with the tokenizer of
// the model of the same name.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/testing/shared.hpp"
#include "base/tree.hpp"
#include "runtime/tokenizer/tokenizer.hpp"

namespace loadstone::tokenizer {
namespace {

std::vector<int32_t> ids_of(const Node& list) {
  std::vector<int32_t> ids;
  for (const Node& id : list.items()) ids.push_back(static_cast<int32_t>(id.integer()));
  return ids;
}

TEST(TokenizerOracle, IdsEqualTheRecordedOnes) {
  const auto references = testing::shared_folder() / "references";
  LS_NEEDS(references);
  size_t compared = 0;
  for (const auto& entry : std::filesystem::directory_iterator(references)) {
    const auto cases_path = entry.path() / "tokenizer-cases.json";
    if (!std::filesystem::exists(cases_path)) continue;
    const auto folder = testing::shared_folder() / "models" / entry.path().filename() / "tokenizer";
    auto tokenizer = Tokenizer::open(system_files(), folder.string());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().text();
    auto text = read_text(system_files(), cases_path.string(), 1u << 28);
    ASSERT_TRUE(text.ok());
    auto root = parse_json(*text, cases_path.string());
    ASSERT_TRUE(root.ok()) << root.error().text();
    for (const Node& item : root->find("cases")->items()) {
      const std::string& input = item.find("text")->text();
      auto ids = tokenizer->encode(input);
      ASSERT_TRUE(ids.ok()) << ids.error().text();
      EXPECT_EQ(*ids, ids_of(*item.find("ids"))) << ::testing::PrintToString(input);
      ++compared;
    }
  }
  EXPECT_GT(compared, 0u);
}

/// vocab.json and merges.txt alone give the same ids as tokenizer.json, but for tokens that no
/// configuration names.
TEST(TokenizerOracle, VocabularyAndMergesGiveTheSameIds) {
  const auto models = testing::shared_folder() / "models";
  LS_NEEDS(models);
  size_t compared = 0;
  for (const auto& model : std::filesystem::directory_iterator(models)) {
    const auto folder = model.path() / "tokenizer";
    const auto cases_path =
        testing::shared_folder() / "references" / model.path().filename() / "tokenizer-cases.json";
    if (!std::filesystem::exists(folder / "merges.txt") || !std::filesystem::exists(cases_path)) {
      continue;
    }
    const auto copy =
        std::filesystem::temp_directory_path() / ("loadstone_vocab_" + std::to_string(::getpid()));
    std::filesystem::create_directory(copy);
    for (const char* name : {"vocab.json", "merges.txt", "tokenizer_config.json"}) {
      std::filesystem::copy_file(folder / name, copy / name);
    }
    auto whole = Tokenizer::open(system_files(), folder.string());
    auto parts = Tokenizer::open(system_files(), copy.string());
    std::filesystem::remove_all(copy);
    ASSERT_TRUE(whole.ok()) << whole.error().text();
    ASSERT_TRUE(parts.ok()) << parts.error().text();
    auto text = read_text(system_files(), cases_path.string(), 1u << 28);
    ASSERT_TRUE(text.ok());
    auto root = parse_json(*text, cases_path.string());
    ASSERT_TRUE(root.ok()) << root.error().text();
    for (const Node& item : root->find("cases")->items()) {
      const std::string& input = item.find("text")->text();
      const auto expected = *whole->encode(input);
      if (std::any_of(expected.begin(), expected.end(),
                      [&](int32_t id) { return id > parts->max_id(); })) {
        continue;  // an added token that only tokenizer.json knows
      }
      EXPECT_EQ(*parts->encode(input), expected) << ::testing::PrintToString(input);
      ++compared;
    }
  }
  EXPECT_GT(compared, 0u);
}

}  // namespace
}  // namespace loadstone::tokenizer
