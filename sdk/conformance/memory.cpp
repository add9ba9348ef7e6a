#include "conformance/memory.hpp"

namespace loadstone::conformance {

Guarded::Guarded(std::string name, uint64_t nbytes, uint64_t align, uint64_t shift, int fill)
    : name_(std::move(name)), nbytes_(nbytes) {
  align = std::max<uint64_t>(align, 1);
  room_nbytes_ = nbytes + 2 * kGuard + 2 * align + shift;
  room_.reset(new std::byte[room_nbytes_]);
  std::memset(room_.get(), kPoison, room_nbytes_);
  auto address = reinterpret_cast<uintptr_t>(room_.get()) + kGuard;
  address = (address + align - 1) / align * align;
  if (address % (2 * align) == 0) address += align;  // no better aligned than promised
  at_ = reinterpret_cast<std::byte*>(address + shift);
  std::memset(at_, fill, nbytes);
}

Status Guarded::check() const {
  const auto error = [this](const char* side, uint64_t distance) {
    return Error{Code::internal, "guard bytes overwritten", name_,
                 "found a write " + std::to_string(distance) + " bytes " + side + " its " +
                     std::to_string(nbytes_),
                 ""};
  };
  for (const std::byte* p = at_; p > room_.get(); --p) {
    if (p[-1] != std::byte{kPoison}) return error("before", static_cast<uint64_t>(at_ - p) + 1);
  }
  const std::byte* end = at_ + nbytes_;
  for (const std::byte* p = end; p < room_.get() + room_nbytes_; ++p) {
    if (*p != std::byte{kPoison}) return error("past", static_cast<uint64_t>(p - end));
  }
  return {};
}

}  // namespace loadstone::conformance
