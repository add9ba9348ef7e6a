#include "load/batch.hpp"

#include <algorithm>

#include "load/engine.hpp"
#include "plan/flow.hpp"

namespace loadstone::load {

namespace {

constexpr uint64_t kBatchNbytes = 64u << 20;  // stored tensors that are in memory at once
constexpr uint64_t kNowhere = UINT64_MAX;
constexpr uint64_t kAlign = 4096;  // the largest that a plan allows

uint64_t padded(const plan::Stored& stored) {
  uint64_t align = std::max(stored.align, kAlign);
  return (stored.nbytes + align - 1) & ~(align - 1);
}

uint64_t nbytes_of(const plan::LayerPlan& layer) {
  uint64_t sum = 0;
  for (const plan::Stored& stored : layer.stored) sum += padded(stored);
  return sum;
}

}  // namespace

Batch::Batch(const plan::Plan& plan) : plan_(plan), place_of_(plan.layers.size(), kNowhere) {
  rank_.resize(plan.layers.size(), UINT32_MAX);
  for (uint32_t i = 0; i < plan.schedule.size(); ++i) rank_[plan.schedule[i]] = i;
}

Status Batch::need(std::span<const uint32_t> wanted, const LoadControl& control) {
  if (place_of_[wanted.front()] != kNowhere) return {};
  for (uint32_t index : loaded_) place_of_[index] = kNowhere;
  loaded_.clear();
  uint64_t nbytes = 0;
  for (uint32_t index : wanted) {
    uint64_t size = nbytes_of(plan_.layers[index]);
    if (!loaded_.empty() && nbytes + size > kBatchNbytes) break;
    place_of_[index] = nbytes;
    nbytes += size;
    loaded_.push_back(index);
  }
  if (nbytes > slab_.nbytes()) {
    slab_ = HostSlab();
    LS_TRY(slab_, HostSlab::allocate(nbytes));
  }
  std::vector<uint32_t> order = loaded_;
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::pair(rank_[a], a) < std::pair(rank_[b], b);
  });
  plan::Flow flow = plan::make_flow(plan_, order);
  LoadControl quiet;
  quiet.cancel = control.cancel;
  StoredPlace place = [this](uint32_t layer, uint32_t stored) { return at(layer, stored); };
  LS_TRY(EngineTotals totals, run_engine(plan_, flow, order, place, nullptr, account_, quiet));
  (void)totals;
  return {};
}

std::byte* Batch::at(uint32_t layer, uint32_t stored) const {
  uint64_t offset = place_of_[layer];
  for (uint32_t i = 0; i < stored; ++i) offset += padded(plan_.layers[layer].stored[i]);
  return slab_.data() + offset;
}

}  // namespace loadstone::load
