// Drawing with a loaded model. Needs the runtime library (LibTorch); this header does not.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/parallel.hpp"
#include "base/progress.hpp"
#include "base/result.hpp"
#include "load/loaded_model.hpp"
#include "runtime/compare/metrics.hpp"

namespace loadstone::runtime {

using Picture = compare::Frame;

/// Dtype of activations: float32 over whatever is stored, bf16 or float16.
enum class Compute : uint8_t { f32, bf16, f16 };

struct OpenOptions {
  std::optional<Compute> compute = {};  // else as the model's configuration says (`run:`)
  unsigned threads = 0;                 // of LibTorch, process-wide; 0: usable_threads()
  /// On a GPU: kernels that are launched again and again are recorded once for each shape and
  /// replayed. The pictures are the same. Else as the model's configuration says.
  std::optional<bool> graphs = {};
};

/// The dtype that a configuration's `run: {compute: …}` names.
Compute compute_of(const config::RunSection& run);

/// One call of a linear layer: x [rows, in] and y [rows, out], float32, valid during the call.
struct LayerCall {
  const std::string& component;
  const std::string& path;
  uint64_t rows, in, out;
  const float* x;
  const float* y;
};

struct GenerateOptions {
  std::string prompt;
  /// Guidance needs a negative prompt (an empty one counts) and a scale above 1.
  std::optional<std::string> negative_prompt;
  double true_cfg_scale = 4.0;
  uint32_t height = 1024, width = 1024;  // multiples of the latents' patch (16 pixels)
  uint32_t num_inference_steps = 50;
  uint64_t seed = 0;
  uint32_t num_images_per_prompt = 1;

  /// Rows of the picture that the decoder works on at a time: the same picture in less memory.
  /// 0: as the model's configuration says, else all of them, or on a GPU as many as fit
  /// (Generated::decoding says so).
  uint32_t decode_rows = 0;

  std::string output;        // FILE.png; several pictures: FILE_0.png, FILE_1.png, …; "": none
  std::string latents;       // read `latents_packed_initial` instead of drawing noise; "": none
  std::string save_latents;  // write it; "": none
  std::string trace;         // write every step as safetensors; "": none
};

struct RunControl {
  const CancelToken* cancel = nullptr;
  ProgressSink progress;                          // phase "denoise", unit "steps"
  std::function<void(const LayerCall&)> observe;  // every linear layer of the run
};

struct Timings {
  double text = 0, denoise = 0, decode = 0, total = 0;  // seconds
  std::vector<double> steps;
};

/// Memory of the GPU that draws beside the loaded weights, in bytes; zeros on the CPU.
struct RunMemory {
  uint64_t step = 0;      // tensors of the texts' encoding or of a step, whichever has more
  uint64_t recorded = 0;  // what recorded kernels keep
  uint64_t decode = 0;    // tensors of the decoder
  /// Phases follow each other; recordings stay.
  uint64_t peak() const { return (step > decode ? step : decode) + recorded; }
};

struct Generated {
  std::vector<Picture> pictures;
  bool guided = false;          // whether the negative prompt was used
  RunMemory planned, measured;  // bounds from shapes, and what it was
  std::string not_recorded;     // why some kernels weren't, though they might have been
  std::string decoding;         // why the decoder worked on strips unasked, or ""
  Timings timings;
  uint64_t resident_peak_nbytes = 0;  // of the process, since it started
  std::vector<std::string> files;     // what was written
  // Where the configuration asks for quantized attention: calls that it could be, and was.
  uint64_t attention_calls = 0, attention_quantized = 0;
};

/// A model ready to draw. One call at a time.
class Pipeline {
 public:
  /// Errors: unsupported (LibTorch of another version than built for; a family without networks),
  /// invalid_checkpoint (a missing tensor, tokenizer or scheduler).
  static Result<Pipeline> open(std::shared_ptr<const load::LoadedModel> model,
                               const OpenOptions& options = {});
  Pipeline(Pipeline&&) noexcept;
  Pipeline& operator=(Pipeline&&) noexcept;
  ~Pipeline();

  /// All paths are checked before the run; each file appears complete or not at all.
  /// Errors: invalid_argument (sizes, prompt, paths, latents of another shape), cancelled, io, and
  /// what methods report.
  Result<Generated> generate(const GenerateOptions& options, const RunControl& control = {});

  /// y = x·Wᵀ + b as one linear layer computes it; x is [rows, in]. A fused layer's parts can be
  /// named too. Errors: not_found (with the nearest path), invalid_argument.
  Result<std::vector<float>> apply(const std::string& component, const std::string& path,
                                   std::span<const float> x);

 private:
  struct State;
  explicit Pipeline(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace loadstone::runtime
