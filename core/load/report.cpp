#include <map>

#include "load/loaded_model.hpp"

namespace loadstone::load {

namespace {

Node integer(uint64_t value) { return Node::of_integer(static_cast<int64_t>(value)); }

/// Layers and bytes per method; kept layers under "keep".
Node methods_node(const plan::Plan& plan) {
  struct Sum {
    uint64_t layers = 0, before = 0, after = 0;
  };
  std::map<std::string, Sum> sums;
  for (const plan::LayerPlan& layer : plan.layers) {
    if (layer.decision == plan::Decision::split) continue;
    Sum& sum = sums[layer.method.empty() ? "keep" : layer.method];
    sum.layers += 1;
    sum.before += layer.nbytes_before;
    sum.after += layer.nbytes_after;
  }
  std::vector<Node::Entry> entries;
  for (const auto& [name, sum] : sums) {
    entries.emplace_back(name, Node::of_map({{"layers", integer(sum.layers)},
                                             {"bytes_before", integer(sum.before)},
                                             {"bytes_after", integer(sum.after)}}));
  }
  return Node::of_map(std::move(entries));
}

}  // namespace

Node Report::to_node(const plan::Plan& plan) const {
  std::vector<Node> phase_nodes;
  for (const PhaseTime& phase : phases) {
    phase_nodes.push_back(
        Node::of_map({{"name", Node::of_text(phase.name)},
                      {"seconds", Node::of_number(phase.seconds)},
                      {"seconds_are", Node::of_text(phase.summed ? "of all threads" : "elapsed")},
                      {"bytes", integer(phase.nbytes)}}));
  }
  double rate = seconds > 0 ? static_cast<double>(read_nbytes) / seconds : 0;
  std::vector<Node::Entry> rates{{"bytes_per_second", Node::of_number(rate)}};
  if (ceiling_nbytes_per_second > 0) {
    rates.emplace_back("ceiling_bytes_per_second", Node::of_number(ceiling_nbytes_per_second));
    rates.emplace_back("of_ceiling", Node::of_number(rate / ceiling_nbytes_per_second));
  }
  uint64_t growth = resident_peak_nbytes > resident_before_nbytes
                        ? resident_peak_nbytes - resident_before_nbytes
                        : 0;
  return Node::of_map({
      {"model", Node::of_text(plan.checkpoint->path)},
      {"target", Node::of_text(plan.target.name)},
      {"seconds", Node::of_number(seconds)},
      {"read_bytes", integer(read_nbytes)},
      {"reads", integer(reads)},
      {"threads", integer(plan.flow.workers)},
      {"phases", Node::of_list(std::move(phase_nodes))},
      {"rate", Node::of_map(std::move(rates))},
      {"peaks", Node::of_map({{"predicted_host", integer(predicted_peak_host)},
                              {"measured_host", integer(measured_peak_host)},
                              {"predicted_device", integer(predicted_peak_device)},
                              {"measured_device", integer(measured_peak_device)},
                              {"stored", integer(plan.peaks.stored)},
                              {"ring", integer(plan.peaks.ring)},
                              {"pinned", integer(plan.peaks.pinned)},
                              {"in_flight", integer(plan.peaks.in_flight)}})},
      {"resident", Node::of_map({{"fixed_overhead", integer(resident_before_nbytes)},
                                 {"peak", integer(resident_peak_nbytes)},
                                 {"growth", integer(growth)}})},
      {"methods", methods_node(plan)},
  });
}

}  // namespace loadstone::load
