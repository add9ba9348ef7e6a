// Runs a comparison: the reference is opened, warmed up, measured and closed, then the candidate.
// How a side draws is behind an interface; the runtime implements it with LibTorch.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "base/result.hpp"
#include "runtime/compare/result.hpp"

namespace loadstone::compare {

/// One drawing. Each run starts with a fresh generator of this seed.
struct Drawing {
  std::string prompt;
  std::optional<std::string> negative_prompt;
  uint64_t seed = 42;
  Sampling sampling;
};

/// A model in memory, ready to draw.
class Side {
 public:
  virtual ~Side() = default;
  /// Draws and waits until the device is done.
  virtual Result<std::vector<Frame>> draw(const Drawing& drawing) = 0;
  /// Bytes of stored tensors.
  virtual uint64_t stored_nbytes() const = 0;
  /// Errors of every quantized layer against `reference`, over one drawing. Called on the
  /// candidate after its measured runs, when layers were asked for.
  virtual Result<std::vector<LayerError>> layer_errors(const VariantConfig& reference,
                                                       const Drawing& drawing) = 0;
  /// Things to know about the load.
  virtual std::vector<std::string> notes() const { return {}; }
};

using OpenSide = std::function<Result<std::unique_ptr<Side>>(const VariantConfig&)>;

struct Request {
  std::string model;
  VariantConfig reference, candidate;
  Drawing drawing;
  uint32_t warmup_runs = 0;
  uint32_t measure_runs = 1;  // at least 1
  bool layers = false;        // measure errors per layer too
};

struct Outcome {
  Comparison comparison;
  std::vector<Frame> reference, candidate;  // of the last measured runs
};

/// Errors: invalid_argument (no measured run, pictures of unequal sizes), and what a side says,
/// with the side in front.
Result<Outcome> run_comparison(const Request& request, const OpenSide& open);

/// Two folders of pictures made elsewhere.
Result<Outcome> compare_folders(FileSystem& files, const std::string& reference,
                                const std::string& candidate);

}  // namespace loadstone::compare
