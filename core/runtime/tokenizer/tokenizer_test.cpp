#include "runtime/tokenizer/tokenizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "base/testing/temp_folder.hpp"
#include "runtime/tokenizer/unicode.hpp"

namespace loadstone::tokenizer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A vocabulary of all 256 bytes (ids in byte order) and what is asked for besides.
std::vector<std::pair<std::string, int64_t>> byte_vocabulary() {
  std::vector<std::pair<std::string, int64_t>> out;
  for (int64_t byte = 0; byte < 256; ++byte) {
    std::string token;
    append_utf8(character_of_byte(static_cast<uint8_t>(byte)), token);
    out.emplace_back(token, byte);
  }
  return out;
}

Bpe small_bpe() {
  auto vocabulary = byte_vocabulary();
  vocabulary.insert(vocabulary.end(), {{"ab", 256}, {"abc", 257}, {"bc", 258}, {"aa", 259}});
  const std::pair<std::string, std::string> merges[] = {
      {"a", "b"}, {"ab", "c"}, {"b", "c"}, {"a", "a"}};
  auto bpe = Bpe::make(std::move(vocabulary), merges, {});
  EXPECT_TRUE(bpe.ok());
  return std::move(bpe).value();
}

Result<Tokenizer> with_added(std::vector<AddedToken> added) {
  return Tokenizer::make({small_bpe(), std::move(added), &split_qwen2, true});
}

std::vector<std::string> words(const std::u32string& text) {
  std::vector<std::string> out;
  size_t at = 0;
  for (size_t end : split_qwen2(text)) {
    std::string word;
    for (; at < end; ++at) append_utf8(text[at], word);
    out.push_back(word);
  }
  EXPECT_EQ(at, text.size());
  return out;
}

using Folder = loadstone::testing::TempFolder;

/// tokenizer.json with the model's inside, pre-tokenizer pattern and tail given.
std::string tokenizer_json(
    const std::string& vocab, const std::string& merges, const std::string& tail = "",
    const std::string& pattern =
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)") {
  return R"({"model": {"type": "BPE", "vocab": {)" + vocab + R"(}, "merges": [)" + merges +
         R"(]}, "normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "Sequence",
         "pretokenizers": [{"type": "Split", "pattern": {"Regex": ")" +
         pattern + R"("}, "behavior": "Isolated"}, {"type": "ByteLevel"}]})" + tail + "}";
}

TEST(PreTokenizer, SplitsByThePattern) {
  EXPECT_THAT(words(U"a cup  of"), ElementsAre("a", " cup", " ", " of"));
  EXPECT_THAT(words(U"it's IT'LL we'x"), ElementsAre("it", "'s", " IT", "'LL", " we", "'x"));
  EXPECT_THAT(words(U"a'\u017f"), ElementsAre("a", "'\xc5\xbf"));
  EXPECT_THAT(words(U"123"), ElementsAre("1", "2", "3"));
  EXPECT_THAT(words(U"x!?\n\ny"), ElementsAre("x", "!?\n\n", "y"));
  EXPECT_THAT(words(U" \n \n  z"), ElementsAre(" \n \n", " ", " z"));
  EXPECT_THAT(words(U"end  "), ElementsAre("end", "  "));
  EXPECT_THAT(words(U"\thi \t5"), ElementsAre("\thi", " ", "\t", "5"));
  EXPECT_THAT(words(U"\r\nx"), ElementsAre("\r\n", "x"));
}

TEST(Bpe, MergesByRankThenLeftmost) {
  const Bpe bpe = small_bpe();
  auto ids = [&](std::string_view word) {
    std::vector<int32_t> out;
    EXPECT_TRUE(bpe.encode(word, out).ok());
    return out;
  };
  EXPECT_THAT(ids("abc"), ElementsAre(257));
  EXPECT_THAT(ids("bc"), ElementsAre(258));
  EXPECT_THAT(ids("aab"), ElementsAre('a', 256));  // rank of "a b" is lower than of "a a"
  EXPECT_THAT(ids("aaa"), ElementsAre(259, 'a'));
  EXPECT_THAT(ids(""), ElementsAre());
}

TEST(Bpe, TakesWholeWordsWhenMergesAreIgnored) {
  auto vocabulary = byte_vocabulary();
  vocabulary.emplace_back("xyz", 300);
  auto bpe = Bpe::make(std::move(vocabulary), {}, {.ignore_merges = true});
  ASSERT_TRUE(bpe.ok());
  std::vector<int32_t> ids;
  ASSERT_TRUE(bpe->encode("xyz", ids).ok());
  EXPECT_THAT(ids, ElementsAre(300));
}

TEST(Tokenizer, AddedTokensLeftmostLongestWithNormalFormBetween) {
  auto tokenizer =
      with_added({{"<x>", 300, false, false, false}, {"<x>y", 301, true, true, false}});
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_THAT(*tokenizer->encode("a<x>b"), ElementsAre('a', 300, 'b'));
  EXPECT_THAT(*tokenizer->encode("a  <x>y  b"), ElementsAre('a', 301, 'b'));
  // e + U+0301 compose inside a segment, not across a token.
  EXPECT_THAT(*tokenizer->encode("e\xcc\x81"), ElementsAre(0xc3, 0xa9));
  EXPECT_THAT(*tokenizer->encode("e<x>\xcc\x81"), ElementsAre('e', 300, 0xcc, 0x81));
  EXPECT_EQ(tokenizer->max_id(), 301);
}

TEST(Tokenizer, S45_RejectsBadIdsAndTokens) {
  auto made = [](std::vector<std::pair<std::string, int64_t>> vocabulary) {
    auto bpe = Bpe::make(std::move(vocabulary), {}, {});
    return bpe.ok() ? std::string() : bpe.error().text();
  };
  EXPECT_EQ(made({{"a", -1}}), "token id out of range: found -1 for \"a\", expected 0 to 16777215");
  EXPECT_EQ(made({{"a", 1 << 24}}),
            "token id out of range: found 16777216 for \"a\", expected 0 to 16777215");
  EXPECT_EQ(made({{"a", 1}, {"a", 2}}), "duplicate token: found \"a\" twice, expected it once");
  EXPECT_EQ(made({{"a", 1}, {"b", 1}}),
            "duplicate token id: found 1 for \"b\" and another token, expected it once");

  auto added = [](AddedToken token) {
    auto tokenizer = with_added({std::move(token)});
    return tokenizer.ok() ? std::string() : tokenizer.error().text();
  };
  EXPECT_EQ(added({"", 300, false, false, false}),
            "added token rejected: \"\": found an empty token, expected at least one character");
  EXPECT_EQ(added({"<x>", -1, false, false, false}),
            "added token rejected: \"<x>\": found id -1, expected 0 to 16777215");
  EXPECT_EQ(added({"<x>", 256, false, false, false}),
            "added token rejected: \"<x>\": found id 256 of another token, expected an id of its "
            "own");
  EXPECT_EQ(added({"abc", 300, false, false, false}),
            "added token rejected: \"abc\": found id 300, expected 257 as in the vocabulary");
}

TEST(Tokenizer, S45_RejectsMergesOfUnknownTokens) {
  const std::pair<std::string, std::string> merges[] = {{"a", "b"}};
  auto bpe = Bpe::make(byte_vocabulary(), merges, {});
  ASSERT_FALSE(bpe.ok());
  EXPECT_EQ(bpe.error().text(),
            "merge names no token: found \"ab\" in merge 1, expected a token of the vocabulary");
}

TEST(Tokenizer, S45_UnknownPreTokenizerPattern) {
  Folder folder;
  folder.write("tokenizer.json", tokenizer_json(R"("a": 0)", "", "", "(a+)+$"));
  auto tokenizer = Tokenizer::open(system_files(), folder.path());
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.error().code, Code::unsupported);
  EXPECT_THAT(tokenizer.error().text(),
              HasSubstr("pre-tokenizer pattern is not known: " + folder.path()));
  EXPECT_THAT(tokenizer.error().text(), HasSubstr("found \"(a+)+$\", expected \"(?i:'s|"));
}

TEST(Tokenizer, S45_LongTextsStayLinear) {
  auto tokenizer = with_added({{"<x>", 300, false, false, false}});
  ASSERT_TRUE(tokenizer.ok());
  const auto start = std::chrono::steady_clock::now();
  // No blanks, only blanks, only marks, blanks before each symbol, one merge after the other.
  const size_t count = 1 << 20;
  std::string blanks_and_symbols;
  for (size_t i = 0; i < count / 8; ++i) blanks_and_symbols += " \t \t \t !";
  std::string marks;
  for (size_t i = 0; i < count / 4; ++i) marks += i % 2 == 0 ? "\xcc\x81" : "\xcc\xa3";
  for (const std::string& text : {std::string(count, 'a'), std::string(count, ' '),
                                  std::string(count, '<'), blanks_and_symbols, marks}) {
    auto ids = tokenizer->encode(text);
    ASSERT_TRUE(ids.ok());
    EXPECT_FALSE(ids->empty());
  }
  // Seconds even where sanitizers run; a quadratic scanner takes hours.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
  auto refused = tokenizer->encode(std::string(Tokenizer::kMaxTextBytes + 1, 'a'));
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().text(), HasSubstr("text is too long: found 64"));
}

TEST(Tokenizer, S45_InvalidUtf8) {
  auto tokenizer = with_added({});
  ASSERT_TRUE(tokenizer.ok());
  for (const char* text :
       {"ab\xff", "ab\xc0\x80", "ab\xed\xa0\x80", "ab\xe2\x82", "ab\xf5\x80\x80\x80"}) {
    auto ids = tokenizer->encode(text);
    ASSERT_FALSE(ids.ok());
    EXPECT_EQ(ids.error().text(),
              "text is not UTF-8: found an invalid sequence at byte 2, expected UTF-8");
  }
}

TEST(Tokenizer, S45_MalformedFiles) {
  struct Case {
    std::string json, text;
  };
  const Case cases[] = {
      {"[]", "found model nothing, expected \"BPE\""},
      {R"({"model": {"type": "Unigram"}})", "found model \"Unigram\", expected \"BPE\""},
      {tokenizer_json(R"("a": "x")", ""), "found \"x\" for token \"a\", expected an integer id"},
      {tokenizer_json(R"("a": 0, "a": 1)", ""), "duplicate key"},
      {tokenizer_json(R"("a": 0)", R"("a  a")"), "found merge \"a  a\", expected two tokens"},
      {tokenizer_json(R"("a": 0)", R"(["a"])"),
       "found a list of 1 as merge 1, expected two tokens"},
      {tokenizer_json(R"("a": 0)", R"(["a", "a"])"), "found \"aa\" in merge 1"},
      {tokenizer_json(R"("a": 0)", "", R"(, "added_tokens": [{"id": 1, "content": ""}])"),
       "found an empty token"},
      {tokenizer_json(R"("a": 0)", "", R"(, "added_tokens": [{"id": 1}])"),
       "found nothing as content of an added token, expected a text"},
      {tokenizer_json(R"("a": 0)", "",
                      R"(, "added_tokens": [{"id": 1, "content": "x", "single_word": true}])"),
       "found single_word of \"x\", expected false"},
      {tokenizer_json(R"("a": 0)", "", R"(, "post_processor": {"type": "BertProcessing"})"),
       "expected one that adds no tokens"},
  };
  for (const Case& c : cases) {
    Folder folder;
    folder.write("tokenizer.json", c.json);
    auto tokenizer = Tokenizer::open(system_files(), folder.path());
    ASSERT_FALSE(tokenizer.ok()) << c.json;
    EXPECT_THAT(tokenizer.error().text(), HasSubstr(c.text));
    EXPECT_THAT(tokenizer.error().text(), HasSubstr(folder.path()));
  }
}

TEST(Tokenizer, S45_HugeMergesFileIsRefusedBeforeItIsRead) {
  Folder folder;
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer"})");
  folder.write("vocab.json", R"({"a": 0})");
  folder.write("merges.txt", "#version: 0.2\n");
  std::filesystem::resize_file(folder.path() + "/merges.txt", 80'000'000);
  auto tokenizer = Tokenizer::open(system_files(), folder.path());
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_THAT(tokenizer.error().text(), HasSubstr("merges.txt"));
}

TEST(Tokenizer, ReadsVocabularyAndMergesWithTheTokensOfItsConfig) {
  Folder folder;
  std::string vocab;
  for (const auto& [token, id] : byte_vocabulary()) {
    vocab += (vocab.empty() ? "\"" : ", \"") +
             (token == "\"" || token == "\\" ? "\\" + token : token) + "\": " + std::to_string(id);
  }
  folder.write("vocab.json", "{" + vocab + R"(, "ab": 256})");
  folder.write("merges.txt", "#version: 0.2\r\na b\r\n\r\n");
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer",
    "added_tokens_decoder": {"400": {"content": "<a>", "special": true}},
    "eos_token": "<e>", "pad_token": "<e>", "extra_special_tokens": ["<f>", "<a>"]})");
  auto tokenizer = Tokenizer::open(system_files(), folder.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().text();
  EXPECT_THAT(*tokenizer->encode("ab<a><e><f>"), ElementsAre(256, 400, 401, 402));

  folder.write("tokenizer_config.json", R"({"tokenizer_class": "BertTokenizer"})");
  auto other = Tokenizer::open(system_files(), folder.path());
  ASSERT_FALSE(other.ok());
  EXPECT_THAT(other.error().text(), HasSubstr("found tokenizer_class \"BertTokenizer\", expected"));
}

TEST(Tokenizer, SaysWhatAFolderLacks) {
  Folder folder;
  auto tokenizer = Tokenizer::open(system_files(), folder.path());
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.error().text(),
            "no tokenizer: " + folder.path() +
                ": found neither tokenizer.json nor vocab.json with merges.txt, expected one of "
                "them");
}

}  // namespace
}  // namespace loadstone::tokenizer
