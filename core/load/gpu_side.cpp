#include "load/gpu_side.hpp"

#include <set>

#include "plan/flow.hpp"

namespace loadstone::load {

Status GpuSide::prepare(std::span<const uint32_t> order) {
  LS_TRY(ring_, device::PinnedRing::reserve(
                    uint64_t{device::Courier::kBuffers} * flow_.workers * flow_.gpus,
                    flow_.pinned_nbytes));
  std::set<int32_t> gpus;
  for (uint32_t index : order) {
    const plan::LayerPlan& layer = plan_.layers[index];
    if (!plan::made_on_gpu(plan_, layer)) continue;
    gpus.insert(plan_.slabs[plan_.layer_of(layer).component].target.index);
  }
  if (gpus.empty()) return {};
  for (int32_t gpu : gpus) {
    LS_TRY(rooms_[gpu],
           device::Memory::allocate(static_cast<uint32_t>(gpu), flow_.gpu_flight_nbytes));
    staging_nbytes_ += flow_.gpu_flight_nbytes;
  }
  const auto any = static_cast<uint32_t>(*gpus.begin());
  LS_TRY(trouble_, device::Pinned::allocate(any, order.size() * sizeof(uint32_t)));
  account_.add(trouble_.nbytes());
  return {};
}

Couriers& GpuSide::of_thread() {
  std::lock_guard lock(mutex_);
  return couriers_.emplace_back();
}

Result<device::Courier*> GpuSide::courier(Couriers& couriers, int32_t gpu) {
  const auto index = static_cast<uint32_t>(gpu);
  const auto found = couriers.find(gpu);
  if (found != couriers.end()) {
    LS_CHECK(device::enter(index));
    return &found->second;
  }
  const uint64_t stage = flow_.stage_nbytes + flow_.stage_scratch_nbytes;
  LS_TRY(auto made, device::Courier::make(index, ring_, stage));
  account_.add(device::Courier::kBuffers * flow_.pinned_nbytes);
  std::lock_guard lock(mutex_);
  staging_nbytes_ += stage;
  return &couriers.emplace(gpu, std::move(made)).first->second;
}

Result<device::PinnedMapping*> GpuSide::mapping(uint32_t gpu, uint32_t file) {
  if (!plan_.options.map_files) return nullptr;
  std::lock_guard lock(mutex_);
  const auto found = mappings_.find(file);
  if (found != mappings_.end()) return found->second.get();
  const File& source = *plan_.checkpoint->files[file].file;
  LS_TRY(std::optional<Mapping> mapped, source.map());
  std::unique_ptr<device::PinnedMapping>& made = mappings_[file];
  if (mapped) {
    LS_TRY(made, device::PinnedMapping::make(gpu, *std::move(mapped), source.path()));
  }
  return made.get();
}

Status GpuSide::arrive(Couriers& couriers, EngineTotals& totals) {
  Status status;
  const auto start = Clock::now();
  for (auto& [gpu, courier] : couriers) {
    if (status.ok()) status = courier.finish();
    totals.pin_seconds += courier.pin_seconds();
    totals.wait_seconds += courier.wait_seconds();
  }
  totals.arrive_seconds += seconds_since(start);
  return status;
}

GpuRoom GpuSide::room_of(const Session& session, uint32_t position, uint64_t offset) const {
  if (!session.made_on_gpu()) return {};
  return {rooms_.at(session.gpu()).data() + offset,
          reinterpret_cast<uint32_t*>(trouble_.data()) + position};
}

void GpuSide::release() {
  for (const Couriers& couriers : couriers_) {
    for (const auto& [gpu, courier] : couriers) {
      account_.subtract(device::Courier::kBuffers * courier.buffer_nbytes());
    }
  }
  couriers_.clear();
  mappings_.clear();
  ring_ = device::PinnedRing();
  rooms_.clear();
  account_.subtract(trouble_.nbytes());
  trouble_ = device::Pinned();
}

}  // namespace loadstone::load
