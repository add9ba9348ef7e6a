#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "device/courier.hpp"
#include "device/cuda.hpp"

namespace loadstone::device {
namespace {

TEST(DeviceTest, AGpuThatIsNotThereIsAnErrorThatSaysSo) {
  const auto found = properties(1000);
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().code, Code::unsupported);
  EXPECT_TRUE(found.error().text().starts_with("cannot use cuda:1000: found "))
      << found.error().text();
}

class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto found = properties(0); !found.ok()) GTEST_SKIP() << found.error().text();
  }
};

TEST_F(Gpu, BytesArriveWhateverTheBuffers) {
  constexpr uint64_t kNbytes = 100'003;
  std::vector<std::byte> sent(kNbytes), back(kNbytes);
  for (uint64_t i = 0; i < kNbytes; ++i) sent[i] = static_cast<std::byte>(i * 7 + i / 251);
  for (uint64_t buffer : {uint64_t{64}, uint64_t{4096}, uint64_t{1} << 20}) {
    auto memory = Memory::allocate(0, kNbytes);
    ASSERT_TRUE(memory.ok()) << memory.error().text();
    auto ring = PinnedRing::reserve(Courier::kBuffers, buffer);
    ASSERT_TRUE(ring.ok()) << ring.error().text();
    auto courier = Courier::make(0, *ring);
    ASSERT_TRUE(courier.ok()) << courier.error().text();
    ASSERT_TRUE(courier->copy(memory->data(), sent.data(), kNbytes).ok());
    ASSERT_TRUE(courier->finish().ok());
    ASSERT_TRUE(read_back(0, memory->data(), back.data(), kNbytes).ok());
    EXPECT_EQ(back, sent);
  }
}

TEST_F(Gpu, RingGivesEachBufferOnceAndSaysWhenAllAreTaken) {
  for (uint64_t nbytes : {uint64_t{1}, uint64_t{4096}, uint64_t{5} << 20}) {
    auto ring = PinnedRing::reserve(3, nbytes);
    ASSERT_TRUE(ring.ok()) << ring.error().text();
    std::vector<std::byte*> taken;
    for (int i = 0; i < 3; ++i) {
      auto buffer = ring->take(0);
      ASSERT_TRUE(buffer.ok()) << buffer.error().text();
      EXPECT_EQ(reinterpret_cast<uintptr_t>(*buffer) % 4096, 0u);
      for (std::byte* other : taken) EXPECT_GE(std::abs(*buffer - other), ptrdiff_t(nbytes));
      std::memset(*buffer, i, nbytes);
      taken.push_back(*buffer);
    }
    auto beyond = ring->take(0);
    ASSERT_FALSE(beyond.ok());
    EXPECT_EQ(beyond.error().text(), "pinning host memory failed: found all 3 buffers taken");
  }
}

TEST_F(Gpu, ARingBeyondTheAddressSpaceIsAResourceError) {
  for (uint64_t nbytes : {uint64_t{1} << 60, ~uint64_t{0}}) {
    auto ring = PinnedRing::reserve(1000, nbytes);
    ASSERT_FALSE(ring.ok());
    EXPECT_EQ(ring.error().code, Code::resource);
  }
}

TEST_F(Gpu, MoreMemoryThanThereIsIsAResourceError) {
  auto memory = Memory::allocate(0, uint64_t{1} << 50);
  ASSERT_FALSE(memory.ok());
  EXPECT_EQ(memory.error().code, Code::resource);
}

}  // namespace
}  // namespace loadstone::device
