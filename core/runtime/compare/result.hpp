// The result of a comparison and its JSON (the reference tool's schema: keys sorted, indent 2;
// an infinite value is the string "inf"). What is ours alone lies under the key "loadstone".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/tree.hpp"
#include "runtime/compare/guidance.hpp"
#include "runtime/compare/metrics.hpp"

namespace loadstone::compare {

/// One side as it was asked for.
struct VariantConfig {
  std::string label;
  std::string model;
  std::optional<std::string> quantization;  // absent when a config exists
  std::optional<Node> quantization_config;
  std::string load_format = "default";
};

struct Sampling {
  std::string task = "t2i";
  uint32_t width = 1024, height = 1024;
  std::optional<uint32_t> num_frames;  // t2v only
  uint32_t num_inference_steps = 50;
  double guidance_scale = 4.0;
  double cfg_scale = 4.0;
  std::optional<double> guidance_scale_2;
  std::optional<double> flow_shift;
  uint32_t num_images_per_prompt = 1;
  bool step_execution = false;
};

/// Measured runs of one side; warm-up runs aren't in it. Memory is absent where it can't be
/// measured.
struct Generation {
  std::vector<double> run_seconds;
  std::vector<std::optional<double>> run_peak_mib;
  double load_seconds = 0;
  uint64_t stored_nbytes = 0;

  double average_seconds() const;
  std::optional<double> last_peak_mib() const;  // the last run that has one
  std::optional<double> average_peak_mib() const;
  std::optional<double> max_peak_mib() const;
};

/// Errors of one quantized layer: relative L2 of its dequantized weight against the reference's,
/// and of its output against the reference's product of the same input. Absent: not measured.
struct LayerError {
  std::string component;
  std::string layer;
  std::string method;
  std::optional<double> weight;
  std::optional<double> output;
};

struct Comparison {
  // Two folders of pictures are compared without a model: then `reference_dir` is set, and
  // everything about generation is absent.
  std::optional<std::string> reference_dir, candidate_dir;
  std::string model;
  std::string prompt;
  std::optional<std::string> negative_prompt;
  uint64_t seed = 42;
  uint32_t warmup_runs = 0, measure_runs = 1;
  VariantConfig reference_config, candidate_config;
  Sampling sampling;
  Generation reference_generation, candidate_generation;
  FrameMetrics metrics;
  std::vector<LayerError> layers;
  std::vector<std::string> notes;
  std::optional<Gate> gate;
  bool outputs_saved = false;
  std::vector<std::string> reference_outputs, candidate_outputs;  // paths

  /// Candidate / reference; nullopt where a side is missing or 0.
  std::optional<double> time_ratio() const;
  std::optional<double> memory_ratio() const;
};

/// The JSON text, with a final newline.
std::string to_json(const Comparison& result);

}  // namespace loadstone::compare
