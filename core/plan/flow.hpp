// Where stored tensors lie, in which order layers load, and what that costs in memory.
#pragma once

#include <span>

#include "plan/plan.hpp"

namespace loadstone::plan {

/// Layers whose reads, config and answer are equal share stored tensors; sets shared_with and
/// counts bytes_after once.
void share_stored(Plan& plan);

/// Offsets of all stored tensors inside their component's slab, in file order, so that
/// neighbours in the file are neighbours in memory; the slabs' sizes.
Status lay_out(Plan& plan);

/// schedule, flow and peaks. Decides for two-pass layers whether they are held or read again.
void schedule(Plan& plan);

/// The flow of a part of the schedule (dequantize takes layers a few at a time).
Flow make_flow(const Plan& plan, std::span<const uint32_t> order);

/// Memory of one layer from its admission to its end, and of one running feed of it. Blocks are
/// counted as they are allocated: rounded up to 64 bytes.
struct LayerCost {
  uint64_t held_nbytes = 0;
  uint64_t feed_nbytes = 0;
  uint64_t gpu_nbytes = 0;
  bool needs_slot = false;
};
LayerCost cost_of(const Plan& plan, const LayerPlan& layer, const Flow& flow);

/// Whether the layer is made in host memory and sent to its GPU whole: a method produces it, floats
/// change their dtype, or rows come strided. What goes over as it was read needs no memory here.
bool made_on_host(const Plan& plan, const LayerPlan& layer);

/// Whether the layer's method makes it on its GPU, from pieces in staging memory there.
bool made_on_gpu(const Plan& plan, const LayerPlan& layer);

/// Why a method's layer is made in host memory though it lives on a GPU; "" where it is not.
std::string why_made_on_host(const Plan& plan, const LayerPlan& layer);

/// Blocks of statistics that pass 1 of a layer made on a GPU needs there: one a piece.
uint64_t statistics_blocks(const Plan& plan, const LayerPlan& layer, const Flow& flow);

/// Bytes of the layer's streamed sources.
uint64_t streamed_nbytes(const Plan& plan, const LayerPlan& layer);

/// Bytes that one pass over the layer reads.
uint64_t source_nbytes(const Plan& plan, const LayerPlan& layer);

/// Rows that are fed at once: whole granules that fit a slot, at least one granule.
uint64_t rows_per_piece(uint64_t row, uint64_t granule, uint64_t slot_nbytes);

/// Reads at least this long go straight to their place where both sides are contiguous; shorter
/// ones are joined with their neighbours through a ring slot.
inline constexpr uint64_t kDirectNbytes = 256u << 10;
/// Gaps up to this are read and thrown away.
inline constexpr uint64_t kMaxGapNbytes = 256u << 10;
/// Memory in flight beyond the largest unit, so that several run at once.
inline constexpr uint64_t kFlightSlackNbytes = 32u << 20;

/// Layers made on a GPU beyond the largest one, so that several run at once there.
inline constexpr uint64_t kGpuFlightSlackNbytes = 256u << 20;
/// A layer that is fed twice lies on its GPU whole until its end if it is no larger.
inline constexpr uint64_t kMaxHeldOnGpuNbytes = 1u << 30;

/// Of a GPU's memory.
inline constexpr uint64_t kGpuAlign = 256;
constexpr uint64_t round_gpu(uint64_t nbytes) {
  return (nbytes + kGpuAlign - 1) & ~(kGpuAlign - 1);
}
constexpr uint64_t round64(uint64_t nbytes) { return (nbytes + 63) & ~uint64_t{63}; }

}  // namespace loadstone::plan
