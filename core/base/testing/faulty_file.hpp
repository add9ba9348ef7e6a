// Test double: a FileSystem over another one whose reads can be shortened, interrupted, failed,
// delayed or cut, and which counts them. Faults apply to every file whose path contains `only`.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/file.hpp"

namespace loadstone::testing {

/// Set before opening files, except the atomics, which may change under way. Shared by all files
/// of one FaultyFileSystem; counters count reads of faulty files only.
struct Faults {
  std::string only;                            // "": every file
  std::atomic<uint64_t> max_read{UINT64_MAX};  // bytes a pread returns at most
  std::atomic<uint64_t> eintr_every{0};        // each N-th read is interrupted first (0: never)
  std::atomic<uint64_t> fail_read{0};          // this read (from 1) and all later ones fail
  std::atomic<int> fail_errno{EIO};
  std::atomic<uint64_t> end_of_file{UINT64_MAX};  // reads see the file end here
  std::atomic<bool> changed{false};               // identity() reports a later mtime
  std::atomic<uint64_t> fail_open{0};             // this open (from 1) fails with EMFILE
  std::function<void(const std::string& path, uint64_t offset, uint64_t nbytes)> before_read;

  std::atomic<uint64_t> opens{0};
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> read_nbytes{0};
  std::atomic<uint64_t> largest_read{0};  // requested, not returned
};

class FaultyFile final : public File {
 public:
  FaultyFile(std::unique_ptr<File> inner, std::shared_ptr<Faults> faults)
      : File(inner->path()), inner_(std::move(inner)), faults_(std::move(faults)) {}

  ssize_t pread_some(std::span<std::byte> into, uint64_t offset) const override {
    const uint64_t nth = ++faults_->reads;
    uint64_t largest = faults_->largest_read;
    while (largest < into.size() &&
           !faults_->largest_read.compare_exchange_weak(largest, into.size())) {
    }
    if (faults_->before_read) faults_->before_read(path(), offset, into.size());
    const uint64_t interrupt = faults_->eintr_every;
    if (interrupt != 0 && nth % interrupt == 0) return -EINTR;
    const uint64_t fail = faults_->fail_read;
    if (fail != 0 && nth >= fail) return -faults_->fail_errno;
    const uint64_t end = faults_->end_of_file;
    if (offset >= end) return 0;
    const uint64_t limit = std::min<uint64_t>(faults_->max_read, end - offset);
    const ssize_t got =
        inner_->pread_some(into.first(std::min<uint64_t>(into.size(), limit)), offset);
    if (got > 0) faults_->read_nbytes += static_cast<uint64_t>(got);
    return got;
  }

  Result<FileIdentity> identity() const override {
    LS_TRY(FileIdentity identity, inner_->identity());
    if (faults_->changed) ++identity.mtime_ns;
    return identity;
  }

  Result<std::string> resolved() const override { return inner_->resolved(); }
  /// Faults of reads don't reach it.
  Result<std::optional<Mapping>> map() const override { return inner_->map(); }
  void will_need(uint64_t offset, uint64_t nbytes) const override {
    inner_->will_need(offset, nbytes);
  }

 private:
  std::unique_ptr<File> inner_;
  std::shared_ptr<Faults> faults_;
};

class FaultyFileSystem final : public FileSystem {
 public:
  explicit FaultyFileSystem(FileSystem& inner = system_files()) : inner_(inner) {}

  Faults& faults() { return *faults_; }

  Result<std::unique_ptr<File>> open(const std::string& path) override {
    const bool faulty = path.find(faults_->only) != std::string::npos;
    if (faulty && ++faults_->opens == faults_->fail_open) {
      return Error{Code::io, "cannot open file", path, "too many open files"};
    }
    LS_TRY(std::unique_ptr<File> file, inner_.open(path));
    if (!faulty) return file;
    return std::unique_ptr<File>(std::make_unique<FaultyFile>(std::move(file), faults_));
  }

  Result<std::vector<DirectoryEntry>> list(const std::string& path) override {
    return inner_.list(path);
  }
  bool is_directory(const std::string& path) override { return inner_.is_directory(path); }
  bool is_regular(const std::string& path) override { return inner_.is_regular(path); }
  Result<std::string> resolve(const std::string& path) override { return inner_.resolve(path); }

 private:
  FileSystem& inner_;
  std::shared_ptr<Faults> faults_ = std::make_shared<Faults>();  // files outlive the file system
};

}  // namespace loadstone::testing
