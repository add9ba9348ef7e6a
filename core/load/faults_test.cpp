// Loads whose disk, file or user misbehaves, through the I/O seam.
#include <sys/stat.h>

#include <chrono>
#include <fstream>
#include <random>
#include <thread>

#include "load/loaded_model.hpp"
#include "load/testing/kit.hpp"

namespace loadstone::load {

namespace {

class LoadFaults : public testing::Kit {
 protected:
  void some_layers(uint64_t rows = 96) {
    for (int i = 0; i < 4; ++i) {
      std::string n = std::to_string(i);
      linear("double" + n, rows, 64, "double", {{"granule", 3}});
      linear("amax" + n, rows, 64, "amax");
      linear("resident" + n, rows, 64, "resident");
      linear("checked" + n, rows, 64, "checked");
      linear("kept" + n, rows, 64, "");
    }
  }

  static plan::LoadOptions small_pieces(unsigned threads = 4) {
    plan::LoadOptions options;
    options.threads = threads;
    options.piece_nbytes = 4096;
    return options;
  }
};

TEST_F(LoadFaults, S42_ShortReadsAreContinued) {
  some_layers();
  write();
  faults().max_read = 1000;
  auto model = load_all(small_pieces());
  ASSERT_TRUE(model.ok()) << model.error().text();
  expect_right(*model);
}

TEST_F(LoadFaults, S42_InterruptedReadsAreRepeated) {
  some_layers();
  write();
  faults().eintr_every = 3;
  auto model = load_all(small_pieces());
  ASSERT_TRUE(model.ok()) << model.error().text();
  expect_right(*model);
}

TEST_F(LoadFaults, S42_EveryReadThatFailsStopsTheLoad) {
  some_layers();
  write();
  auto whole = load_all(small_pieces());
  ASSERT_TRUE(whole.ok());
  uint64_t reads = faults().reads;
  ASSERT_GT(reads, 10u);
  for (uint64_t nth = 1; nth <= reads; ++nth) {
    faults().fail_read = nth;
    expect_error(load_all(small_pieces()), Code::io, "model.safetensors");
    faults().fail_read = 0;
  }
}

TEST_F(LoadFaults, S42_StaleHandleIsNamed) {
  some_layers();
  write();
  faults().fail_errno = ESTALE;
  auto plan = make_plan(small_pieces());
  ASSERT_TRUE(plan.ok());
  faults().fail_read = faults().reads + 1;
  expect_error(load(std::make_shared<const plan::Plan>(*std::move(plan))), Code::io,
               "model.safetensors");
}

TEST_F(LoadFaults, S42_FileThatEndsEarlyChangedWhileReading) {
  some_layers();
  write();
  faults().end_of_file = 50000;
  expect_error(load_all(small_pieces()), Code::io, "changed while reading");
}

TEST_F(LoadFaults, S42_FileThatShrinksDuringTheLoad) {
  some_layers();
  write();
  std::string path = file();
  std::atomic<int> count{0};
  faults().before_read = [&](const std::string&, uint64_t, uint64_t) {
    if (++count == 5) std::filesystem::resize_file(path, 20000);
  };
  expect_error(load_all(small_pieces()), Code::io, "changed while reading");
}

TEST_F(LoadFaults, S42_FileThatGrowsDuringTheLoad) {
  some_layers();
  write();
  std::string path = file();
  std::atomic<int> count{0};
  faults().before_read = [&](const std::string&, uint64_t, uint64_t) {
    if (++count == 5) std::ofstream(path, std::ios::app) << "more";
  };
  expect_error(load_all(small_pieces()), Code::io, "changed while reading");
}

TEST_F(LoadFaults, S42_FileWrittenInPlaceDuringTheLoad) {
  some_layers();
  write();
  faults().changed = true;
  expect_error(load_all(small_pieces()), Code::io, "changed while reading");
}

TEST_F(LoadFaults, S42_FileReplacedDuringTheLoad) {
  some_layers();
  write();
  std::string path = file();
  std::atomic<int> count{0};
  faults().before_read = [&](const std::string&, uint64_t, uint64_t) {
    if (++count != 5) return;
    std::filesystem::copy_file(path, path + ".new");
    std::filesystem::rename(path + ".new", path);
  };
  expect_error(load_all(small_pieces()), Code::io, "changed while reading");
}

TEST_F(LoadFaults, S42_TwoLoadsAtOnceGiveTheSame) {
  some_layers();
  write();
  auto plan = make_plan(small_pieces());
  ASSERT_TRUE(plan.ok());
  auto shared = std::make_shared<const plan::Plan>(*std::move(plan));
  std::optional<Result<LoadedModel>> other;
  std::thread thread([&] { other.emplace(load(shared)); });
  auto mine = load(shared);
  thread.join();
  ASSERT_TRUE(mine.ok() && other->ok());
  expect_right(*mine);
  expect_right(**other);
}

TEST_F(LoadFaults, StalledReadHoldsUpNothingElse) {
  some_layers();
  write();
  std::atomic<uint64_t> others{0};
  std::atomic<bool> stalled{false};
  faults().before_read = [&](const std::string&, uint64_t, uint64_t) {
    if (stalled.exchange(true)) {
      ++others;
      return;
    }
    // Waits for the other threads' reads; if they waited for this one, none would come.
    auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (others < 20 && std::chrono::steady_clock::now() < limit) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_GE(others, 20u);
  };
  auto model = load_all(small_pieces());
  ASSERT_TRUE(model.ok()) << model.error().text();
  expect_right(*model);
}

TEST_F(LoadFaults, ReadsAreBoundedWhateverTheFileLooksLike) {
  // A load that reads whole files, or maps them, would show as a large read or as missing bytes.
  tensor("large.weight", DType::BF16, {6000, 2048});  // 24 MiB
  layer({"large", {"large"}, "", {}});
  tensor("online.weight", DType::BF16, {3000, 2048});
  layer({"online", {"online"}, "double", {}});
  some_layers();
  write();
  auto model = load_all({});
  ASSERT_TRUE(model.ok()) << model.error().text();
  EXPECT_LE(faults().largest_read, 4u << 20);
  uint64_t wanted = 0;
  for (const auto& one : tensors_) wanted += one.bytes.size();
  EXPECT_GE(faults().read_nbytes, wanted);
  EXPECT_LE(faults().read_nbytes, wanted + wanted / 20);
  EXPECT_EQ(model->report().read_nbytes, faults().read_nbytes);
  expect_as_planned(*model);
}

TEST_F(LoadFaults, NeighboursAreReadTogether) {
  for (int i = 0; i < 200; ++i) linear("kept" + std::to_string(i), 4, 16, "");
  for (int i = 0; i < 200; ++i) linear("double" + std::to_string(i), 4, 16, "double");
  write();
  auto model = load_all({});
  ASSERT_TRUE(model.ok()) << model.error().text();
  EXPECT_LE(faults().reads, 8u);  // 400 tensors in a few units of up to 64 layers
  expect_right(*model);
}

TEST_F(LoadFaults, GapsAreReadOverOnlyWhileSmall) {
  tensor("a.weight", DType::BF16, {64, 16});
  tensor("gap.small", DType::U8, {200 << 10});
  tensor("b.weight", DType::BF16, {64, 16});
  tensor("gap.large", DType::U8, {300 << 10});
  tensor("c.weight", DType::BF16, {64, 16});
  for (const char* name : {"a", "b", "c"}) layer({name, {name}, "", {}});
  write();
  auto model = load_all({});
  ASSERT_TRUE(model.ok()) << model.error().text();
  EXPECT_EQ(faults().reads, 2u);
  EXPECT_EQ(faults().read_nbytes, 3u * 2048 + (200 << 10));
  expect_right(*model);
}

TEST_F(LoadFaults, ShuffledAndDtypeOrderedFilesLoadAlike) {
  some_layers();
  std::mt19937 order(7);
  for (int round = 0; round < 4; ++round) {
    std::shuffle(tensors_.begin(), tensors_.end(), order);
    if (round == 3) {
      std::stable_sort(tensors_.begin(), tensors_.end(),
                       [](const auto& a, const auto& b) { return a.dtype > b.dtype; });
    }
    write();
    auto model = load_all(small_pieces());
    ASSERT_TRUE(model.ok()) << model.error().text();
    expect_right(*model);
    expect_as_planned(*model);
  }
}

TEST_F(LoadFaults, OddFileOffsetsReachMethodsAligned) {
  // A file whose tensors start at odd bytes: U8 tensors of odd length between them.
  for (int i = 0; i < 12; ++i) {
    std::string n = std::to_string(i);
    tensor("pad" + n + ".weight", DType::U8, {static_cast<uint64_t>(2 * i + 1)});
    layer({"pad" + n, {"pad" + n}, "", {}});
    linear("a" + n, 8, 16, i % 2 == 0 ? "double" : "amax");
  }
  write();
  auto model = load_all({});
  ASSERT_TRUE(model.ok()) << model.error().text();
  expect_right(*model);
}

TEST_F(LoadFaults, CancelStopsEveryPhase) {
  some_layers();
  write();
  uint64_t reads = 0;
  {
    auto whole = load_all(small_pieces(2));
    ASSERT_TRUE(whole.ok());
    reads = faults().reads;
  }
  for (uint64_t nth = 0; nth <= reads; ++nth) {
    CancelToken token;
    std::atomic<uint64_t> count{0};
    faults().before_read = [&](const std::string&, uint64_t, uint64_t) {
      if (++count == nth) token.cancel();
    };
    if (nth == 0) token.cancel();
    LoadControl control;
    control.cancel = &token;
    auto model = load_all(small_pieces(2), control);
    expect_error(model, Code::cancelled, "load cancelled");
  }
  faults().before_read = nullptr;
}

TEST_F(LoadFaults, MethodThatRefusesAPieceEndsTheLoad) {
  some_layers();
  linear("bad", 50, 64, "double", {{"fail_row", 31}});
  write();
  auto model = load_all(small_pieces());
  expect_error(model, Code::invalid_checkpoint, "asked to fail at row 31");
  EXPECT_NE(model.error().text().find("bad"), std::string::npos) << model.error().text();
}

TEST_F(LoadFaults, CheckedIdentityIsSeenWhole) {
  linear("fine", 40, 64, "checked");
  std::vector<std::byte> codes(40 * 64 * 2, std::byte{1});
  codes[40 * 64 * 2 - 3] = std::byte{0xee};
  tensor("odd.weight", DType::BF16, {40, 64}, codes);
  layer({"odd", {"odd"}, "checked", {}});
  write();
  expect_error(load_all(small_pieces()), Code::invalid_checkpoint, "illegal code 0xee");
}

}  // namespace
}  // namespace loadstone::load
