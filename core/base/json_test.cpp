#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/tree.hpp"

namespace loadstone {
namespace {

std::string error_of(std::string_view text, const JsonLimits& limits = {}) {
  auto parsed = parse_json(text, "config.json", limits);
  if (parsed.ok()) return "accepted as " + parsed->to_json();
  EXPECT_EQ(parsed.error().code, Code::invalid_config);
  return parsed.error().text();
}

std::string round_trip(std::string_view text) {
  auto parsed = parse_json(text, "config.json");
  return parsed.ok() ? parsed->to_json() : parsed.error().text();
}

TEST(ParseJson, KeepsTypesAndOrder) {
  const std::string text =
      R"({"z":1,"a":-2.5,"t":true,"f":false,"n":null,"l":[1,"2",[],{}],"s":"x\ny\u00e9"})";
  EXPECT_EQ(round_trip(text),
            "{\"z\":1,\"a\":-2.5,\"t\":true,\"f\":false,\"n\":null,\"l\":[1,\"2\",[],{}],"
            "\"s\":\"x\\ny\u00e9\"}");
}

TEST(ParseJson, ReadsScalarDocuments) {
  for (const std::string text :
       {"null", "true", "false", "12", "-3", "1.5", "\"fp8\"", "[ ]", "{}"}) {
    const auto expected = nlohmann::json::parse(text).dump();
    for (const std::string blanks : {"", " ", "\n", " \t\r\n", "                    "}) {
      EXPECT_EQ(round_trip(text + blanks), expected) << text;
      EXPECT_EQ(round_trip(blanks + text), expected) << text;
      EXPECT_NE(round_trip(text + blanks + "x"), expected) << text;
    }
  }
}

TEST(ParseJson, IntegersKeepAllBitsAndWidenBeyondThem) {
  EXPECT_EQ(round_trip("9223372036854775807"), "9223372036854775807");
  EXPECT_EQ(round_trip("-9223372036854775808"), "-9223372036854775808");
  auto wide = parse_json("1000000000000000019884624838656", "");
  ASSERT_TRUE(wide.ok());
  EXPECT_EQ(wide->kind(), Node::Kind::number);
  EXPECT_EQ(wide->number(), 1e30);
  auto over = parse_json("9223372036854775808", "");
  ASSERT_TRUE(over.ok());
  EXPECT_EQ(over->number(), 9223372036854775808.0);
}

TEST(ParseJson, MarksKeysAndValues) {
  auto parsed = parse_json("{\n  \"a\": [\n    1,\n      2],\n  \"b\": \"x\"}", "f.json");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->mark().text(), "f.json:1:1");
  EXPECT_EQ(parsed->find("a")->key_mark().text(), "f.json:2:3");
  EXPECT_EQ(parsed->find("a")->mark().text(), "f.json:2:8");
  EXPECT_EQ(parsed->find("a")->items()[1].mark().text(), "f.json:4:7");
  EXPECT_EQ(parsed->find("b")->mark().text(), "f.json:5:8");
}

TEST(ParseJson, RejectsWithPlace) {
  struct Case {
    std::string text;
    std::string error;
  };
  const Case cases[] = {
      {"", "invalid JSON: config.json:1:1: found nothing, expected a JSON document"},
      {"{\"a\":1,\n \"a\":2}",
       "duplicate key: config.json:2:2: found \"a\" again, expected it once (first at line 1, "
       "column 2)"},
      {"{\"a\":{\"b\":1,\"b\":1}}",
       "duplicate key: config.json:1:13: found \"b\" again, expected it once (first at line 1, "
       "column 7)"},
      {"{\"\\u0061\":1,\"a\":2}",
       "duplicate key: config.json:1:13: found \"a\" again, expected it once (first at line 1, "
       "column 2)"},
      {"{} x",
       "invalid JSON: config.json:1:4: found an unfinished document or bytes behind it, expected a "
       "list or map that ends here"},
      {"{}{}", "invalid JSON: config.json:1:3: found bytes after the document, expected its end"},
      {"1 2", "invalid JSON: config.json:1:2: found bytes after the document, expected its end"},
      {"\"a\xff\"", "invalid JSON: config.json:1:3: found invalid UTF-8, expected UTF-8"},
      {"[1e400]",
       "invalid JSON: config.json:1:2: found a number that is malformed or beyond 64 bits, "
       "expected a JSON number"},
      {"[01]",
       "invalid JSON: config.json:1:2: found a number that is malformed or beyond 64 bits, "
       "expected a JSON number"},
  };
  for (const Case& c : cases) EXPECT_EQ(error_of(c.text), c.error) << c.text;
}

TEST(ParseJson, RejectsWhatIsNotJson) {
  const char* cases[] = {"{",
                         "[",
                         "{]",
                         "[1,]",
                         "[,1]",
                         "{\"a\"}",
                         "{\"a\":}",
                         "{a:1}",
                         "{\"a\":1,}",
                         "nul",
                         "nulll",
                         "tru",
                         "truex",
                         "[nan]",
                         "[NaN]",
                         "Infinity",
                         "[1 2]",
                         "'a'",
                         "\"a",
                         "[\"\\x\"]",
                         "[\"\\ud800\"]",
                         "[1.]",
                         "[.5]",
                         "[+1]",
                         "[\"a\nb\"]",
                         "\xEF\xBB\xBF{}",
                         "{\"a\":1 \"b\":2}",
                         "[1]]",
                         "{}}",
                         "// x\n1",
                         "[-]",
                         "[0x10]",
                         "[1e]",
                         "[nulL]",
                         "{\"a\":n}",
                         "]"};
  for (const char* text : cases) {
    ASSERT_FALSE(nlohmann::json::accept(text) && text[0] != '\xEF') << text;
    EXPECT_NE(error_of(text).find("invalid JSON: config.json:1:"), std::string::npos)
        << text << "\n"
        << error_of(text);
  }
}

TEST(ParseJson, S04_DepthIsLimitedWithoutRecursion) {
  const JsonLimits limits;
  const std::string fits = std::string(limits.max_depth, '[') + std::string(limits.max_depth, ']');
  EXPECT_TRUE(parse_json(fits, "").ok());
  EXPECT_EQ(error_of("[" + fits + "]"),
            "invalid JSON: config.json:1:33: found nesting deeper than 32 levels, expected less");
  EXPECT_NE(error_of(std::string(100'000, '[')).find("invalid JSON"), std::string::npos);
  EXPECT_NE(error_of(std::string(100'000, '[') + std::string(100'000, ']')).find("nesting deeper"),
            std::string::npos);
}

TEST(ParseJson, LimitsSizeAndNodes) {
  JsonLimits limits;
  limits.max_nbytes = 4;
  EXPECT_EQ(error_of("[1,2]", limits),
            "invalid JSON: config.json: found 5 bytes, expected at most 4");
  limits.max_nbytes = 100;
  limits.max_nodes = 3;
  EXPECT_TRUE(parse_json("[1,2]", "", limits).ok());
  EXPECT_EQ(error_of("[1,2,3]", limits),
            "invalid JSON: config.json:1:6: found more than 3 values, expected fewer");
}

TEST(ParseJson, TruncatedAnywhereIsRejected) {
  const std::string text = R"({"a":[1,-2.5e3,true,null,"x\u00e9"],"b":{"c":{}}})";
  for (size_t cut = 0; cut < text.size(); ++cut) {
    EXPECT_FALSE(parse_json(text.substr(0, cut), "").ok()) << cut;
  }
}

TEST(ParseJson, AlteredBytesAgreeWithAnotherParser) {
  const std::string text = R"({"a":[1,-2.5e3,true,null,"x\u00e9"],"b":{"c":{}}, "n":10})";
  for (size_t at = 0; at < text.size(); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string altered = text;
      altered[at] = static_cast<char>(byte);
      const auto parsed = parse_json(altered, "");
      const bool valid = nlohmann::json::accept(altered);
      if (!parsed.ok() && parsed.error().message == "duplicate key") continue;
      ASSERT_EQ(parsed.ok(), valid) << altered;
      if (valid) {
        EXPECT_EQ(nlohmann::json::parse(parsed->to_json()), nlohmann::json::parse(altered));
      }
    }
  }
}

}  // namespace
}  // namespace loadstone
