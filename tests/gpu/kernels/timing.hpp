// Test side only: how long calls on the GPU take.
#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "kernels/device.hpp"

namespace loadstone::gpu_kernels {

/// Microseconds of one call of each: medians of nine runs of `kCalls`, taken in turn, for the clock
/// falls as the chip warms.
inline std::vector<double> times_of(const std::vector<std::function<void()>>& calls) {
  constexpr int kCalls = 20, kRuns = 9;
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  std::vector<std::vector<float>> runs(calls.size());
  for (int run = 0; run < kRuns; ++run) {
    for (size_t i = 0; i < calls.size(); ++i) {
      calls[i]();
      check(cudaEventRecord(begin, nullptr));
      for (int call = 0; call < kCalls; ++call) calls[i]();
      check(cudaEventRecord(end, nullptr));
      check(cudaEventSynchronize(end));
      float ms = 0;
      check(cudaEventElapsedTime(&ms, begin, end));
      runs[i].push_back(ms * 1000.0f / kCalls);
    }
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::vector<double> out;
  for (std::vector<float>& one : runs) {
    std::sort(one.begin(), one.end());
    out.push_back(one[kRuns / 2]);
  }
  return out;
}
inline double time_of(const std::function<void()>& call) { return times_of({call})[0]; }

/// Microseconds of one of `calls` that a graph holds, as a step replays them: the median of five.
inline double graph_time_of(int calls, const std::function<void(cudaStream_t)>& call) {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  call(stream);
  check(cudaStreamSynchronize(stream));
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < calls; ++i) call(stream);
  check(cudaStreamEndCapture(stream, &graph));
  check(cudaGraphInstantiate(&replay, graph, 0));
  const auto run = [&] {
    check(cudaGraphLaunch(replay, stream));
    check(cudaStreamSynchronize(stream));
  };
  run();
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  std::vector<float> runs;
  for (int i = 0; i < 5; ++i) {
    check(cudaEventRecord(begin, stream));
    run();
    check(cudaEventRecord(end, stream));
    check(cudaEventSynchronize(end));
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end));
    runs.push_back(ms * 1000.0f / static_cast<float>(calls));
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  std::sort(runs.begin(), runs.end());
  return runs[2];
}

}  // namespace loadstone::gpu_kernels
