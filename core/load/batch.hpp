// Stored tensors in memory a few layers at a time: for writers that follow a plan through a model
// larger than memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "load/loaded_model.hpp"
#include "load/memory.hpp"

namespace loadstone::load {

/// Layers whose stored tensors are in memory: the next few that a file needs. One thread.
/// The plan must outlive it and pack nothing (LoadOptions::repack false).
class Batch {
 public:
  explicit Batch(const plan::Plan& plan);

  /// Loads layers from `wanted` (layer plans, each once) on, as many as fit, unless the first is
  /// there. Errors: as load.
  Status need(std::span<const uint32_t> wanted, const LoadControl& control);

  /// Bytes of a stored tensor of a layer that is there.
  std::byte* at(uint32_t layer, uint32_t stored) const;

 private:
  const plan::Plan& plan_;
  MemoryAccount account_;
  HostSlab slab_;
  std::vector<uint64_t> place_of_;  // offset of a layer in the slab
  std::vector<uint32_t> rank_;      // in the plan's schedule
  std::vector<uint32_t> loaded_;
};

}  // namespace loadstone::load
