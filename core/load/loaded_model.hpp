// LoadedModel: the plan with its stored tensors in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/parallel.hpp"
#include "base/progress.hpp"
#include "base/result.hpp"
#include "device/cuda.hpp"
#include "plan/plan.hpp"

namespace loadstone::load {

/// Host memory of one slab on a huge page's boundary, freed with the model. Pages come with the
/// first write (SlabPages brings them earlier).
class HostSlab {
 public:
  static Result<HostSlab> allocate(uint64_t nbytes);
  HostSlab() = default;
  HostSlab(HostSlab&& other) noexcept;
  HostSlab& operator=(HostSlab&& other) noexcept;
  ~HostSlab();
  std::byte* data() const { return data_; }
  uint64_t nbytes() const { return nbytes_; }

 private:
  std::byte* data_ = nullptr;
  uint64_t nbytes_ = 0;
  uint64_t mapped_nbytes_ = 0;
};

/// A component's slab, in host memory or on a GPU.
struct ModelSlab {
  HostSlab host;
  device::Memory device;
  std::byte* data() const { return host.data() != nullptr ? host.data() : device.data(); }
};

/// Seconds of a phase: of the clock, or summed over threads where several work at once.
struct PhaseTime {
  std::string name;
  double seconds = 0;
  uint64_t nbytes = 0;
  bool summed = false;
};

/// `load --report`: what happened, beside what the plan said.
struct Report {
  std::vector<PhaseTime> phases;
  uint64_t read_nbytes = 0;
  uint64_t reads = 0;
  double seconds = 0;
  double ceiling_nbytes_per_second = 0;  // plain reads afterwards; 0: not measured
  uint64_t predicted_peak_host = 0, measured_peak_host = 0;       // accounted bytes
  uint64_t predicted_peak_device = 0, measured_peak_device = 0;   // stored on GPUs
  uint64_t resident_peak_nbytes = 0, resident_before_nbytes = 0;  // of the process
  Node to_node(const plan::Plan& plan) const;
};

/// A loaded model. Immutable, shareable between threads.
class LoadedModel {
 public:
  const plan::Plan& plan() const { return *plan_; }
  std::shared_ptr<const plan::Plan> shared_plan() const { return plan_; }
  const Report& report() const { return report_; }

  /// Bytes of stored tensor `index` of layer plan `layer` (64-byte aligned; of the packed form
  /// where the plan has one). Shared tensors have one place. An address of the GPU if gpu_of() says
  /// so.
  std::byte* stored(uint32_t layer, uint32_t index) const;
  /// The GPU that layer plan `layer` lives on, or -1: host memory.
  int32_t gpu_of(uint32_t layer) const;

  LoadedModel(std::shared_ptr<const plan::Plan> plan, std::vector<ModelSlab> slabs, Report report);
  LoadedModel(LoadedModel&&) noexcept = default;
  LoadedModel& operator=(LoadedModel&&) noexcept = default;

 private:
  std::shared_ptr<const plan::Plan> plan_;
  const plan::LayerPlan& owner_of(uint32_t layer) const;

  std::vector<ModelSlab> slabs_;
  Report report_;
};

struct LoadControl {
  const CancelToken* cancel = nullptr;
  ProgressSink progress;
  /// Reads up to 1 GiB of the same files again, into reused buffers, for the report.
  bool measure_ceiling = false;
};

/// Follows the plan and decides nothing. Errors: io (changed while reading, EIO), cancelled,
/// resource, unsupported (a GPU that is not here, a kind of GPU), and what methods refuse
/// (non-finite weights, illegal codes). No half-made model is ever returned.
Result<LoadedModel> load(std::shared_ptr<const plan::Plan> plan, const LoadControl& control = {});

}  // namespace loadstone::load
