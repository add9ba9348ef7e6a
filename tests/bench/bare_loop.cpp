// What files can be brought to a GPU at: threads, preads into pinned slots, copies overlapped,
// nothing else. The ceiling that a load is measured against.
//
//   bare_loop FILE…      prints the pinned copy's rate, then the loop's by threads and slot
//
// Best of two runs each; the files lie in the page cache from the first.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "device/cuda.hpp"
#include "device/driver.hpp"

namespace {

using loadstone::device::Address;
using loadstone::device::driver;
using loadstone::device::Handle;
using loadstone::device::Memory;
using Clock = std::chrono::steady_clock;

constexpr unsigned kNonBlocking = 1, kNoTiming = 2;

struct File {
  int fd = -1;
  uint64_t nbytes = 0, at = 0;  // `at`: its place on the GPU
};

struct Piece {
  const File* file;
  uint64_t offset, nbytes;
};

void need(int code, const char* what) {
  if (code == 0) return;
  fmt::print(stderr, "{}: {}\n", what, driver()->describe(code));
  std::exit(1);
}

double gigabytes(uint64_t nbytes, Clock::time_point start) {
  return static_cast<double>(nbytes) / 1e9 /
         std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<Piece> cut(const std::vector<File>& files, uint64_t slot) {
  std::vector<Piece> pieces;
  for (const File& file : files) {
    for (uint64_t at = 0; at < file.nbytes; at += slot) {
      pieces.push_back({&file, at, std::min(slot, file.nbytes - at)});
    }
  }
  return pieces;
}

/// Runs body(thread) on `threads` threads that have the GPU's context.
template <typename Body>
void on_threads(unsigned threads, const Body& body) {
  std::vector<std::thread> pool;
  for (unsigned t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      if (!loadstone::device::enter(0).ok()) std::exit(1);
      body(t);
    });
  }
  for (std::thread& thread : pool) thread.join();
}

struct Lane {
  static constexpr int kSlots = 2;
  Handle stream = nullptr, sent[kSlots] = {};
  void* slots[kSlots] = {};
};

double by_pread(const std::vector<File>& files, char* to, unsigned threads, uint64_t slot) {
  const auto& d = *driver();
  std::vector<Lane> lanes(threads);
  for (Lane& lane : lanes) {
    need(d.make_stream(&lane.stream, kNonBlocking), "stream");
    for (int i = 0; i < Lane::kSlots; ++i) {
      need(d.pin(&lane.slots[i], slot, 0), "pin");
      need(d.make_event(&lane.sent[i], kNoTiming), "event");
    }
  }
  const std::vector<Piece> pieces = cut(files, slot);
  std::atomic<size_t> next{0};
  uint64_t total = 0;
  for (const Piece& piece : pieces) total += piece.nbytes;
  const auto start = Clock::now();
  on_threads(threads, [&](unsigned t) {
    Lane& lane = lanes[t];
    int turn = 0;
    for (size_t i = next++; i < pieces.size(); i = next++) {
      const Piece& piece = pieces[i];
      need(d.wait_event(lane.sent[turn]), "wait");
      auto* slot_at = static_cast<char*>(lane.slots[turn]);
      for (uint64_t done = 0; done < piece.nbytes;) {
        const ssize_t got = pread(piece.file->fd, slot_at + done, piece.nbytes - done,
                                  static_cast<off_t>(piece.offset + done));
        if (got <= 0) std::exit(1);
        done += static_cast<uint64_t>(got);
      }
      need(d.to_device(reinterpret_cast<Address>(to + piece.file->at + piece.offset), slot_at,
                       piece.nbytes, lane.stream),
           "copy");
      need(d.record(lane.sent[turn], lane.stream), "record");
      turn = (turn + 1) % Lane::kSlots;
    }
    need(d.wait_stream(lane.stream), "wait");
  });
  const double rate = gigabytes(total, start);
  for (Lane& lane : lanes) {
    for (int i = 0; i < Lane::kSlots; ++i) {
      d.unpin(lane.slots[i]);
      d.destroy_event(lane.sent[i]);
    }
    d.destroy_stream(lane.stream);
  }
  return rate;
}

double pinned_copy(char* to, uint64_t room) {
  const auto& d = *driver();
  const uint64_t nbytes = std::min(room, uint64_t{256} << 20);
  void* host = nullptr;
  Handle stream = nullptr;
  need(d.pin(&host, nbytes, 0), "pin");
  need(d.make_stream(&stream, kNonBlocking), "stream");
  double best = 0;
  for (int round = 0; round < 3; ++round) {
    const auto start = Clock::now();
    for (int i = 0; i < 8; ++i) {
      need(d.to_device(reinterpret_cast<Address>(to), host, nbytes, stream), "copy");
    }
    need(d.wait_stream(stream), "wait");
    best = std::max(best, gigabytes(8 * nbytes, start));
  }
  d.unpin(host);
  d.destroy_stream(stream);
  return best;
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<File> files;
  uint64_t total = 0;
  for (int i = 1; i < count; ++i) {
    File file;
    struct stat found {};
    file.fd = open(arguments[i], O_RDONLY | O_CLOEXEC);
    if (file.fd < 0 || fstat(file.fd, &found) != 0) {
      fmt::print(stderr, "cannot open {}\n", arguments[i]);
      return 2;
    }
    file.nbytes = static_cast<uint64_t>(found.st_size);
    file.at = total;
    total += (file.nbytes + 255) / 256 * 256;
    files.push_back(file);
  }
  auto memory = Memory::allocate(0, total);
  if (files.empty() || !memory.ok()) {
    fmt::print(stderr, "{}\n", files.empty() ? "no files" : memory.error().text());
    return 2;
  }
  auto* to = reinterpret_cast<char*>(memory->data());
  fmt::print("pinned copy                        {:6.1f} GB/s\n", pinned_copy(to, total));
  for (const uint64_t slot : {uint64_t{1} << 20, uint64_t{2} << 20, uint64_t{4} << 20}) {
    for (const unsigned threads : {8u, 12u, 16u}) {
      double best = 0;
      for (int round = 0; round < 2; ++round) {
        best = std::max(best, by_pread(files, to, threads, slot));
      }
      fmt::print("bare loop, {:2} threads, {} MiB slots {:6.1f} GB/s\n", threads, slot >> 20, best);
      std::fflush(stdout);
    }
  }
  return 0;
}
