// Planning true-size models: for every tensor list of LOADSTONE_SHARED/models/headers and every
// ready file of its family, the median time of graph and plan, and what became of the layers.
//
//   plan_bench [ROUNDS]     default 5
//
// A table on stdout, wall and processor time (with which other work on the machine doesn't count).
// Exit 3 when a median of the latter is a second or more.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>

#include "../configs/planned.hpp"

namespace {

using namespace loadstone;
using testing::ReadyConfig;
using Clock = std::chrono::steady_clock;

constexpr double kMaxSeconds = 1.0;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// One line; the median of processor seconds.
Result<double> measure(testing::Planned& planned, const ReadyConfig& ready, int rounds) {
  const auto checkpoint = planned.checkpoint(ready);
  LS_TRY(const config::QuantConfig quantization, planned.quantization(ready));
  std::vector<double> wall, processor;
  std::map<plan::Decision, size_t> decisions;
  size_t components = 0, layers = 0, tensors = 0;
  for (const auto& component : checkpoint->components) tensors += component.tensors.size();
  for (int round = 0; round < rounds; ++round) {
    const auto begin = Clock::now();
    const std::clock_t ticks = std::clock();
    LS_TRY(const plan::Plan plan, planned.plan(checkpoint, quantization));
    wall.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    processor.push_back(static_cast<double>(std::clock() - ticks) / CLOCKS_PER_SEC);
    decisions.clear();
    for (const plan::LayerPlan& layer : plan.layers) ++decisions[layer.decision];
    components = plan.graph.components.size();
    layers = plan.layers.size();
  }
  fmt::print(
      "{:<22} {:<36} {:>2} components {:>6} tensors {:>5} layers: {:>4} quantized"
      " {:>5} kept {:>7.1f} ms, processor {:>7.1f}\n",
      ready.header.stem().stem().string(), ready.file.filename().string(), components, tensors,
      layers, decisions[plan::Decision::quantize], decisions[plan::Decision::keep],
      median(wall) * 1e3, median(processor) * 1e3);
  return median(processor);
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 5;
  testing::Planned planned;
  double worst = 0;
  for (const ReadyConfig& ready : testing::ready_configs()) {
    if (ready.header.empty()) continue;
    const auto seconds = measure(planned, ready, rounds);
    if (!seconds.ok()) {
      fmt::print(stderr, "{}\n", seconds.error().text());
      return 1;
    }
    worst = std::max(worst, *seconds);
  }
  fmt::print("slowest {:.1f} ms\n", worst * 1e3);
  return worst < kMaxSeconds ? 0 : 3;
}
