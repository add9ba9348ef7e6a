// Planning Qwen-Image at its real size with many rules, patterns among them.
//
//   routing_bench [RULES [ROUNDS]]     default 2000, 5
//
// Needs LOADSTONE_SHARED (models/headers) and the plugins beside it. Text on stderr, JSON on
// stdout. Exit 3 when the median is above 100 ms, or doubling layers or rules costs over 2.3 times.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "../configs/true_size.hpp"
#include "base/file.hpp"
#include "plan/plan.hpp"

namespace {

using namespace loadstone;
using Clock = std::chrono::steady_clock;

constexpr double kMaxSeconds = 0.1, kMaxGrowth = 2.3;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// The model with its blocks `copies` times over.
formats::Checkpoint model_of(int copies) {
  constexpr std::string_view kBlocks = "transformer_blocks.";
  formats::Checkpoint checkpoint =
      testing::at_true_size(testing::shared_folder() / "models/headers/qwen_image.json.gz");
  for (formats::Component& component : checkpoint.components) {
    if (component.name != "transformer") continue;
    const auto once = component.tensors;
    for (int copy = 1; copy < copies; ++copy) {
      for (formats::TensorEntry tensor : once) {
        if (!tensor.name.starts_with(kBlocks)) continue;
        const size_t dot = tensor.name.find('.', kBlocks.size());
        const int block = std::atoi(tensor.name.c_str() + kBlocks.size()) + 60 * copy;
        tensor.name = std::string(kBlocks) + std::to_string(block) + tensor.name.substr(dot);
        component.tensors.push_back(std::move(tensor));
      }
    }
  }
  return checkpoint;
}

/// A quarter names one layer each, the rest are globs and expressions; each decides something or
/// says that it needn't.
std::string rules_of(int count) {
  static const char* kLayers[] = {"attn.to_out.0", "attn.to_add_out", "img_mlp.net.2",
                                  "txt_mlp.net.2"};
  std::string out = "version: 1\nmodel: here\nrules:\n";
  const auto say = [&](const std::string& layers) {
    out += "  - {component: transformer, layer: \"" + layers +
           "\", use: {method: fp8}, allow_unmatched: true}\n";
  };
  for (int i = 0; i < count; ++i) {
    const std::string block = std::to_string(i / 4 % 60);
    const std::string number = std::to_string(i);
    if (i % 4 == 0) {
      say(i < 240 * 4
              ? "transformer_blocks." + std::to_string(i / 4 % 60) + "." + kLayers[i / 240 % 4]
              : "transformer_blocks." + std::to_string(1000 + i) + ".attn.to_out.0");
    } else if (i % 4 == 1) {
      say("transformer_blocks." + block + ".*_mlp.net." + number + ".proj");
    } else if (i % 4 == 2) {
      say("*.attn.to_?" + number);
    } else {
      say("re:transformer_blocks\\\\.(" + block + "|9[0-9]+)\\\\.(img|txt)_mlp\\\\..*" + number +
          "x$");
    }
  }
  return out;
}

struct Bench {
  plugin::Registry registry;
  config::Schemas schemas;

  Result<config::QuantConfig> rules(int count) const {
    LS_TRY(Node root, config::parse_yaml(rules_of(count), "rules.yaml"));
    LS_TRY(config::PipelineConfig config, config::build_pipeline_config(root, schemas));
    return config.quantization;
  }

  /// Median seconds of graph and plan.
  Result<double> plan(const config::QuantConfig& wish,
                      const std::shared_ptr<const formats::Checkpoint>& checkpoint, int rounds,
                      size_t& layers) {
    std::vector<double> seconds;
    for (int round = 0; round < rounds; ++round) {
      const auto begin = Clock::now();
      LS_TRY(graph::Graph graph,
             graph::build_graph(*checkpoint, LOADSTONE_SOURCE_DIR "/model_adapters"));
      LS_TRY(const plan::Plan made, plan::make_plan(checkpoint, std::move(graph), wish, registry,
                                                    plan::Target{}, plan::LoadOptions{}));
      seconds.push_back(seconds_since(begin));
      layers = made.layers.size();
    }
    return median(seconds);
  }
};

Result<bool> run(int rules, int rounds) {
  plugin::RegistryOptions options;
  options.dirs = {LOADSTONE_BINARY_DIR "/plugins"};
  options.trust_writable = true;
  LS_TRY(auto registry, plugin::Registry::scan(options));
  LS_TRY(auto schemas, registry.schemas());
  Bench bench{std::move(registry), std::move(schemas)};
  const auto begin = Clock::now();
  LS_TRY(const auto wish, bench.rules(rules));
  const double read_seconds = seconds_since(begin);
  LS_TRY(const auto twice, bench.rules(2 * rules));
  const auto once = std::make_shared<const formats::Checkpoint>(model_of(1));
  const auto doubled = std::make_shared<const formats::Checkpoint>(model_of(2));
  size_t layers = 0, more_layers = 0;
  LS_TRY(const double base, bench.plan(wish, once, rounds, layers));
  LS_TRY(const double by_rules, bench.plan(twice, once, rounds, layers));
  LS_TRY(const double by_layers, bench.plan(wish, doubled, rounds, more_layers));
  const bool passed =
      base <= kMaxSeconds && by_rules <= kMaxGrowth * base && by_layers <= kMaxGrowth * base;
  fmt::print(stderr,
             "{} layers, {} rules, median of {}\n  plan           {:6.1f} ms [{:.0f}]\n  rules x 2 "
             "     {:6.1f} ms, {:.2f} times [{}]\n  layers x 2     {:6.1f} ms, {:.2f} times [{}]\n"
             "  reading YAML   {:6.1f} ms\n",
             layers, rules, rounds, 1e3 * base, 1e3 * kMaxSeconds, 1e3 * by_rules, by_rules / base,
             kMaxGrowth, 1e3 * by_layers, by_layers / base, kMaxGrowth, 1e3 * read_seconds);
  fmt::print(
      "{{\"layers\":{},\"layers_doubled\":{},\"rules\":{},\"rounds\":{},\"plan_seconds\":{:.6f},"
      "\"rules_doubled_seconds\":{:.6f},\"layers_doubled_seconds\":{:.6f},\"yaml_seconds\":{:.6f},"
      "\"passed\":{}}}\n",
      layers, more_layers, rules, rounds, base, by_rules, by_layers, read_seconds, passed);
  return passed;
}

}  // namespace

int main(int argc, char** argv) {
  const int rules = argc > 1 ? std::atoi(argv[1]) : 2000;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 5;
  if (rules < 4 || rounds < 1) {
    fmt::print(stderr, "routing_bench [RULES [ROUNDS]]\n");
    return 2;
  }
  const auto passed = run(rules, rounds);
  if (!passed.ok()) {
    fmt::print(stderr, "routing_bench: {}\n", passed.error().text());
    return 1;
  }
  return *passed ? 0 : 3;
}
