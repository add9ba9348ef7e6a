#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <set>
#include <thread>

#include "base/text.hpp"
#include "load/engine.hpp"
#include "load/fit.hpp"
#include "load/loaded_model.hpp"

namespace loadstone::load {

namespace {

uint64_t resident_now() {
  std::ifstream statm("/proc/self/statm");
  uint64_t total = 0, resident = 0;
  if (!(statm >> total >> resident)) return 0;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

uint64_t resident_peak() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

Status check_targets(const plan::Plan& plan) {
  for (const plan::Slab& slab : plan.slabs) {
    if (slab.target.kind == LS_TARGET_CPU || slab.target.index >= 0 || slab.nbytes == 0) continue;
    return Error{Code::unsupported, "cannot load onto this device",
                 escaped(plan.graph.components[slab.component].name),
                 "found " + quoted(slab.target.name) +
                     ", expected cpu or cuda:N (a kind of GPU "
                     "can be planned for, not loaded onto)",
                 ""};
  }
  return {};
}

/// "changed while reading" if size, mtime or inode of a file that was read differs from when its
/// header was read.
Status check_unchanged(const plan::Plan& plan) {
  std::set<uint32_t> files;
  for (uint32_t index : plan.schedule) {
    const plan::LayerPlan& layer = plan.layers[index];
    for (const auto& source : layer.sources) files.insert(plan.entry_of(layer, source.tensor).file);
    for (const auto& identity : layer.identities) {
      files.insert(plan.entry_of(layer, identity.tensor).file);
    }
    for (const auto& cast : layer.casts) files.insert(plan.entry_of(layer, cast.tensor).file);
  }
  for (uint32_t index : files) {
    LS_CHECK(formats::check_unchanged(plan.checkpoint->files[index]));
  }
  return {};
}

/// Bytes a second of plain reads of the same files by as many threads into reused buffers.
double measure_ceiling(const plan::Plan& plan) {
  constexpr uint64_t kPiece = 1u << 20, kLimit = 1u << 30;
  std::vector<std::pair<uint32_t, uint64_t>> pieces;  // file, offset
  for (uint32_t f = 0; f < plan.checkpoint->files.size(); ++f) {
    uint64_t nbytes = plan.checkpoint->files[f].identity.nbytes;
    for (uint64_t at = 0; at + kPiece <= nbytes && pieces.size() * kPiece < kLimit; at += kPiece) {
      pieces.emplace_back(f, at);
    }
  }
  if (pieces.empty()) return 0;
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  auto start = Clock::now();
  auto read_all = [&] {
    std::vector<std::byte> buffer(kPiece);
    for (size_t i = next++; i < pieces.size() && !failed; i = next++) {
      const File& file = *plan.checkpoint->files[pieces[i].first].file;
      if (!file.read_exact(buffer, pieces[i].second).ok()) failed = true;
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < plan.flow.workers; ++i) threads.emplace_back(read_all);
  read_all();
  for (std::thread& thread : threads) thread.join();
  double seconds = seconds_since(start);
  return failed || seconds <= 0 ? 0 : static_cast<double>(pieces.size() * kPiece) / seconds;
}

}  // namespace

LoadedModel::LoadedModel(std::shared_ptr<const plan::Plan> plan, std::vector<ModelSlab> slabs,
                         Report report)
    : plan_(std::move(plan)), slabs_(std::move(slabs)), report_(std::move(report)) {}

const plan::LayerPlan& LoadedModel::owner_of(uint32_t layer) const {
  const plan::LayerPlan& own = plan_->layers[layer];
  return own.shared_with < 0 ? own : plan_->layers[static_cast<size_t>(own.shared_with)];
}

std::byte* LoadedModel::stored(uint32_t layer, uint32_t index) const {
  const plan::LayerPlan& owner = owner_of(layer);
  return slabs_[plan_->layer_of(owner).component].data() + owner.stored[index].offset;
}

int32_t LoadedModel::gpu_of(uint32_t layer) const {
  return plan_->slabs[plan_->layer_of(owner_of(layer)).component].target.index;
}

Result<LoadedModel> load(std::shared_ptr<const plan::Plan> plan, const LoadControl& control) {
  LS_CHECK(check_targets(*plan));
  LS_CHECK(check_fits(*plan));
  auto start = Clock::now();
  Report report;
  report.predicted_peak_host = plan->peaks.host;
  report.predicted_peak_device = plan->peaks.device;
  report.resident_before_nbytes = resident_now();
  MemoryAccount account;
  std::vector<ModelSlab> slabs;
  SlabPages pages;
  for (const plan::Slab& slab : plan->slabs) {
    ModelSlab memory;
    if (slab.target.index >= 0) {
      LS_TRY(memory.device,
             device::Memory::allocate(static_cast<uint32_t>(slab.target.index), slab.nbytes));
      report.measured_peak_device += memory.device.nbytes();
    } else {
      LS_TRY(memory.host, HostSlab::allocate(slab.nbytes));
      account.add(memory.host.nbytes());
      pages.add(memory.host.data(), memory.host.nbytes());
    }
    slabs.push_back(std::move(memory));
  }
  report.phases.push_back({"allocate", seconds_since(start), plan->peaks.stored, false});

  StoredPlace place = [&](uint32_t layer, uint32_t stored) {
    const plan::LayerPlan& owner = plan->layers[layer];
    return slabs[plan->layer_of(owner).component].data() + owner.stored[stored].offset;
  };
  auto moving = Clock::now();
  LS_TRY(EngineTotals totals,
         run_engine(*plan, plan->flow, plan->schedule, place, &pages, account, control));
  report.measured_peak_device += totals.staging_nbytes;
  report.phases.push_back({"load", seconds_since(moving), totals.read_nbytes, false});
  report.phases.push_back({"admit", totals.admit_seconds, 0, true});
  report.phases.push_back({"read", totals.read_seconds, totals.read_nbytes, true});
  report.phases.push_back({"produce", totals.feed_seconds, totals.fed_nbytes, true});
  report.phases.push_back({"end", totals.end_seconds, 0, true});
  report.phases.push_back({"pin", totals.pin_seconds, plan->peaks.pinned, true});
  report.phases.push_back({"wait", totals.wait_seconds, 0, true});
  report.phases.push_back({"idle", totals.idle_seconds, 0, true});
  report.phases.push_back({"arrive", totals.arrive_seconds, 0, true});
  report.phases.push_back({"release", totals.release_seconds, 0, false});

  auto checking = Clock::now();
  LS_CHECK(check_unchanged(*plan));
  if (control.cancel != nullptr && control.cancel->cancelled()) {
    return Error{Code::cancelled, "load cancelled", "", "", ""};
  }
  report.phases.push_back({"verify", seconds_since(checking), 0, false});
  report.seconds = seconds_since(start);
  report.read_nbytes = totals.read_nbytes;
  report.reads = totals.reads;
  report.measured_peak_host = account.peak();
  report.resident_peak_nbytes = resident_peak();
  if (control.measure_ceiling) report.ceiling_nbytes_per_second = measure_ceiling(*plan);
  return LoadedModel(std::move(plan), std::move(slabs), std::move(report));
}

}  // namespace loadstone::load
