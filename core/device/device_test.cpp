#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/file.hpp"
#include "device/courier.hpp"
#include "device/cuda.hpp"
#include "device/pinned_mapping.hpp"

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

class MappedFile : public Gpu {
 protected:
  static constexpr uint64_t kNbytes = PinnedMapping::kWindowNbytes + 10'001;

  void SetUp() override {
    Gpu::SetUp();
    if (IsSkipped()) return;
    std::vector<char> bytes(kNbytes);
    for (uint64_t i = 0; i < kNbytes; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
    std::ofstream(path_, std::ios::binary).write(bytes.data(), kNbytes);
    auto file = system_files().open(path_);
    ASSERT_TRUE(file.ok()) << file.error().text();
    auto mapping = (*file)->map();
    ASSERT_TRUE(mapping.ok()) << mapping.error().text();
    ASSERT_TRUE(mapping->has_value());
    at_ = (*mapping)->data();
    auto made = PinnedMapping::make(0, **std::move(mapping), path_);
    ASSERT_TRUE(made.ok()) << made.error().text();
    pinned_ = *std::move(made);
  }
  void TearDown() override {
    pinned_.reset();
    std::remove(path_.c_str());
  }

  std::string path_ = ::testing::TempDir() + "mapped_file_" + std::to_string(::getpid());
  const std::byte* at_ = nullptr;
  std::unique_ptr<PinnedMapping> pinned_;
};

TEST_F(MappedFile, BytesArriveWindowByWindow) {
  auto memory = Memory::allocate(0, kNbytes);
  ASSERT_TRUE(memory.ok()) << memory.error().text();
  PinnedRing none;
  auto courier = Courier::make(0, none);
  ASSERT_TRUE(courier.ok()) << courier.error().text();
  constexpr uint64_t kStart = PinnedMapping::kWindowNbytes - 5000;
  std::vector<uint64_t> lengths;
  for (uint64_t done = kStart; done < kNbytes;) {
    auto bytes = pinned_->at(done, kNbytes - done);
    ASSERT_TRUE(bytes.ok()) << bytes.error().text();
    ASSERT_TRUE(courier->send_pinned(memory->data() + done, *bytes).ok());
    lengths.push_back(bytes->size());
    done += bytes->size();
  }
  EXPECT_EQ(lengths, (std::vector<uint64_t>{5000, 10'001}));
  ASSERT_TRUE(courier->finish().ok());
  std::vector<std::byte> back(kNbytes - kStart);
  ASSERT_TRUE(read_back(0, memory->data() + kStart, back.data(), back.size()).ok());
  for (uint64_t i = 0; i < back.size(); ++i) {
    const uint64_t from = kStart + i;
    ASSERT_EQ(back[i], static_cast<std::byte>(from * 7 + from / 251)) << from;
  }
}

TEST_F(MappedFile, WhatLiesBeyondTheFileIsAnError) {
  for (auto [offset, nbytes] : {std::pair{kNbytes, uint64_t{1}},
                                {kNbytes + 1, uint64_t{0}},
                                {uint64_t{1}, kNbytes},
                                {uint64_t{1}, ~uint64_t{0}}}) {
    auto bytes = pinned_->at(offset, nbytes);
    ASSERT_FALSE(bytes.ok());
    EXPECT_EQ(bytes.error().text(), "file changed while reading: " + path_ + ": found " +
                                        std::to_string(kNbytes) + " bytes, expected " +
                                        std::to_string(nbytes) + " at byte " +
                                        std::to_string(offset));
  }
}

TEST_F(MappedFile, AFileThatBecomesShorterIsAnErrorAndNoSignal) {
  std::filesystem::resize_file(path_, 100);
  ASSERT_TRUE(pinned_->at(PinnedMapping::kWindowNbytes - 8192, 1).ok() == false);
  auto bytes = pinned_->at(PinnedMapping::kWindowNbytes, 1);
  ASSERT_FALSE(bytes.ok());
  EXPECT_EQ(bytes.error().code, Code::io);
  EXPECT_EQ(bytes.error().text(), "file changed while reading: " + path_ +
                                      ": found pages missing from byte 16777216 on, expected " +
                                      std::to_string(kNbytes) + " bytes");
}

TEST_F(MappedFile, PagesThatTheDriverRefusesAreAnErrorThatNamesTheOtherWay) {
  ASSERT_TRUE(enter(0).ok());
  auto* const page = const_cast<std::byte*>(at_ + 4096);
  ASSERT_EQ(driver()->host_register(page, 4096, 8), 0);
  auto bytes = pinned_->at(0, 1);
  EXPECT_EQ(driver()->host_unregister(page), 0);
  ASSERT_FALSE(bytes.ok());
  EXPECT_EQ(bytes.error().code, Code::unsupported);
  EXPECT_TRUE(
      bytes.error().text().starts_with("pinning a file for the GPU failed: " + path_ + ": found "))
      << bytes.error().text();
  EXPECT_TRUE(bytes.error().text().ends_with("did you mean load.io: pread?"))
      << bytes.error().text();
}

TEST_F(Gpu, MoreMemoryThanThereIsIsAResourceError) {
  auto memory = Memory::allocate(0, uint64_t{1} << 50);
  ASSERT_FALSE(memory.ok());
  EXPECT_EQ(memory.error().code, Code::resource);
}

}  // namespace
}  // namespace loadstone::device
