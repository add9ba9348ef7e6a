#include "runtime/tokenizer/unicode.hpp"

#include <gtest/gtest.h>

namespace loadstone::tokenizer {
namespace {

TEST(Unicode, NormalFormC) {
  struct Case {
    const char32_t *text, *expected;
  };
  const Case cases[] = {
      {U"", U""},
      {U"plain", U"plain"},
      {U"e\u0301", U"\u00e9"},              // composes
      {U"\u212b", U"\u00c5"},               // singleton
      {U"a\u0323\u0307", U"\u1ea1\u0307"},  // marks in order
      {U"a\u0307\u0323", U"\u1ea1\u0307"},  // marks sorted by class
      {U"\u0958", U"\u0915\u093c"},         // excluded from composition
      {U"\u1100\u1161\u11a8", U"\uac01"},   // Hangul
      {U"\uac01", U"\uac01"},
      {U"\u0061\u0301\u0301", U"\u00e1\u0301"},  // a mark of the same class is blocked
      {U"\u0300", U"\u0300"},                    // no starter
      {U"\u0041\u030a\u0301", U"\u01fa"},        // twice
      {U"\U00011938", U"\U00011938"},            // the older table doesn't know it
  };
  for (const Case& c : cases) EXPECT_EQ(to_nfc(c.text), std::u32string(c.expected));
}

TEST(Unicode, Classes) {
  for (char32_t space :
       {U'\t', U'\n', U'\v', U'\f', U'\r', U' ', U'\x85', U'\xa0', U'\u1680', U'\u2000', U'\u200a',
        U'\u2028', U'\u2029', U'\u202f', U'\u205f', U'\u3000'}) {
    EXPECT_TRUE(is_space(space)) << uint32_t{space};
  }
  for (char32_t other : {U'\u200b', U'\ufeff', U'\u180e', U'\x1c', U'\x1f', U'a', U'0'}) {
    EXPECT_FALSE(is_space(other)) << uint32_t{other};
  }
  EXPECT_TRUE(is_letter(U'Z') && is_letter(U'\u4e00') && is_letter(U'\u00aa'));
  EXPECT_FALSE(is_letter(U'@') || is_letter(U'[') || is_letter(U'\u093f') || is_letter(U'7'));
  EXPECT_TRUE(is_number(U'7') && is_number(U'\u00bd') && is_number(U'\u0660'));
  EXPECT_FALSE(is_number(U'/') || is_number(U':') || is_number(U'x'));
}

TEST(Unicode, Utf8RoundTrip) {
  for (char32_t code :
       {U'\x01', U'\x7f', U'\x80', U'\u07ff', U'\u0800', U'\uffff', U'\U00010000', U'\U0010ffff'}) {
    std::string text;
    append_utf8(code, text);
    auto back = decode_utf8(text);
    ASSERT_TRUE(back.ok()) << uint32_t{code};
    EXPECT_EQ(*back, std::u32string(1, code));
  }
}

}  // namespace
}  // namespace loadstone::tokenizer
