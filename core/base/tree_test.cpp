#include "base/tree.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace loadstone {
namespace {

TEST(Mark, TextSaysWhatIsKnown) {
  const auto file = std::make_shared<const std::string>("a\n.yaml");
  EXPECT_EQ((Mark{file, 7, 5}.text()), "a\\n.yaml:7:5");
  EXPECT_EQ((Mark{file, 0, 0}.text()), "a\\n.yaml");
  EXPECT_EQ((Mark{nullptr, 2, 3}.text()), "2:3");
  EXPECT_EQ(Mark{}.text(), "");
}

TEST(Node, DescribesShortly) {
  EXPECT_EQ(Node().describe(), "null");
  EXPECT_EQ(Node::of_text("fp8").describe(), "\"fp8\"");
  EXPECT_EQ(Node::of_integer(12).describe(), "12");
  EXPECT_EQ(Node::of_number(1).describe(), "1.0");
  EXPECT_EQ(Node::of_bool(true).describe(), "true");
  EXPECT_EQ(Node::of_list({Node(), Node(), Node()}).describe(), "a list of 3");
  EXPECT_EQ(Node::of_map({{"a", Node()}}).describe(), "a map of 1 key");
  EXPECT_EQ(Node::of_map({{"a", Node()}, {"b", Node()}}).describe(), "a map of 2 keys");
}

TEST(Node, WritesIndentedJson) {
  const Node node = Node::of_map({
      {"a", Node::of_list({Node::of_integer(1), Node::of_number(0.1)})},
      {"e", Node::of_list({})},
      {"\"q\xff", Node::of_map({})},
      {"i", Node::of_number(std::numeric_limits<double>::infinity())},
  });
  EXPECT_EQ(node.to_json(2),
            "{\n  \"a\": [\n    1,\n    0.1\n  ],\n  \"e\": [],\n  \"\\\"q\uFFFD\": {},\n"
            "  \"i\": \"inf\"\n}");
}

TEST(Node, EqualityIgnoresMarksAndKeepsKinds) {
  Node a = Node::of_integer(1);
  Node b = Node::of_integer(1, Mark{nullptr, 3, 4});
  EXPECT_EQ(a, b);
  EXPECT_FALSE(a == Node::of_number(1));
  EXPECT_FALSE(Node::of_map({{"a", a}}) == Node::of_map({{"b", a}}));
  EXPECT_EQ(Node::of_list({a}), Node::of_list({b}));
}

TEST(Node, FindLooksInMapsOnly) {
  const Node map = Node::of_map({{"a", Node::of_integer(1)}});
  ASSERT_NE(map.find("a"), nullptr);
  EXPECT_EQ(map.find("a")->integer(), 1);
  EXPECT_EQ(map.find("b"), nullptr);
  EXPECT_EQ(Node::of_list({}).find("a"), nullptr);
}

}  // namespace
}  // namespace loadstone
