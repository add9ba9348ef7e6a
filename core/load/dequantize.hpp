// A checkpoint as float32 safetensors in the names of the unquantized one (design/COMMANDS:
// dequantize).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "load/loaded_model.hpp"
#include "plugin/registry.hpp"

namespace loadstone::load {

struct DequantizeOptions {
  std::string output;    // folder; made if its parent exists
  bool fold = false;     // multiply input scales into weights instead of writing X.input_mul
  unsigned threads = 0;  // 0: auto
};

struct DequantizedFile {
  std::string path;
  uint64_t tensors = 0;
  uint64_t weights = 0;  // of them dequantized
  uint64_t nbytes = 0;   // of tensor content
};

struct DequantizeReport {
  std::vector<DequantizedFile> files;
  std::vector<std::string> notes;
  double seconds = 0;
};

/// Every declared layer dequantized by its method, everything else widened; layers go through
/// memory a few at a time, so that memory doesn't depend on the model's size. All files appear
/// together at the end or none does.
/// Errors: as make_plan and load; invalid_argument for an output that can't be written;
/// unsupported (a method that can't dequantize, a dtype without a float32 form).
Result<DequantizeReport> dequantize(std::shared_ptr<const formats::Checkpoint> checkpoint,
                                    graph::Graph graph, plugin::Registry& registry,
                                    const DequantizeOptions& options,
                                    const LoadControl& control = {});

}  // namespace loadstone::load
