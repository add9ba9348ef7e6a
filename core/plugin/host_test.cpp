#include <gmock/gmock.h>

#include "base/parallel.hpp"
#include "plugin/registry.hpp"
#include "plugin/sinks.hpp"

namespace loadstone::plugin {
namespace {

struct Match {
  uint32_t style;
  const char* pattern;
  const char* text;
  int32_t answer;
};

TEST(HostTable, MatchesInEveryStyle) {
  static const Match kCases[] = {
      {LS_STYLE_EXACT, "a.b", "a.b", 1},
      {LS_STYLE_EXACT, "a.b", "a.b.c", 0},
      {LS_STYLE_SUFFIX, "b.c", "a.b.c", 1},
      {LS_STYLE_SUFFIX, "b.c", "a.xb.c", 0},
      {LS_STYLE_SUFFIX, "b.c", "b.c", 1},
      {LS_STYLE_SUFFIX, "a", "a.b", 0},
      {LS_STYLE_PREFIX, "a.b", "a.b.c", 1},
      {LS_STYLE_PREFIX, "a.b", "a.bc", 0},
      {LS_STYLE_PREFIX, "b", "a.b", 0},
      {LS_STYLE_SEGMENTS, "b", "a.b.c", 1},
      {LS_STYLE_SEGMENTS, "b", "a.bb.c", 0},
      {LS_STYLE_SEGMENTS, "b", "a.bb.b", 1},
      {LS_STYLE_GLOB, "a.*.c", "a.b.b.c", 1},
      {LS_STYLE_GLOB, "a.?", "a.bc", 0},
      {LS_STYLE_GLOB, "a{0..9}.x", "a7.x", 1},
      {LS_STYLE_REGEX, "b+", "a.bb", 1},
      {LS_STYLE_REGEX, "^b", "a.bb", 0},
      {LS_STYLE_REGEX, "(a", "a", -LS_INVALID_CONFIG},
      {LS_STYLE_GLOB, "[a", "a", -LS_INVALID_CONFIG},
      {LS_STYLE_EXACT, "", "a", -LS_INVALID_CONFIG},
      {99, "a", "a", -LS_INVALID_ARGUMENT},
  };
  for (const Match& one : kCases) {
    EXPECT_EQ(host_table().match(one.style, one.pattern, one.text), one.answer)
        << one.style << " " << one.pattern << " " << one.text;
  }
  forget_failure();
}

TEST(HostTable, S37_PatternsFromPluginsAreLinear) {
  const std::string text = std::string(40000, 'a') + "!";
  EXPECT_EQ(host_table().match(LS_STYLE_REGEX, "(a+)+$", text.c_str()), 0);
}

TEST(HostTable, FailsOnLentThreadsReachTheCallThatLentThem) {
  ThreadPool pool(3);
  set_host_threads(&pool);
  forget_failure();
  host_table().parallel_for(
      64,
      [](void*, uint64_t i) {
        if (i == 17) host_table().fail(LS_INVALID_CHECKPOINT, "row 17 is bad");
      },
      nullptr);
  set_host_threads(nullptr);
  EXPECT_EQ(take_failure(), "row 17 is bad");
  EXPECT_EQ(take_failure(), "");
}

TEST(HostTable, CancelledFollowsTheToken) {
  EXPECT_EQ(host_table().cancelled(), 0);
  CancelToken token;
  set_host_cancel(&token);
  EXPECT_EQ(host_table().cancelled(), 0);
  token.cancel();
  EXPECT_EQ(host_table().cancelled(), 1);
  set_host_cancel(nullptr);
  EXPECT_EQ(host_table().cancelled(), 0);
}

}  // namespace
}  // namespace loadstone::plugin
