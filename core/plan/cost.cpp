// Where a layer is made, and what that costs in memory.
#include <algorithm>

#include "base/text.hpp"
#include "plan/flow.hpp"

namespace loadstone::plan {

uint64_t rows_per_piece(uint64_t row, uint64_t granule, uint64_t slot_nbytes) {
  uint64_t fit = row == 0 ? granule : slot_nbytes / row / granule * granule;
  return std::max(fit, granule);
}

uint64_t streamed_nbytes(const Plan& plan, const LayerPlan& layer) {
  uint64_t sum = 0;
  for (const Source& source : layer.sources) {
    if (source.resident) continue;
    sum += source.row_count * row_nbytes(plan.entry_of(layer, source.tensor));
  }
  return sum;
}

uint64_t source_nbytes(const Plan& plan, const LayerPlan& layer) {
  uint64_t sum = 0;
  for (const Source& source : layer.sources) {
    if (source.from_value) continue;
    sum += source.row_count * row_nbytes(plan.entry_of(layer, source.tensor));
  }
  for (const Identity& identity : layer.identities) sum += identity.rows * identity.row_nbytes;
  for (const Cast& cast : layer.casts) {
    sum += cast.elems * layout_of(plan.entry_of(layer, cast.tensor).dtype)->block_nbytes;
  }
  return sum;
}

namespace {

bool lives_on_gpu(const Plan& plan, const LayerPlan& layer) {
  return plan.slabs[plan.layer_of(layer).component].target.kind == LS_TARGET_CUDA;
}

bool is_strided(const Identity& identity) {
  return identity.rows > 1 &&
         (identity.src_stride != identity.row_nbytes || identity.dst_stride != identity.row_nbytes);
}

template <typename Items, typename Predicate>
bool any_of(const Items& items, Predicate predicate) {
  return std::any_of(items.begin(), items.end(), predicate);
}

uint64_t statistics_nbytes(const Plan& plan, const LayerPlan& layer) {
  if (layer.passes != 2) return 0;
  return round64(layer.stat_nbytes * plan.layer_of(layer).groups);
}

}  // namespace

std::string why_made_on_host(const Plan& plan, const LayerPlan& layer) {
  if (!lives_on_gpu(plan, layer)) return "";
  if (!layer.session) {
    if (!layer.casts.empty()) return "floats change their dtype";
    return any_of(layer.identities, is_strided) ? "rows lie apart" : "";
  }
  if ((layer.produce_on & LS_PLACE_CUDA) == 0) return layer.method + " has no kernel that makes it";
  if (!layer.casts.empty()) return "its bias changes its dtype";
  if (any_of(layer.sources, [](const Source& s) { return s.resident && !s.from_value; })) {
    return "its scales come first";
  }
  if (any_of(layer.identities, [](const Identity& i) { return i.checked || is_strided(i); })) {
    return "its codes are checked";
  }
  if (any_of(layer.stored, [](const Stored& s) { return s.packed_nbytes != 0; })) {
    return "a kernel's layout is made of it";
  }
  if (layer.passes == 2 && streamed_nbytes(plan, layer) > kMaxHeldOnGpuNbytes) {
    return "fed twice and larger than " + human_nbytes(kMaxHeldOnGpuNbytes);
  }
  return "";
}

bool made_on_host(const Plan& plan, const LayerPlan& layer) {
  return !why_made_on_host(plan, layer).empty();
}

bool made_on_gpu(const Plan& plan, const LayerPlan& layer) {
  return layer.session && lives_on_gpu(plan, layer) && !made_on_host(plan, layer);
}

uint64_t statistics_blocks(const Plan& plan, const LayerPlan& layer, const Flow& flow) {
  uint64_t blocks = 0;
  for (const Source& source : layer.sources) {
    if (source.resident) continue;
    uint64_t row = row_nbytes(plan.entry_of(layer, source.tensor));
    uint64_t step = rows_per_piece(row, source.granule, flow.stage_nbytes);
    blocks += (source.row_count + step - 1) / step;
  }
  return blocks;
}

namespace {

/// What a layer that its GPU makes needs there; nothing of it is held in host memory but the merged
/// statistics.
LayerCost cost_on_gpu(const Plan& plan, const LayerPlan& layer, const Flow& flow) {
  LayerCost cost;
  const uint64_t statistics = statistics_nbytes(plan, layer);
  cost.held_nbytes = statistics;
  cost.gpu_nbytes = round_gpu(layer.session_scratch);
  if (layer.passes == 2) {
    for (const Source& source : layer.sources) {
      if (source.resident) continue;
      cost.gpu_nbytes +=
          round_gpu(source.row_count * row_nbytes(plan.entry_of(layer, source.tensor)));
    }
    // One more for what they are merged into.
    cost.gpu_nbytes += round_gpu(statistics * (statistics_blocks(plan, layer, flow) + 1));
  }
  return cost;
}

}  // namespace

LayerCost cost_of(const Plan& plan, const LayerPlan& layer, const Flow& flow) {
  if (made_on_gpu(plan, layer)) return cost_on_gpu(plan, layer, flow);
  const uint64_t slot_nbytes = flow.slot_nbytes;
  LayerCost cost;
  uint64_t statistics = statistics_nbytes(plan, layer);
  cost.held_nbytes = round64(layer.session_scratch) + statistics;
  bool held = layer.passes == 2 && !layer.reread;
  uint64_t assembly = 0;
  for (const Source& source : layer.sources) {
    if (source.from_value) continue;
    uint64_t row = row_nbytes(plan.entry_of(layer, source.tensor));
    uint64_t nbytes = source.row_count * row;
    if (source.resident || held) {
      cost.held_nbytes += round64(nbytes);
      cost.needs_slot |= held || nbytes < kDirectNbytes;
    } else {
      uint64_t piece = std::min(source.granule, source.row_count) * row;
      if (piece > slot_nbytes) assembly = std::max(assembly, round64(piece));
      cost.needs_slot |= piece <= slot_nbytes;
    }
  }
  bool sent = made_on_host(plan, layer);
  for (const Stored& stored : layer.stored) {
    if (sent) cost.held_nbytes += round64(stored.slab_nbytes());
    if (stored.packed_nbytes != 0) cost.held_nbytes += round64(stored.nbytes);
  }
  bool feeds = !layer.sources.empty();
  for (const Identity& identity : layer.identities) {
    feeds |= identity.checked;
    cost.needs_slot |= is_strided(identity) || identity.checked ||
                       identity.rows * identity.row_nbytes < kDirectNbytes;
  }
  cost.needs_slot |= !layer.casts.empty();
  cost.feed_nbytes = feeds ? round64(layer.feed_scratch) + statistics + assembly : 0;
  return cost;
}

}  // namespace loadstone::plan
