// A model written quantized: a checkpoint that loads again without requantizing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "load/loaded_model.hpp"

namespace loadstone::load {

struct QuantizeOptions {
  std::string output;      // folder; appears whole at the end
  bool overwrite = false;  // a model's folder that stands there is exchanged in one step
};

struct QuantizedComponent {
  std::string name;
  std::string method;                            // "" : copied
  uint64_t layers = 0;                           // of them quantized
  uint64_t nbytes_before = 0, nbytes_after = 0;  // of tensors
};

struct QuantizeReport {
  std::vector<QuantizedComponent> components;
  std::vector<std::string> notes;
  double seconds = 0;
};

/// Components with newly quantized layers are written in their method's serialized form with its
/// declaration in config.json (ggml's block types: as one GGUF file under the family's original
/// names), everything else is copied, and so are tokenizers and other small
/// files. Pickles, weights that no component reads and hidden files stay behind. Layers go through
/// memory a few at a time.
/// Errors: invalid_argument (the output's place, or one inside its own source), invalid_config
/// (nothing to quantize), unsupported (two methods in one component, a method or layer without a
/// serialized form, a family without a name adapter for GGUF, a model that is no folder), and as
/// make_plan and load. Nothing is left behind.
Result<QuantizeReport> quantize(std::shared_ptr<const formats::Checkpoint> checkpoint,
                                graph::Graph graph, const config::QuantConfig& quantization,
                                plugin::Registry& registry, const QuantizeOptions& options,
                                const LoadControl& control = {});

}  // namespace loadstone::load
