#include "device/courier.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

namespace loadstone::device {

namespace {

constexpr unsigned kNonBlocking = 1;  // CU_STREAM_NON_BLOCKING
constexpr unsigned kNoTiming = 2;     // CU_EVENT_DISABLE_TIMING

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Result<Courier> Courier::make(uint32_t index, PinnedRing& ring, uint64_t stage_nbytes) {
  LS_CHECK(enter(index));
  const Driver& d = *driver();
  Courier courier;
  courier.index_ = index;
  courier.ring_ = &ring;
  LS_CHECK(check(d.make_stream(&courier.stream_, kNonBlocking), "making a stream"));
  // Used where something is made there.
  if (stage_nbytes != 0) {
    LS_CHECK(check(d.make_stream(&courier.side_, kNonBlocking), "making a stream"));
  }
  LS_TRY(courier.stage_, Memory::allocate(index, stage_nbytes));
  for (Buffer& buffer : courier.buffers_) {
    LS_CHECK(check(d.make_event(&buffer.sent, kNoTiming), "making an event"));
  }
  return courier;
}

Courier::Courier(Courier&& other) noexcept { *this = std::move(other); }

Courier& Courier::operator=(Courier&& other) noexcept {
  std::swap(index_, other.index_);
  std::swap(ring_, other.ring_);
  std::swap(stream_, other.stream_);
  std::swap(side_, other.side_);
  std::swap(stage_, other.stage_);
  std::swap(buffers_, other.buffers_);
  std::swap(next_, other.next_);
  std::swap(pin_seconds_, other.pin_seconds_);
  std::swap(wait_seconds_, other.wait_seconds_);
  return *this;
}

Courier::~Courier() {
  if (stream_ == nullptr || !enter(index_).ok()) return;
  const Driver& d = *driver();
  d.wait_stream(stream_);
  for (Buffer& buffer : buffers_) {
    if (buffer.sent != nullptr) d.destroy_event(buffer.sent);
  }
  if (side_ != nullptr) {
    d.wait_stream(side_);
    d.destroy_stream(side_);
  }
  d.destroy_stream(stream_);
}

Result<std::byte*> Courier::buffer() {
  Buffer& buffer = buffers_[next_];
  const auto start = Clock::now();
  if (buffer.at == nullptr) {
    LS_TRY(buffer.at, ring_->take(index_));
    pin_seconds_ += seconds_since(start);
  } else if (buffer.under_way) {
    LS_CHECK(check(driver()->wait_event(buffer.sent), "copying to the GPU"));
    buffer.under_way = false;
    wait_seconds_ += seconds_since(start);
  }
  return buffer.at;
}

Status Courier::send(std::byte* to, uint64_t nbytes) {
  const Driver& d = *driver();
  Buffer& buffer = buffers_[next_];
  next_ = (next_ + 1) % kBuffers;
  LS_CHECK(check(d.to_device(reinterpret_cast<Address>(to), buffer.at, nbytes, stream_),
                 "copying to the GPU"));
  LS_CHECK(check(d.record(buffer.sent, stream_), "copying to the GPU"));
  buffer.under_way = true;
  return {};
}

Status Courier::send_pinned(std::byte* to, std::span<const std::byte> from) {
  return check(
      driver()->to_device(reinterpret_cast<Address>(to), from.data(), from.size(), stream_),
      "copying to the GPU");
}

Status Courier::copy(std::byte* to, const std::byte* from, uint64_t nbytes) {
  for (uint64_t done = 0; done < nbytes;) {
    uint64_t step = std::min(buffer_nbytes(), nbytes - done);
    LS_TRY(std::byte * at, buffer());
    std::memcpy(at, from + done, step);
    LS_CHECK(send(to + done, step));
    done += step;
  }
  return {};
}

Status Courier::finish() {
  if (stream_ == nullptr) return {};
  LS_CHECK(enter(index_));
  return check(driver()->wait_stream(stream_), "copying to the GPU");
}

Status Courier::finish_side() {
  LS_CHECK(enter(index_));
  return check(driver()->wait_stream(side_), "working on the GPU");
}

Status Courier::copy_within(std::byte* to, const std::byte* from, uint64_t nbytes) {
  return check(driver()->within(reinterpret_cast<Address>(to), reinterpret_cast<Address>(from),
                                nbytes, stream_),
               "copying on the GPU");
}

Status Courier::zero(std::byte* at, uint64_t nbytes) {
  return check(driver()->fill(reinterpret_cast<Address>(at), 0, nbytes, stream_),
               "zeroing memory of the GPU");
}

}  // namespace loadstone::device
