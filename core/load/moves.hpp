// The bytes of one read: from the file to where its items want them.
#pragma once

#include "load/gpu_side.hpp"
#include "load/pages.hpp"
#include "load/reads.hpp"
#include "load/totals.hpp"

namespace loadstone::load {

/// Plan, flow, pages (or null), account and GPUs outlive it. Threads: any number at once, each with
/// its own Couriers.
class Mover {
 public:
  Mover(const plan::Plan& plan, const plan::Flow& flow, SlabPages* pages, MemoryAccount& account,
        GpuSide& gpus)
      : plan_(plan), flow_(flow), pages_(pages), account_(account), gpus_(gpus) {}

  /// One read with all that follows from it. `slot`: of the ring, if the read asks for one. Errors:
  /// io, resource, invalid_checkpoint (a value out of range of a cast), and what methods refuse.
  Status follow(const Read& read, std::byte* slot, EngineTotals& totals, Couriers& couriers);

 private:
  Status bring_over(const Read& read, EngineTotals& totals, Couriers& couriers);
  Status send(const Read& read, std::byte* into, device::Courier& courier, EngineTotals& totals);
  Status send_mapped(const Read& read, std::byte* into, device::Courier& courier,
                     device::PinnedMapping& file, EngineTotals& totals);
  Status put(const Item& item, const std::byte* at, Couriers& couriers);

  const plan::Plan& plan_;
  const plan::Flow& flow_;
  SlabPages* pages_;
  MemoryAccount& account_;
  GpuSide& gpus_;
};

}  // namespace loadstone::load
