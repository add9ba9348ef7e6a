#include "load/fit.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/text.hpp"
#include "device/cuda.hpp"

namespace loadstone::load {

namespace {

using Slabs = std::vector<const plan::Slab*>;  // of one GPU, largest first

std::map<int32_t, Slabs> slabs_by_gpu(const plan::Plan& plan) {
  std::map<int32_t, Slabs> out;
  for (const plan::Slab& slab : plan.slabs) {
    if (slab.target.index >= 0 && slab.nbytes != 0) out[slab.target.index].push_back(&slab);
  }
  for (auto& [gpu, slabs] : out) {
    std::stable_sort(slabs.begin(), slabs.end(), [](const plan::Slab* a, const plan::Slab* b) {
      return a->nbytes > b->nbytes;
    });
  }
  return out;
}

std::string name_of(const plan::Plan& plan, const plan::Slab& slab) {
  return escaped(plan.graph.components[slab.component].name);
}

/// Of each GPU.
uint64_t staging_of(const plan::Plan& plan) {
  return plan.flow.gpus == 0 ? 0 : plan.peaks.staging / plan.flow.gpus;
}

/// "transformer 6.0 GiB, vae 1.0 GiB, staging 0.3 GiB"
std::string shares(const plan::Plan& plan, const Slabs& slabs) {
  constexpr size_t kNamed = 4;
  std::vector<std::string> words;
  for (const plan::Slab* slab : slabs) {
    words.push_back(name_of(plan, *slab) + " " + human_nbytes(slab->nbytes));
  }
  std::string out = join(words, ", ", kNamed);
  const uint64_t staging = staging_of(plan);
  if (staging != 0) out += ", staging " + human_nbytes(staging);
  return out;
}

/// Whether tensors of another component lie in this one's slab: they would not move with it.
bool lends(const plan::Plan& plan, uint32_t component) {
  return std::any_of(plan.layers.begin(), plan.layers.end(), [&](const plan::LayerPlan& layer) {
    if (layer.shared_with < 0 || plan.layer_of(layer).component == component) return false;
    const auto& owner = plan.layers[static_cast<size_t>(layer.shared_with)];
    return plan.layer_of(owner).component == component;
  });
}

/// The smallest component without which the rest fits, as a setting; "" if none is enough.
std::string on_cpu(const plan::Plan& plan, const Slabs& slabs, uint64_t excess) {
  for (auto slab = slabs.rbegin(); slab != slabs.rend(); ++slab) {
    if ((*slab)->nbytes < excess || lends(plan, (*slab)->component)) continue;
    return "load.place: {" + name_of(plan, **slab) + ": cpu} (" + human_nbytes((*slab)->nbytes) +
           " less)";
  }
  return "";
}

Error exceeds(const plan::Plan& plan, int32_t gpu, const Slabs& slabs, uint64_t peak,
              uint64_t free) {
  std::string found = human_nbytes(peak), expected = human_nbytes(free);
  if (found == expected) {
    found = std::to_string(peak) + " bytes";
    expected = std::to_string(free) + " bytes";
  }
  return Error{Code::resource, "plan exceeds device memory", "cuda:" + std::to_string(gpu),
               "found " + found + " predicted peak (" + shares(plan, slabs) +
                   "), expected at most " + expected + " (free now)",
               on_cpu(plan, slabs, peak - free)};
}

}  // namespace

Status check_fits(const plan::Plan& plan) {
  for (const auto& [gpu, slabs] : slabs_by_gpu(plan)) {
    LS_TRY(const uint64_t free, device::free_nbytes(static_cast<uint32_t>(gpu)));
    uint64_t peak = staging_of(plan);
    for (const plan::Slab* slab : slabs) peak += slab->nbytes;
    if (peak > free) return exceeds(plan, gpu, slabs, peak, free);
  }
  return {};
}

}  // namespace loadstone::load
