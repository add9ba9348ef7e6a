#include "table.hpp"

#include <gtest/gtest.h>

namespace loadstone::cli {
namespace {

TEST(Table, AlignsColumnsByCodePoints) {
  Table table({{"name"}, {"size", Align::right}, {"note"}});
  table.add({"größe", "7", "x"});
  table.add({"b", "1234"});
  table.rule();
  table.add({"total", "1241", "sum"});
  EXPECT_EQ(table.text(2),
            "  name   size  note\n"
            "  größe     7  x\n"
            "  b      1234\n"
            "  ─────────────────\n"
            "  total  1241  sum\n");
}

TEST(Percent, HasNoValueOfNothing) {
  EXPECT_EQ(percent(1, 4), "25.0 %");
  EXPECT_EQ(percent(1, 0), "–");
}

}  // namespace
}  // namespace loadstone::cli
