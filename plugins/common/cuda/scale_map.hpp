// Which stored scale a row of W has: rows lie in runs (the layer's parts), each with scales of its
// own, one a row, one a block of rows, or one for the run.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define LOADSTONE_ON_BOTH __host__ __device__
#else
#define LOADSTONE_ON_BOTH
#endif

namespace loadstone::common::cuda {

struct ScaleRun {
  uint32_t begin = 0, end = 0;  // rows
  uint32_t phase = 0;           // rows before `begin` in its first block
  int32_t first = 0;            // the scale row of block 0
};

/// Passed to kernels by value.
struct ScaleMap {
  static constexpr int kMaxRuns = 32;

  int count = 0;
  uint32_t height = 1;  // rows of a block; kWhole: one scale a run
  ScaleRun runs[kMaxRuns] = {};

  static constexpr uint32_t kWhole = 0xffffffffu;

  /// One scale a row.
  static ScaleMap rows(uint64_t n) {
    ScaleMap out;
    out.count = 1;
    out.runs[0].end = static_cast<uint32_t>(n);
    return out;
  }
  LOADSTONE_ON_BOTH uint32_t scale_row(uint64_t row) const {
    int i = 0;
    while (i + 1 < count && row >= runs[i].end) ++i;
    const ScaleRun& run = runs[i];
    const uint32_t inside = static_cast<uint32_t>(row) - run.begin + run.phase;
    return static_cast<uint32_t>(run.first) + inside / height;
  }
};

}  // namespace loadstone::common::cuda
