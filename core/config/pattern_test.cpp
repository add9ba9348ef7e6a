#include "config/pattern.hpp"

#include <gtest/gtest.h>

#include <chrono>

namespace loadstone::config {
namespace {

std::vector<uint32_t> matches(PatternSet& set, std::string_view component, std::string_view name) {
  std::vector<uint32_t> out;
  set.match(component, name, &out);
  return out;
}

TEST(Pattern, Globs) {
  struct Case {
    const char *glob, *text;
    bool expected;
  };
  const Case cases[] = {
      {"a.*", "a.b.c", true},         {"a.*", "a", false},         {"*", "", true},
      {"a.?", "a.b", true},           {"a.?", "a.bc", false},      {"a.[bc]", "a.c", true},
      {"a.[!bc]", "a.c", false},      {"a.[a-c]", "a.b", true},    {"a.[]]", "a.]", true},
      {"a.{b,cd}", "a.cd", true},     {"a.{b,cd}", "a.d", false},  {"a.{0..2}.x", "a.2.x", true},
      {"a.{0..2}.x", "a.3.x", false}, {"a.{9..11}", "a.1", false}, {"a.{9..11}", "a.10", true},
      {"a.{b*,c}", "a.bbb", true},    {"a+b", "a+b", true},        {"a+b", "aab", false},
      {"a.b", "axb", false},          {"{a,}", "", true},          {"a\nb*", "a\nbc", true},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(glob_matches(one.glob, one.text), one.expected) << one.glob << " " << one.text;
  }
}

TEST(Pattern, BadGlobsSayWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"a[b", "pattern rejected: \"a[b\": found \"[\" without its end, expected a closing bracket"},
      {"a{b", "pattern rejected: \"a{b\": found \"{\" without its end, expected a closing bracket"},
      {"{1..a}",
       "pattern rejected: \"{1..a}\": found range \"1..a\", expected two decimal integers"},
      {"{0..4096}",
       "pattern rejected: \"{0..4096}\": found range \"0..4096\", expected at most 4096 "
       "ascending integers"},
  };
  for (const auto& [glob, expected] : cases) {
    auto made = glob_to_regex(glob);
    ASSERT_FALSE(made.ok()) << glob;
    EXPECT_EQ(made.error().text(), expected);
    EXPECT_FALSE(glob_matches(glob, "a"));
  }
  EXPECT_TRUE(glob_to_regex("{0..4095}").ok());
}

TEST(Pattern, StylesKeepToSegments) {
  PatternSet set;
  set.add_segments("img_mlp", 0);
  set.add_segments("blocks.1", 1);
  set.add_prefix("blocks.1", 2);
  set.add_suffix("net.2", 3);
  set.add_exact("blocks.1.img_mlp.net.2", 4);
  ASSERT_TRUE(set.compile().ok());
  EXPECT_EQ(matches(set, "c", "blocks.1.img_mlp.net.2"), (std::vector<uint32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(matches(set, "c", "blocks.10.img_mlps.xnet.2"), (std::vector<uint32_t>{}));
  EXPECT_EQ(matches(set, "c", "x.blocks.1.y"), (std::vector<uint32_t>{1}));
  EXPECT_EQ(matches(set, "c", "net.2.blocks"), (std::vector<uint32_t>{}));
}

TEST(Pattern, TheComponentMayStandInFront) {
  PatternSet set;
  set.add_exact("c.a.b", 0);
  set.add_exact("a.b", 1);
  set.add_segments("c", 2);
  set.add_segments("c.a", 3);
  set.add_prefix("a", 4);
  ASSERT_TRUE(set.add_glob("c.a.*", 5).ok());
  ASSERT_TRUE(set.add_glob("a.*", 6).ok());
  ASSERT_TRUE(set.add_regex("a\\.b$", 7).ok());
  ASSERT_TRUE(set.compile().ok());
  EXPECT_EQ(matches(set, "c", "a.b"), (std::vector<uint32_t>{0, 1, 3, 4, 5, 6, 7}));
  EXPECT_EQ(matches(set, "c", "c.a.b"), (std::vector<uint32_t>{0, 1, 3, 4, 5, 6, 7}));
  EXPECT_EQ(matches(set, "d", "a.b"), (std::vector<uint32_t>{1, 4, 6, 7}));
  EXPECT_EQ(matches(set, "", "a.b"), (std::vector<uint32_t>{1, 4, 6, 7}));
}

TEST(Pattern, RegularExpressionsBeginAtTheName) {
  PatternSet set;
  ASSERT_TRUE(set.add_layer("re:b\\.", 0).ok());
  ASSERT_TRUE(set.add_regex("b\\.", 1, true).ok());
  ASSERT_TRUE(set.compile().ok());
  EXPECT_EQ(matches(set, "", "a.b.c"), (std::vector<uint32_t>{1}));
  EXPECT_EQ(matches(set, "", "b.c"), (std::vector<uint32_t>{0, 1}));
}

TEST(Pattern, S37_HostilePatternsAreRefusedOrLinear) {
  const auto begin = std::chrono::steady_clock::now();
  const std::string refused[] = {
      std::string(4000, '('), "((a{1000}){1000})", "(?<=x)y", "(a)\\1", "a)(b", "[z-a]",
      std::string(5000, 'a')};
  for (const std::string& expression : refused) {
    PatternSet set;
    EXPECT_FALSE(set.add_regex(expression, 0).ok()) << expression.substr(0, 40);
  }
  EXPECT_FALSE(PatternSet().add_glob(std::string(5000, '*'), 0).ok());
  PatternSet set;
  ASSERT_TRUE(set.add_regex("(a+)+b", 0).ok());
  ASSERT_TRUE(set.add_glob("*a*a*a*a*a*a*a*a*b", 1).ok());
  set.add_segments("a.b", 2);
  ASSERT_TRUE(set.compile().ok());
  std::string dots;
  for (int i = 0; i < 32768; ++i) dots += "a.";
  EXPECT_EQ(matches(set, "", std::string(65536, 'a')), (std::vector<uint32_t>{}));
  EXPECT_EQ(matches(set, "", dots + "b"), (std::vector<uint32_t>{1, 2}));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(seconds.count(), 10.0);
}

TEST(Pattern, ManyPatternsShareAutomata) {
  PatternSet set;
  for (uint32_t i = 0; i < 1000; ++i) {
    ASSERT_TRUE(set.add_glob("blocks." + std::to_string(i) + ".*", i).ok());
  }
  ASSERT_TRUE(set.compile().ok());
  EXPECT_EQ(matches(set, "c", "blocks.777.x"), (std::vector<uint32_t>{777}));
}

// A set keeps patterns by what they begin with; "{,}" and "(?:)" in front mean nothing and hide it.
TEST(Pattern, WhatAPatternBeginsWithChangesNothing) {
  const char* globs[] = {"a.b.*",   "a.*",  "a*",      "*.b", "*", "c.a.b*", "a.b",
                         "a.[b].?", "c.*a", "a.{b,c}", "?.b", "a", "c.a",    "a.b.c.*"};
  const char* expressions[] = {"a\\.b",         "a\\.b\\..*",  "a\\.|b",
                               "(a\\.b|c)",     "a\\.[b]",     "a\\.?b?",
                               "a\\.*",         "a\\.{0}",     "a\\.b\\.+c",
                               "a\\.x[(]|b",    "a\\.x[](]|b", "a\\.x[^](]|b",
                               "a\\.\\Q(\\E|b", "^a\\.b",      "a.b",
                               "(?i)A\\.B",     "a\\.b|c\\.a", "a\\.[[:alpha:](]|b",
                               "a\\.(x)|b",     "a\\.x\\(|b"};
  const char* names[] = {"a",       "b",      "c",     "a.b", "a.c", "a.b.c",
                         "a.b.c.d", "a.b..c", "c.a.b", "b.b", "ab"};
  for (const char* component : {"", "c", "a", "a.b"}) {
    for (const char* name : names) {
      const auto same = [&](const std::string& pattern, const std::string& hidden) {
        PatternSet set;
        ASSERT_TRUE(set.add_layer(pattern, 1).ok()) << pattern;
        ASSERT_TRUE(set.add_layer(hidden, 2).ok()) << hidden;
        ASSERT_TRUE(set.compile().ok());
        const auto hits = matches(set, component, name);
        EXPECT_TRUE(hits.empty() || hits == std::vector<uint32_t>({1, 2}))
            << pattern << " against " << name << " of \"" << component << "\"";
      };
      for (const std::string glob : globs) {
        if (is_pattern(glob)) same(glob, "{,}" + glob);
      }
      for (const std::string expression : expressions) {
        same("re:" + expression, "re:(?:)" + expression);
      }
    }
  }
}

}  // namespace
}  // namespace loadstone::config
