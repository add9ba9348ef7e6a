// The kit finds what it is there to find: a plugin with one fault at a time, and a right one.
#include "conformance/conformance.hpp"

#include <gmock/gmock.h>

namespace loadstone::conformance {
namespace {

using ::testing::HasSubstr;

/// The faulty plugin; the kit's processes inherit its fault.
std::string library(const std::string& fault) {
  setenv("LOADSTONE_TEST_FAULT", fault.c_str(), 1);
  return std::string(LOADSTONE_BINARY_DIR) + "/tests/kit/faulty.so";
}

const Point* point(const Report& report, const std::string& name) {
  for (const Point& one : report.points) {
    if (one.name == name) return &one;
  }
  return nullptr;
}

struct Fault {
  const char* build;
  const char* point;   // that must fail
  const char* detail;  // part of its text
};

class Faults : public ::testing::TestWithParam<Fault> {};

TEST_P(Faults, AreFoundByTheirPoint) {
  const Fault& fault = GetParam();
  Options options;
  options.hang_seconds = 2;
  options.points = {fault.point};
  const auto report = check(library(fault.build), options);
  ASSERT_TRUE(report.ok()) << report.error().text();
  const Point* found = point(*report, fault.point);
  ASSERT_NE(found, nullptr) << report->text();
  EXPECT_EQ(found->outcome, Outcome::failed) << report->text();
  EXPECT_THAT(found->detail, HasSubstr(fault.detail)) << report->text();
  EXPECT_FALSE(report->passed());
}

INSTANTIATE_TEST_SUITE_P(
    Kit, Faults,
    ::testing::Values(
        Fault{"configure", "schema", "no thanks"},
        Fault{"impure_plan", "plan", "found two answers"},
        Fault{"crash", "plan", "the plugin crashed: Aborted"},
        Fault{"hang", "plan", "the plugin hangs"},
        Fault{"exit", "plan", "the plugin ended the process with exit code 0"},
        Fault{"ignored", "ignored", "entry \"attn\": found no match, expected one"},
        Fault{"past_stored", "bytes",
              "stored \"weight_scale\": found a write 0 bytes past its 256"},
        Fault{"before_stored", "bytes", "stored \"weight\": found a write 1 bytes before"},
        Fault{"scratch", "bytes", "feed scratch: found a write 0 bytes past"},
        Fault{"unwritten", "bytes", "buffers filled otherwise: found stored tensor"},
        Fault{"writes_source", "bytes", "piece overwritten"},
        Fault{"by_piece", "split", "found stored tensor \"weight\" different from byte"},
        Fault{"remembers", "threads", "found stored tensor \"weight\" different from byte"},
        Fault{"silent_nan", "hostile", "finite where the weight isn't"},
        Fault{"zeros", "hostile", "found zeros become something"},
        Fault{"status", "cancel", "cancelled, says another status"},
        Fault{"wrong_bound", "dequantize", "weight_error times the largest weight"},
        Fault{"no_bound", "dequantize", "found no weight_error in the plan"},
        Fault{"by_range", "dequantize", "other than in the whole"},
        Fault{"past_rows", "dequantize", "dequantized rows: found a write"},
        Fault{"save", "serialized", "found other weights after saving and loading"},
        Fault{"width", "serialized", "found width 0 told of the packed weight"},
        Fault{"decodes", "decode", "found verdict 1 for floats to decode"},
        Fault{"apply", "apply", "expected at most"},
        Fault{"apply_past", "apply", "normal: y: found a write 0 bytes past"},
        Fault{"workspace", "apply", "workspace: found a write 0 bytes past"},
        Fault{"writes_x", "apply", "x overwritten"},
        Fault{"unrounded_activations", "apply", "found the product of unrounded activations"},
        // A sanitizer turns the crash into an exit.
        Fault{"reads_past", "struct_sizes", "the plugin "},
        Fault{"calls_missing", "host_tables", "the plugin "}),
    [](const auto& one) { return std::string(one.param.build); });

TEST(Kit, S41_PluginThatHangsCrashesOrExitsFailsThatPointAlone) {
  for (const char* fault : {"hang", "crash", "exit"}) {
    Options options;
    options.hang_seconds = 1;
    options.points = {"schema", "plan", "host_tables"};
    const auto report = check(library(fault), options);
    ASSERT_TRUE(report.ok()) << report.error().text();
    EXPECT_EQ(point(*report, "schema")->outcome, Outcome::passed) << report->text();
    EXPECT_EQ(point(*report, "plan")->outcome, Outcome::failed) << report->text();
    EXPECT_EQ(report->points.back().name, "host_tables") << report->text();
  }
}

TEST(Kit, S40_WritesPastAnyBufferAreFound) {
  const std::pair<const char*, const char*> cases[] = {
      {"past_stored", "bytes"},    {"before_stored", "bytes"}, {"scratch", "bytes"},
      {"past_rows", "dequantize"}, {"apply_past", "apply"},    {"workspace", "apply"}};
  for (const auto& [fault, name] : cases) {
    Options options;
    options.points = {name};
    const auto report = check(library(fault), options);
    ASSERT_TRUE(report.ok()) << report.error().text();
    EXPECT_THAT(point(*report, name)->detail, HasSubstr("guard bytes overwritten")) << fault;
  }
}

TEST(Kit, PassesARightPlugin) {
  const auto report = check(library("none"));
  ASSERT_TRUE(report.ok()) << report.error().text();
  EXPECT_TRUE(report->passed()) << report->text();
  for (const Point& one : report->points) {
    if (one.name == "repack") continue;  // this one has none
    EXPECT_EQ(one.outcome, Outcome::passed) << one.name;
    EXPECT_GT(one.cases, 0u) << one.name;
  }
}

TEST(Kit, KeepsToItsTime) {
  Options options;
  options.seconds = 0.2;
  const auto report = check(library("none"), options);
  ASSERT_TRUE(report.ok());
  EXPECT_TRUE(report->passed()) << report->text();
  double seconds = 0;
  for (const Point& one : report->points) seconds += one.seconds;
  EXPECT_LT(seconds, 5.0);
}

TEST(Kit, ReportIsReadableAndJson) {
  Options options;
  options.points = {"save", "serialized"};
  const auto report = check(library("save"), options);
  ASSERT_TRUE(report.ok());
  const Node node = report->to_node();
  EXPECT_FALSE(node.find("passed")->boolean());
  EXPECT_EQ(node.find("points")->items().size(), report->points.size());
  EXPECT_THAT(report->text(), HasSubstr("1 passed, 1 failed, 0 skipped"));
}

TEST(Kit, RefusesWhatIsNoPlugin) {
  EXPECT_EQ(check("/nowhere/x.so").error().text(),
            "plugin not found: /nowhere/x.so: found no such file, expected a plugin's .so");
  Options options;
  options.method = "other";
  EXPECT_THAT(check(library("none"), options).error().text(),
              HasSubstr("found \"other\", expected faulty"));
}

}  // namespace
}  // namespace loadstone::conformance
