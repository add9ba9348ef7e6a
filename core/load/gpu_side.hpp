// What a load holds of its GPUs: the threads' ways there, memory for layers in flight, status
// words.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>

#include "device/courier.hpp"
#include "device/pinned_mapping.hpp"
#include "load/memory.hpp"
#include "load/session.hpp"
#include "load/totals.hpp"

namespace loadstone::load {

/// A thread's ways onto the GPUs, made when first used.
using Couriers = std::map<int32_t, device::Courier>;

/// Plan, flow and account outlive it. Threads: `of_thread` and `courier` from any, each with its
/// own Couriers; the rest while no thread works.
class GpuSide {
 public:
  GpuSide(const plan::Plan& plan, const plan::Flow& flow, MemoryAccount& account)
      : plan_(plan), flow_(flow), account_(account) {}

  /// Allocates what the layers of `order` that a GPU makes need there, and address space for the
  /// threads' pinned buffers. Errors: unsupported, resource.
  Status prepare(std::span<const uint32_t> order);
  /// Kept until `release`: threads wait for what another one sent.
  Couriers& of_thread();
  /// The thread's way to a GPU, which is made current. Errors: unsupported, resource.
  Result<device::Courier*> courier(Couriers& couriers, int32_t gpu);
  /// The file's pages for GPUs, made when first asked for; null where it is to be read instead
  /// (load.io: pread, or rows that come in another order than the file's). Errors: io, unsupported.
  Result<device::PinnedMapping*> mapping(uint32_t gpu, uint32_t file);
  /// Waits for what a thread sent; adds what its couriers spent to the totals.
  static Status arrive(Couriers& couriers, EngineTotals& totals);
  /// Of the layer at `position` of the order; its memory begins at `offset` of the room for layers
  /// in flight.
  GpuRoom room_of(const Session& session, uint32_t position, uint64_t offset) const;
  /// Gives all back. No session that used it is left.
  void release();

  uint64_t staging_nbytes() const { return staging_nbytes_; }

 private:
  const plan::Plan& plan_;
  const plan::Flow& flow_;
  MemoryAccount& account_;
  device::PinnedRing ring_;
  std::map<uint32_t, std::unique_ptr<device::PinnedMapping>> mappings_;  // by file
  std::map<int32_t, device::Memory> rooms_;
  device::Pinned trouble_;
  std::mutex mutex_;
  std::deque<Couriers> couriers_;
  uint64_t staging_nbytes_ = 0;  // allocated so far
};

}  // namespace loadstone::load
