#include "plan/flow.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>

#include "base/checked.hpp"
#include "base/parallel.hpp"
#include "base/text.hpp"

namespace loadstone::plan {

namespace {

using Place = std::pair<uint32_t, uint64_t>;  // file, offset

constexpr uint64_t kPageNbytes = 4096;
constexpr uint64_t kMinSlotNbytes = 4096;
constexpr uint64_t kUnitSourceNbytes = 8u << 20;  // small layers are joined up to this
constexpr uint64_t kUnitHeldNbytes = 4u << 20;
constexpr uint32_t kUnitLayers = 64;
// A copy costs the link some 5 us beside its bytes: buffers of 1, 2 and 4 MiB brought 43, 49 and 50
// GB/s of 55.
constexpr uint64_t kPinnedNbytes = 4u << 20;
constexpr uint64_t kLeastPinnedNbytes = 512u << 10;
constexpr uint64_t kSlotsShare = 4;
constexpr unsigned kMaxWorkers = 64;

/// Where the layer's first read lies.
Place first_place(const Plan& plan, const LayerPlan& layer) {
  Place first{UINT32_MAX, UINT64_MAX};
  auto take = [&](uint32_t tensor) {
    const formats::TensorEntry& entry = plan.entry_of(layer, tensor);
    first = std::min(first, Place{entry.file, entry.offset});
  };
  for (const Source& source : layer.sources) {
    if (!source.from_value) take(source.tensor);
  }
  for (const Identity& identity : layer.identities) take(identity.tensor);
  for (const Cast& cast : layer.casts) take(cast.tensor);
  return first;
}

Place place_of_stored(const Plan& plan, const LayerPlan& layer, uint32_t stored) {
  Place first{UINT32_MAX, UINT64_MAX};
  for (const Identity& identity : layer.identities) {
    if (identity.stored != stored) continue;
    const formats::TensorEntry& entry = plan.entry_of(layer, identity.tensor);
    first = std::min(first, Place{entry.file, entry.offset + identity.src_offset});
  }
  for (const Cast& cast : layer.casts) {
    if (cast.stored != stored) continue;
    const formats::TensorEntry& entry = plan.entry_of(layer, cast.tensor);
    first = std::min(first, Place{entry.file, entry.offset + cast.src_offset});
  }
  return first.first == UINT32_MAX ? first_place(plan, layer) : first;
}

void append(std::string& key, uint64_t value) {
  key.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

/// Everything that decides the stored bytes, as a comparable text.
std::string share_key(const Plan& plan, const LayerPlan& layer) {
  std::string key;
  const graph::Layer& shape = plan.layer_of(layer);
  key += plan.slabs[shape.component].target.name;
  append(key, reinterpret_cast<uintptr_t>(layer.config.get()));
  for (uint64_t value : {uint64_t(layer.want), uint64_t(layer.load_dtype), layer.note,
                         uint64_t(layer.passes), shape.out, shape.in, uint64_t(shape.groups)}) {
    append(key, value);
  }
  auto tensor = [&](uint32_t index) {
    const formats::TensorEntry& entry = plan.entry_of(layer, index);
    append(key, entry.file);
    append(key, entry.offset);
    append(key, entry.nbytes);
  };
  for (const graph::Part& part : shape.parts) {
    for (uint64_t value :
         {uint64_t(part.group), part.out_begin, part.out_count, part.file_begin, part.file_total}) {
      append(key, value);
    }
  }
  for (const Source& source : layer.sources) {
    tensor(source.tensor);
    for (uint64_t value : {uint64_t(source.resident), source.tag, source.row_begin,
                           source.row_count, source.granule}) {
      append(key, value);
    }
  }
  for (const Identity& identity : layer.identities) {
    tensor(identity.tensor);
    for (uint64_t value :
         {uint64_t(identity.stored), uint64_t(identity.checked), identity.src_offset,
          identity.dst_offset, identity.rows, identity.row_nbytes, identity.src_stride,
          identity.dst_stride, identity.tag}) {
      append(key, value);
    }
  }
  for (const Cast& cast : layer.casts) {
    tensor(cast.tensor);
    for (uint64_t value : {uint64_t(cast.stored), cast.src_offset, cast.dst_offset, cast.elems}) {
      append(key, value);
    }
  }
  for (const Value& value : layer.values) tensor(value.tensor);
  for (const Stored& stored : layer.stored) {
    key += stored.name;
    append(key, static_cast<uint64_t>(stored.dtype));
    for (uint64_t dim : stored.shape) append(key, dim);
    append(key, stored.slab_nbytes());
  }
  return key;
}

}  // namespace

void share_stored(Plan& plan) {
  std::unordered_map<std::string, uint32_t> first;
  for (uint32_t i = 0; i < plan.layers.size(); ++i) {
    LayerPlan& layer = plan.layers[i];
    if (layer.nbytes_after == 0) continue;
    auto [it, fresh] = first.emplace(share_key(plan, layer), i);
    if (fresh) continue;
    layer.shared_with = it->second;
    layer.nbytes_after = 0;
    layer.nbytes_before = 0;
  }
}

Status lay_out(Plan& plan) {
  struct Entry {
    Place place;
    uint32_t layer, stored;
  };
  std::vector<std::vector<Entry>> order(plan.graph.components.size());
  for (uint32_t i = 0; i < plan.layers.size(); ++i) {
    const LayerPlan& layer = plan.layers[i];
    if (layer.shared_with >= 0) continue;
    for (uint32_t s = 0; s < layer.stored.size(); ++s) {
      order[plan.layer_of(layer).component].push_back({place_of_stored(plan, layer, s), i, s});
    }
  }
  for (uint32_t component = 0; component < order.size(); ++component) {
    std::stable_sort(order[component].begin(), order[component].end(),
                     [](const Entry& a, const Entry& b) { return a.place < b.place; });
    uint64_t at = 0;
    for (const Entry& entry : order[component]) {
      Stored& stored = plan.layers[entry.layer].stored[entry.stored];
      auto offset = checked_align(at, stored.slab_align());
      auto end = offset ? checked_add(*offset, stored.slab_nbytes()) : std::nullopt;
      if (!end) {
        return Error{Code::invalid_checkpoint, "stored tensors exceed 2^64 bytes",
                     escaped(plan.graph.components[component].name), "", ""};
      }
      stored.offset = *offset;
      at = *end;
    }
    plan.slabs[component].nbytes = (at + kPageNbytes - 1) & ~(kPageNbytes - 1);
  }
  for (LayerPlan& layer : plan.layers) {
    if (layer.shared_with < 0) continue;
    const LayerPlan& owner = plan.layers[static_cast<size_t>(layer.shared_with)];
    for (size_t s = 0; s < layer.stored.size(); ++s) {
      layer.stored[s].offset = owner.stored[s].offset;
    }
  }
  return {};
}

namespace {

uint32_t count_gpus(const Plan& plan) {
  std::set<int32_t> gpus;
  for (const Slab& slab : plan.slabs) {
    if (slab.target.kind == LS_TARGET_CUDA && slab.nbytes != 0) gpus.insert(slab.target.index);
  }
  return static_cast<uint32_t>(gpus.size());
}

/// What the slots may take of the ring's bound: where there are GPUs most goes to pinned buffers.
uint64_t slots_bound(const LoadOptions& options, const Flow& flow) {
  return flow.gpus == 0 ? options.ring_nbytes : options.ring_nbytes / kSlotsShare;
}

/// Fewer threads with whole buffers beat many with scraps: 16 with a page each brought 2.9 GB/s
/// over where the same with 2 MiB bring 46.
unsigned most_workers(const LoadOptions& options, const Flow& flow) {
  if (flow.gpus == 0) return kMaxWorkers;
  const uint64_t pinned = options.ring_nbytes - slots_bound(options, flow);
  const uint64_t each = uint64_t{2} * flow.gpus * kLeastPinnedNbytes;
  return static_cast<unsigned>(std::clamp<uint64_t>(pinned / each, 1, kMaxWorkers));
}

/// Two buffers a worker and GPU, together with the ring within its bound.
void set_pinned(const Plan& plan, uint64_t sources, Flow& flow) {
  if (flow.gpus == 0) return;
  uint64_t ring = flow.slots * flow.slot_nbytes;
  uint64_t left = plan.options.ring_nbytes - std::min(plan.options.ring_nbytes, ring);
  uint64_t buffers = 2 * flow.workers * flow.gpus;
  uint64_t each = std::min(left, sources) / buffers / kPageNbytes * kPageNbytes;
  flow.pinned_nbytes = std::clamp(each, kPageNbytes, kPinnedNbytes);
}

/// Room for the largest piece of a layer that a GPU makes, and for its scratch.
void set_stage(const Plan& plan, std::span<const uint32_t> order, Flow& flow) {
  uint64_t piece{}, scratch{};
  bool any = false;
  for (uint32_t index : order) {
    const LayerPlan& layer = plan.layers[index];
    if (!made_on_gpu(plan, layer)) continue;
    any = true;
    scratch = std::max(scratch, layer.feed_scratch);
    for (const Source& source : layer.sources) {
      uint64_t rows = std::min(source.granule, source.row_count);
      piece = std::max(piece, rows * row_nbytes(plan.entry_of(layer, source.tensor)));
    }
  }
  if (!any) return;
  flow.stage_nbytes = round_gpu(std::max(piece, flow.pinned_nbytes));
  flow.stage_scratch_nbytes = round_gpu(scratch);
}

/// Slots of the ring: no more than fit it, than threads can hold, than a small model fills.
void set_ring(const Plan& plan, std::span<const uint32_t> order, uint64_t sources, Flow& flow) {
  const bool needed = std::any_of(order.begin(), order.end(), [&](uint32_t index) {
    return cost_of(plan, plan.layers[index], flow).needs_slot;
  });
  if (!needed) return;
  uint64_t fit = slots_bound(plan.options, flow) / flow.slot_nbytes;
  uint64_t fill = (sources + flow.slot_nbytes - 1) / flow.slot_nbytes;
  flow.slots =
      static_cast<uint32_t>(std::max<uint64_t>(std::min({fit, fill, uint64_t{flow.workers}}), 1));
}

/// Layers into units, and what may be in flight of them.
void set_units(const Plan& plan, std::span<const uint32_t> order, Flow& flow) {
  uint64_t sum{}, largest{}, largest_feed{}, unit_source{}, on_gpu{}, largest_on_gpu{};
  for (uint32_t i = 0; i < order.size(); ++i) {
    const LayerPlan& layer = plan.layers[order[i]];
    LayerCost cost = cost_of(plan, layer, flow);
    uint64_t source = source_nbytes(plan, layer);
    bool joins = !flow.units.empty() && flow.units.back().count < kUnitLayers &&
                 unit_source + source <= kUnitSourceNbytes &&
                 flow.units.back().held_nbytes + cost.held_nbytes <= kUnitHeldNbytes;
    if (!joins) {
      flow.units.emplace_back().begin = i;
      unit_source = 0;
    }
    Unit& unit = flow.units.back();
    unit.count += 1;
    unit.held_nbytes += cost.held_nbytes;
    unit.feed_nbytes = std::max(unit.feed_nbytes, cost.feed_nbytes);
    unit.gpu_nbytes += cost.gpu_nbytes;
    unit_source += source;
    sum += cost.held_nbytes;
    on_gpu += cost.gpu_nbytes;
    largest = std::max(largest, unit.held_nbytes + unit.feed_nbytes);
    largest_feed = std::max(largest_feed, unit.feed_nbytes);
    largest_on_gpu = std::max(largest_on_gpu, unit.gpu_nbytes);
  }
  // Never more than everything at once, never less than the largest unit alone.
  flow.in_flight_nbytes = std::min(largest + kFlightSlackNbytes, sum + largest_feed * flow.workers);
  flow.gpu_flight_nbytes = std::min(largest_on_gpu + kGpuFlightSlackNbytes, on_gpu);
}

}  // namespace

Flow make_flow(const Plan& plan, std::span<const uint32_t> order) {
  const LoadOptions& options = plan.options;
  Flow flow;
  flow.gpus = count_gpus(plan);
  flow.workers = std::clamp(options.threads, 1u, most_workers(options, flow));
  uint64_t slot =
      std::max(std::min(options.piece_nbytes, slots_bound(options, flow)), kMinSlotNbytes);
  flow.slot_nbytes = round64(slot);
  uint64_t sources = 0;
  for (uint32_t index : order) sources += source_nbytes(plan, plan.layers[index]);
  set_ring(plan, order, sources, flow);
  set_pinned(plan, sources, flow);
  set_stage(plan, order, flow);
  set_units(plan, order, flow);
  return flow;
}

namespace {

/// Where a GPU's layers are made is said, not left to be guessed from the rate.
void note_where_made(Plan& plan) {
  uint64_t on_gpu = 0;
  std::map<std::string, uint64_t> on_host;  // by reason
  for (uint32_t index : plan.schedule) {
    const LayerPlan& layer = plan.layers[index];
    on_gpu += made_on_gpu(plan, layer);
    if (std::string why = why_made_on_host(plan, layer); !why.empty()) on_host[why] += 1;
  }
  if (on_gpu != 0) {
    plan.notes.push_back(std::to_string(on_gpu) +
                         " layers are quantized on their GPU, piece by piece as they arrive");
  }
  for (const auto& [why, layers] : on_host) {
    plan.notes.push_back(std::to_string(layers) +
                         " layers for a GPU are made in host memory and sent whole: " + why);
  }
}

}  // namespace

void schedule(Plan& plan) {
  std::vector<std::pair<Place, uint32_t>> order;
  for (uint32_t i = 0; i < plan.layers.size(); ++i) {
    LayerPlan& layer = plan.layers[i];
    if (layer.shared_with >= 0) continue;
    if (layer.stored.empty() && layer.sources.empty()) continue;
    // Just read pages come back from the page cache; holding pays only while it is cheap.
    layer.reread = layer.passes == 2 && !made_on_gpu(plan, layer) &&
                   streamed_nbytes(plan, layer) > plan.options.ring_nbytes / 8;
    order.emplace_back(first_place(plan, layer), i);
  }
  std::sort(order.begin(), order.end());
  plan.schedule.clear();
  for (const auto& [place, index] : order) plan.schedule.push_back(index);
  note_where_made(plan);
  plan.flow = make_flow(plan, plan.schedule);

  if (plan.flow.workers < std::min(plan.options.threads, kMaxWorkers)) {
    plan.notes.push_back("load.ring of " + human_nbytes(plan.options.ring_nbytes) +
                         " is enough for " + std::to_string(plan.flow.workers) + " of " +
                         std::to_string(plan.options.threads) + " threads");
  }

  plan.peaks = {};
  plan.peaks.ring = plan.flow.slots * plan.flow.slot_nbytes;
  plan.peaks.pinned = 2 * plan.flow.workers * plan.flow.gpus * plan.flow.pinned_nbytes;
  plan.peaks.in_flight = plan.flow.in_flight_nbytes;
  uint64_t host = 0;
  for (const Slab& slab : plan.slabs) {
    plan.peaks.stored += slab.nbytes;
    (slab.target.kind == LS_TARGET_CUDA ? plan.peaks.device : host) += slab.nbytes;
  }
  plan.peaks.stored_on_devices = plan.peaks.device;
  plan.peaks.staging =
      plan.flow.gpus *
      (plan.flow.workers * (plan.flow.stage_nbytes + plan.flow.stage_scratch_nbytes) +
       plan.flow.gpu_flight_nbytes);
  plan.peaks.device += plan.peaks.staging;
  plan.peaks.host = host + plan.peaks.ring + plan.peaks.pinned + plan.peaks.in_flight;
}

}  // namespace loadstone::plan
