#include "device/cuda.hpp"

#include <cstring>
#include <utility>

#include "device/driver.hpp"

namespace loadstone::device {

namespace {

constexpr int kMajor = 75, kMinor = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
constexpr int kNameNbytes = 256;
constexpr unsigned kPortable = 1;  // CU_MEMHOSTALLOC_PORTABLE: for all GPUs

}  // namespace

Result<Properties> properties(uint32_t index) {
  LS_CHECK(enter(index));
  const Driver& d = *driver();
  int device = 0, major = 0, minor = 0;
  char name[kNameNbytes] = {};
  size_t total = 0;
  LS_CHECK(check(d.get(&device, static_cast<int>(index)), "asking a GPU"));
  LS_CHECK(check(d.name(name, kNameNbytes - 1, device), "asking a GPU"));
  LS_CHECK(check(d.attribute(&major, kMajor, device), "asking a GPU"));
  LS_CHECK(check(d.attribute(&minor, kMinor, device), "asking a GPU"));
  LS_CHECK(check(d.total(&total, device), "asking a GPU"));
  return Properties{name, static_cast<uint32_t>(major * 10 + minor), total};
}

Result<uint64_t> free_nbytes(uint32_t index) {
  LS_CHECK(enter(index));
  size_t free = 0, total = 0;
  LS_CHECK(check(driver()->memory(&free, &total), "asking a GPU"));
  return uint64_t{free};
}

Result<Memory> Memory::allocate(uint32_t index, uint64_t nbytes) {
  LS_CHECK(enter(index));
  Memory memory;
  if (nbytes == 0) return memory;
  Address at = 0;
  if (Status status = check(driver()->allocate(&at, nbytes), "allocating memory"); !status.ok()) {
    Error error = std::move(status).error();
    error.where = "cuda:" + std::to_string(index);
    error.detail += " for " + std::to_string(nbytes) + " bytes";
    return error;
  }
  memory.index_ = index;
  memory.data_ = reinterpret_cast<std::byte*>(at);
  memory.nbytes_ = nbytes;
  return memory;
}

Memory::Memory(Memory&& other) noexcept
    : index_(other.index_),
      data_(std::exchange(other.data_, nullptr)),
      nbytes_(std::exchange(other.nbytes_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(index_, other.index_);
  std::swap(data_, other.data_);
  std::swap(nbytes_, other.nbytes_);
  return *this;
}

Memory::~Memory() {
  if (data_ == nullptr || !enter(index_).ok()) return;
  driver()->free(reinterpret_cast<Address>(data_));
}

Result<Pinned> Pinned::allocate(uint32_t index, uint64_t nbytes) {
  LS_CHECK(enter(index));
  Pinned memory;
  void* at = nullptr;
  LS_CHECK(check(driver()->pin(&at, nbytes, kPortable), "pinning host memory"));
  std::memset(at, 0, nbytes);
  memory.index_ = index;
  memory.data_ = static_cast<std::byte*>(at);
  memory.nbytes_ = nbytes;
  return memory;
}

Pinned::Pinned(Pinned&& other) noexcept
    : index_(other.index_),
      data_(std::exchange(other.data_, nullptr)),
      nbytes_(std::exchange(other.nbytes_, 0)) {}

Pinned& Pinned::operator=(Pinned&& other) noexcept {
  std::swap(index_, other.index_);
  std::swap(data_, other.data_);
  std::swap(nbytes_, other.nbytes_);
  return *this;
}

Pinned::~Pinned() {
  if (data_ == nullptr || !enter(index_).ok()) return;
  driver()->unpin(data_);
}

Status read_back(uint32_t index, const std::byte* from, std::byte* to, uint64_t nbytes) {
  LS_CHECK(enter(index));
  return check(driver()->to_host(to, reinterpret_cast<Address>(from), nbytes), "reading back");
}

Status write(uint32_t index, std::byte* to, const std::byte* from, uint64_t nbytes) {
  LS_CHECK(enter(index));
  return check(driver()->from_host(reinterpret_cast<Address>(to), from, nbytes), "writing");
}

}  // namespace loadstone::device
