#include "common/cuda/few_rows_split.hpp"

#include <gtest/gtest.h>

namespace loadstone::common::cuda::few {
namespace {

constexpr Room kRooms[] = {{132, 24, 1, true},
                           {132, 16, 2, true},
                           {132, 8, 3, true},
                           {108, 16, 2, false},
                           {20, 16, 2, true}};

TEST(FewRowsSplit, EveryBlockHasBatchesAndWholeRoundsOfX) {
  for (const Room& room : kRooms) {
    for (const uint64_t m : {1, 8, 9, 16}) {
      for (uint32_t bands = 1; bands < 600; bands += 7) {
        for (uint32_t batches = 1; batches < 200; batches += 3) {
          const Split s = split_of(bands, batches, m, room);
          ASSERT_GE(s.deep, 1u);
          ASSERT_LE(s.side * s.deep, kMostWarps);
          ASSERT_LE(s.deep * s.shares, batches);
          ASSERT_TRUE(room.clusters || s.shares == 1);
          ASSERT_EQ(kMostShares % s.shares, 0u);
          ASSERT_GE(s.chunk, 1u);
          ASSERT_EQ(s.chunk % (s.deep * room.ahead), 0u);
          const uint32_t nbytes = s.chunk * kBatchRowNbytes * (m > 8 ? 16 : 8);
          ASSERT_LE(nbytes, std::max(kXRoomNbytes, s.deep * room.ahead * kBatchRowNbytes * 16));
        }
      }
    }
  }
}

TEST(FewRowsSplit, MostWarpsRunAtOnce) {
  const Room room{132, 24, 1, true};
  // N 12288, K 3072: 192 blocks of 16 warps don't run at once, 384 of 8 do.
  const Split wide = split_of(384, 24, 1, room);
  EXPECT_EQ(wide.deep, 4u);
  EXPECT_EQ(wide.shares, 2u);
  // N 3072, K 12288: clusters of 8 would leave holes that 384 blocks don't have room for.
  const Split deep = split_of(96, 96, 1, room);
  EXPECT_EQ(deep.deep, 6u);
  EXPECT_EQ(deep.shares, 4u);
}

TEST(FewRowsSplit, OneBlockWhereNothingElseFits) {
  const Split s = split_of(1, 1, 1, {1, 16, 2, false});
  EXPECT_EQ(s.deep, 1u);
  EXPECT_EQ(s.shares, 1u);
  EXPECT_EQ(s.chunk, 2u);
}

}  // namespace
}  // namespace loadstone::common::cuda::few
