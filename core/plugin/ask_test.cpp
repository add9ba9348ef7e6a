// Security checklist S40: what a plugin returns is input too.
#include <gmock/gmock.h>

#include "plugin/testing/plugin_folder.hpp"

namespace loadstone::plugin {
namespace {

struct PlanFault {
  const char* fault;
  const char* text;
};

class PlanFaults : public testing::PluginFolder, public ::testing::WithParamInterface<PlanFault> {
 protected:
  std::string ask(const std::string& fault) {
    install("none");
    auto method = open();
    if (!method.ok()) return method.error().text();
    config::MethodChoice choice;
    choice.method = "faulty";
    choice.fields["fault"] = {Node::of_text(fault), config::From::user};
    const auto config = MethodConfig::make(*method, choice);
    if (!config.ok()) return config.error().text();
    const testing::SmallLayer small;
    const auto answer = ask_plan(**config, small.layer(), small.target());
    return answer.ok() ? "accepted" : answer.error().text();
  }
};

TEST_P(PlanFaults, S40_IsRefusedWithItsReason) {
  EXPECT_EQ(ask(GetParam().fault), GetParam().text);
}

#define WRONG(text) "faulty gave a wrong plan: plugin faulty: blocks.0.proj: " text
#define FAILED(text) "faulty plan_layer failed: blocks.0.proj: " text

INSTANTIATE_TEST_SUITE_P(
    S40, PlanFaults,
    ::testing::Values(
        PlanFault{"", "accepted"}, PlanFault{"identity_whole", "accepted"},
        PlanFault{"throw", FAILED("thrown by plan_layer")},
        PlanFault{"throw_int", FAILED("an exception left the plugin")},
        PlanFault{"bad_alloc", FAILED("std::bad_alloc")},
        PlanFault{"status_99", FAILED("found unknown status 99")},
        PlanFault{"status_negative", FAILED("found unknown status -3: a negative one")},
        PlanFault{"no_text", FAILED("no reason given")},
        PlanFault{"null_text", FAILED("no reason given")},
        PlanFault{"dirty_text", FAILED("line\\nand \\x1b[31mcolour\\xff")},
        PlanFault{"fail_with_ok", FAILED("said fine, meant not")},
        PlanFault{"declares", FAILED("declare_scope: found a sink of another call")},
        PlanFault{"null_struct", FAILED("plan_source: found no struct")},
        PlanFault{"configure_null", "faulty configure failed: found no config and no error"},
        PlanFault{"source_index", WRONG("source: found tensor out of range")},
        PlanFault{"source_mode", WRONG("source: tensor \"weight\" of part 0: found mode 9")},
        PlanFault{"source_rows", WRONG("source: tensor \"weight\" of part 0: found rows [1, +4), "
                                       "expected some of 4")},
        PlanFault{"source_overflow", WRONG("source: tensor \"weight\" of part 0: found rows "
                                           "[18446744073709551615, +4), expected some of 4")},
        PlanFault{"source_empty", WRONG("source: tensor \"weight\" of part 0: found rows [0, +0), "
                                        "expected some of 4")},
        PlanFault{"endless", FAILED("plan_source: found more than 1048576 answers")},
        PlanFault{"stored_dtype", WRONG("stored tensor \"weight\": found dtype 999 and a shape "
                                        "that don't fit each other")},
        PlanFault{"stored_f4", WRONG("stored tensor \"weight\": found dtype 20 and a shape that "
                                     "don't fit each other")},
        PlanFault{"stored_rank", WRONG("stored tensor \"weight\": found more than 6 axes")},
        PlanFault{"stored_overflow", WRONG("stored tensor \"weight\": found dtype 2 and a shape "
                                           "that don't fit each other")},
        PlanFault{"stored_align", WRONG("stored tensor \"weight\": found alignment 48, expected a "
                                        "power of two up to 1048576")},
        PlanFault{"stored_name", WRONG("stored tensor \"\": found no usable name")},
        PlanFault{"stored_twice", WRONG("stored tensor \"weight\": found twice")},
        PlanFault{"identity_index", WRONG("identity: found an index out of range")},
        PlanFault{"identity_past_source", WRONG("identity of tensor \"weight\" of part 0: found "
                                                "blocks past the tensor's 12 bytes")},
        PlanFault{"identity_past_stored", WRONG("identity of tensor \"weight\" of part 0: found "
                                                "blocks past the tensor's 12 bytes")},
        PlanFault{"identity_gap", WRONG("identities of stored tensor \"weight\": found a gap or an "
                                        "overlap at byte 11 of 12")},
        PlanFault{"identity_twice", WRONG("identities of stored tensor \"weight\": found a gap or "
                                          "an overlap at byte 12 of 12")},
        PlanFault{"identity_empty", WRONG("identity of tensor \"weight\" of part 0: found no "
                                          "rows")},
        PlanFault{"identity_overflow", WRONG("identity of tensor \"weight\" of part 0: found "
                                             "blocks past the tensor's 12 bytes")},
        PlanFault{"repack_without_function", WRONG("found repack wishes, expected a repack "
                                                   "function with them")},
        PlanFault{"unused_index", WRONG("unused: found tensor out of range")},
        PlanFault{"unused_reason", WRONG("unused: tensor \"weight\" of part 0: found no reason")},
        PlanFault{"unmentioned", WRONG("tensor \"weight\" of part 0: found neither read nor "
                                       "declared unused")},
        PlanFault{"verdict", WRONG("found verdict 17, expected 1 to 5")},
        PlanFault{"no_reason", WRONG("found no reason for its verdict")},
        PlanFault{"no_kernel", WRONG("found no kernel name")},
        PlanFault{"short_work", WRONG("found no kernel name")},
        PlanFault{"passes", WRONG("found 3 passes")},
        PlanFault{"statistics", WRONG("found statistics and no merge")},
        PlanFault{"scratch", WRONG("found more than 1 TiB of scratch or statistics")},
        PlanFault{"error_nan", WRONG("found an error bound that is negative or no number")},
        PlanFault{"no_work", WRONG("found 0 plan_work, expected one")},
        PlanFault{"work_twice", WRONG("found 2 plan_work, expected one")}),
    [](const auto& one) {
      return std::string(*one.param.fault == '\0' ? "good" : one.param.fault);
    });

}  // namespace
}  // namespace loadstone::plugin
