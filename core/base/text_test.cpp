#include "base/text.hpp"

#include <gtest/gtest.h>

namespace loadstone {
namespace {

TEST(Text, S10_EscapesWhatATerminalWouldObey) {
  EXPECT_EQ(loadstone::quoted("to_q.weight"), "\"to_q.weight\"");
  EXPECT_EQ(loadstone::quoted("a\nb\r\t"), "\"a\\nb\\r\\t\"");
  EXPECT_EQ(loadstone::quoted(std::string_view("a\0b", 3)), "\"a\\0b\"");
  EXPECT_EQ(loadstone::quoted("\x1b[31m"), "\"\\x1b[31m\"");
  EXPECT_EQ(loadstone::quoted("\xC2\x9B"), "\"\\u009b\"");      // CSI as one C1 character
  EXPECT_EQ(loadstone::quoted("\xE2\x80\xAE"), "\"\\u202e\"");  // right-to-left override
  EXPECT_EQ(loadstone::quoted("a\xff\x80z"), "\"a\\xff\\x80z\"");
  EXPECT_EQ(loadstone::quoted("\xC3\xA9\xE7\x8C\xAB"), "\"\xC3\xA9\xE7\x8C\xAB\"");
  EXPECT_EQ(loadstone::quoted("say \"x\\y\""), "\"say \\\"x\\\\y\\\"\"");
  EXPECT_EQ(escaped("say \"x\"\n"), "say \"x\"\\n");
}

TEST(Text, S10_CutsLongNamesBetweenCharacters) {
  EXPECT_EQ(loadstone::quoted(std::string(1 << 20, 'a')), "\"" + std::string(200, 'a') + "…\"");
  EXPECT_EQ(loadstone::quoted("abcdef", 6), "\"abcdef\"");
  EXPECT_EQ(loadstone::quoted("abc\xC3\xA9z", 4), "\"abc…\"");
}

TEST(Text, ValidUtf8PrefixEndsAtTheFirstBadByte) {
  EXPECT_EQ(valid_utf8_prefix(""), 0u);
  EXPECT_EQ(valid_utf8_prefix("abc\xC3\xA9"), 5u);
  EXPECT_EQ(valid_utf8_prefix("abc\xC3"), 3u);
  EXPECT_EQ(valid_utf8_prefix("a\xED\xA0\x80"), 1u);  // a surrogate
  EXPECT_EQ(valid_utf8_prefix("ab\xffz"), 2u);
}

TEST(Text, NearestIsWithinTwoOrAThird) {
  const std::vector<std::string> names = {"activation_scheme", "ignored_layers", "fp8", "int8"};
  EXPECT_EQ(nearest("ignore_layers", names), "ignored_layers");
  EXPECT_EQ(nearest("ignorelayer", names), "ignored_layers");
  EXPECT_EQ(nearest("fp9", names), "fp8");
  EXPECT_EQ(nearest("in8", names), "int8");
  EXPECT_EQ(nearest("weight_only", names), "");
  EXPECT_EQ(nearest("", names), "");
  EXPECT_EQ(nearest("xy", std::vector<std::string>{"ab"}), "");
  EXPECT_EQ(nearest("abcd", std::vector<std::string>{"abxx", "abce", "abcf"}), "abce");
}

TEST(Text, HumanSizes) {
  EXPECT_EQ(human_nbytes(0), "0 bytes");
  EXPECT_EQ(human_nbytes(1), "1 byte");
  EXPECT_EQ(human_nbytes(1023), "1023 bytes");
  EXPECT_EQ(human_nbytes(1024), "1.0 KiB");
  EXPECT_EQ(human_nbytes((1u << 20) - 1), "1.0 MiB");
  EXPECT_EQ(human_nbytes(22978297856), "21.4 GiB");
  EXPECT_EQ(human_nbytes(UINT64_MAX), "16.0 EiB");
}

TEST(Text, Joins) {
  const std::vector<std::string> words = {"a", "b", "c"};
  EXPECT_EQ(join(words), "a, b or c");
  EXPECT_EQ(join(words, " and "), "a, b and c");
  EXPECT_EQ(join(words, " or ", 2), "a, b and 1 more");
  EXPECT_EQ(join(words, " or ", 1), "a and 2 more");
  EXPECT_EQ(join({}), "");
  EXPECT_EQ(join(std::vector<std::string>{"a"}), "a");
}

}  // namespace
}  // namespace loadstone
