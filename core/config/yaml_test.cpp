#include <gtest/gtest.h>

#include <chrono>

#include "config/quant_config.hpp"

namespace loadstone::config {
namespace {

std::string refusal(const std::string& text) {
  auto parsed = parse_yaml(text, "c.yaml");
  return parsed.ok() ? "accepted: " + parsed->to_json() : parsed.error().text();
}

std::string json(const std::string& text) {
  auto parsed = parse_yaml(text, "c.yaml");
  return parsed.ok() ? parsed->to_json() : parsed.error().text();
}

struct Case {
  std::string text, expected;
};

TEST(Yaml, ReadsWhatConfigurationsNeed) {
  const Case cases[] = {
      {"", "null"},
      {"# only a comment\n", "null"},
      {"a: 1\nb: [x, 2.5, true, null, ~]\n", R"({"a":1,"b":["x",2.5,true,null,null]})"},
      {"a: {b: c}\n", R"({"a":{"b":"c"}})"},
      {"a: |\n  x\n  y\n", R"({"a":"x\ny\n"})"},
      {"a: \"1\"\nb: 'true'\n", R"({"a":"1","b":"true"})"},
      {"- a\n- - b\n", R"(["a",["b"]])"},
      {"a:\tb\n", R"({"a":"b"})"},
      {"---\na: 1\n", R"({"a":1})"},
      {"\"\": x\n", R"({"":"x"})"},
      {"1: x\ntrue: y\n", R"({"1":"x","true":"y"})"},
  };
  for (const Case& one : cases) EXPECT_EQ(json(one.text), one.expected) << one.text;
}

TEST(Yaml, KeepsMarksOfKeysAndValues) {
  auto parsed = parse_yaml("a:\n  bcd: efg\n", "c.yaml");
  ASSERT_TRUE(parsed.ok());
  const Node* inner = parsed->find("a")->find("bcd");
  EXPECT_EQ(inner->mark().text(), "c.yaml:2:8");
  EXPECT_EQ(inner->key_mark().text(), "c.yaml:2:3");
}

TEST(Yaml, S35_RefusesWhatYamlCppLetsThrough) {
  const Case cases[] = {
      {"a: &x 1\n", "yaml refused: c.yaml:1:4: found an anchor, expected a plain value"},
      {"&x [*x]\n", "yaml refused: c.yaml:1:1: found an anchor, expected a plain value"},
      {"a: &x {b: 1}\nc: *x\n",
       "yaml refused: c.yaml:1:4: found an anchor, expected a plain value"},
      {"a: *x\n",
       "yaml refused: c.yaml:1:4: found the referenced anchor is not defined, "
       "expected a YAML document"},
      {"<<: {a: 1}\n",
       "yaml refused: c.yaml:1:1: found a merge key \"<<\", expected the keys themselves"},
      {"a: !!python/object:os.system x\n",
       "yaml refused: c.yaml:1:4: found the tag \"tag:yaml.org,2002:python/object:os.system\", "
       "expected a value without a tag"},
      {"a: !local [1]\n",
       "yaml refused: c.yaml:1:4: found the tag \"!local\", expected a value "
       "without a tag"},
      {"a: 1\n---\nb: 2\n",
       "yaml refused: c.yaml:2:1: found a second document, expected one document"},
      {"[1]: a\n", "yaml refused: c.yaml:1:1: found a list or map as a key, expected a name"},
      {"? \n: a\n", "yaml refused: c.yaml:2:1: found a list or map as a key, expected a name"},
      {"{: a}\n", "yaml refused: c.yaml:1:2: found an empty key, expected a name"},
      {"a: [1\n", "yaml refused: c.yaml:1:4: found \"[\" without its end, expected \"]\""},
      {"a:\n\tb: 1\n",
       "yaml refused: c.yaml:2:3: found illegal map value, expected a YAML "
       "document"},
      {std::string("a: \0b", 5),
       "yaml refused: c.yaml:1:4: found the control character \"\\0\", "
       "expected text"},
      {"a: \x1b[2J",
       "yaml refused: c.yaml:1:4: found the control character \"\\x1b\", expected text"},
      {"a: \xff\xfe", "yaml refused: c.yaml: found bytes that are not UTF-8, expected UTF-8 text"},
      {std::string("\xff\xfe"
                   "a\0:\0",
                   6),
       "yaml refused: c.yaml: found bytes that are not UTF-8, expected UTF-8 text"},
      {"\xEF\xBB\xBF"
       "a: 1\n",
       "yaml refused: c.yaml:1:1: found a byte order mark, expected plain "
       "UTF-8 text"},
      {std::string((1 << 20) + 1, ' '),
       "yaml refused: c.yaml: found 1048577 bytes, expected at most 1048576"},
  };
  for (const Case& one : cases)
    EXPECT_EQ(refusal(one.text), one.expected) << one.text.substr(0, 80);
}

TEST(Yaml, S35_DepthEndsAt32) {
  auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(parse_yaml(nested(32), "c.yaml").ok());
  EXPECT_EQ(refusal(nested(33)),
            "yaml refused: c.yaml:1:33: found nesting deeper than 32, expected at most 32");
  EXPECT_NE(refusal(std::string(100'000, '[')).find("yaml refused"), std::string::npos);
  EXPECT_NE(refusal(std::string(100'000, '{')).find("yaml refused"), std::string::npos);
  std::string block;
  for (size_t i = 0; i < 1000; ++i) block += std::string(i, ' ') + "a:\n";
  EXPECT_NE(refusal(block).find("nesting deeper than 32"), std::string::npos);
}

TEST(Yaml, S35_RefusesInTime) {
  const auto begin = std::chrono::steady_clock::now();
  const std::string inputs[] = {std::string(1 << 20, 'a'), "a: \"" + std::string(1 << 20, 'b'),
                                std::string(1 << 20, '-'), std::string(1 << 20, '[')};
  for (const std::string& text : inputs) (void)parse_yaml(text.substr(0, 1 << 20), "c.yaml");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(seconds.count(), 20.0);
}

TEST(Yaml, S36_DuplicatesNameBothPlaces) {
  EXPECT_EQ(refusal("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 2\n"),
            "duplicate key: c.yaml:5:3: found \"c\" again, first at line 3 column 3, expected each "
            "key once\n"
            "duplicate key: c.yaml:6:1: found \"a\" again, first at line 1 column 1, expected each "
            "key once");
}

TEST(Yaml, S36_ScalarsAreWhatTheyLookLike) {
  using Kind = Node::Kind;
  const std::pair<std::string, Kind> cases[] = {
      {"true", Kind::boolean},
      {"false", Kind::boolean},
      {"True", Kind::text},
      {"no", Kind::text},
      {"off", Kind::text},
      {"y", Kind::text},
      {"NO", Kind::text},
      {"~", Kind::null},
      {"null", Kind::null},
      {"010", Kind::text},
      {"0x10", Kind::text},
      {"0o10", Kind::text},
      {"1_000", Kind::text},
      {"+1", Kind::text},
      {"-1", Kind::integer},
      {"0", Kind::integer},
      {"-0", Kind::integer},
      {"12", Kind::integer},
      {"1e3", Kind::number},
      {"1.5", Kind::number},
      {"-2.5E-3", Kind::number},
      {"1.", Kind::text},
      {".5", Kind::text},
      {".nan", Kind::text},
      {".inf", Kind::text},
      {"1e999", Kind::text},
      {"9223372036854775807", Kind::integer},
      {"9223372036854775808", Kind::text},
      {"12:30:45", Kind::text},
      {"2024-01-01", Kind::text},
  };
  for (const auto& [text, kind] : cases) {
    auto parsed = parse_yaml("a: " + text, "c.yaml");
    ASSERT_TRUE(parsed.ok()) << text;
    EXPECT_EQ(parsed->find("a")->kind(), kind) << text;
    EXPECT_EQ(parsed->find("a")->raw(), text);
  }
}

TEST(Inline, JsonOrAName) {
  EXPECT_EQ(parse_inline("fp8")->text(), "fp8");
  EXPECT_EQ(parse_inline(" {\"method\":\"fp8\"}")->find("method")->text(), "fp8");
  EXPECT_EQ(parse_inline("\"fp8\"")->text(), "fp8");
  EXPECT_FALSE(parse_inline("{\"method\":").ok());
  EXPECT_EQ(parse_inline("null")->text(), "null");
}

}  // namespace
}  // namespace loadstone::config
