#include "common/ggml/types.hpp"

#include <gtest/gtest.h>

namespace loadstone::ggml {
namespace {

TEST(GgmlTypes, IdsAndNamesNameOneType) {
  for (uint32_t id = 0; id < kTypeEnd; ++id) {
    const TypeInfo* info = find_type(id);
    if (info == nullptr) continue;
    EXPECT_EQ(info->type, id);
    EXPECT_EQ(find_type(std::string_view(info->name)), info);
  }
}

TEST(GgmlTypes, RemovedAndFutureIdsAreNoTypes) {
  for (const uint32_t id : {4u, 5u, 31u, 32u, 33u, 36u, 37u, 38u, 42u, 43u, 0xffffffffu}) {
    EXPECT_EQ(find_type(id), nullptr) << id;
  }
}

}  // namespace
}  // namespace loadstone::ggml
