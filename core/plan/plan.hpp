// Plan: every decision, read, stored tensor and size of a load, for one target. Immutable and
// printable; equal input gives an equal plan.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/tree.hpp"
#include "config/quant_config.hpp"
#include "formats/checkpoint.hpp"
#include "graph/graph.hpp"
#include "plugin/registry.hpp"

namespace loadstone::plan {

enum class Decision : uint8_t { keep, quantize, decode, split };
std::string_view to_string(Decision decision);

/// A device with its abilities. "cpu", "cuda:0", "cuda:sm80".
struct Target {
  uint32_t kind = LS_TARGET_CPU;
  uint32_t sm = 0;
  std::string name = "cpu";
};
Result<Target> parse_target(const std::string& text);

struct LoadOptions {
  DType dtype = DType::invalid;      // of kept floats; invalid: as stored ("auto")
  uint64_t ring_nbytes = 256u << 20;
  uint64_t piece_nbytes = 4u << 20;
  unsigned threads = 0;              // 0: usable_threads()
};

/// A tensor of the loaded model. `offset` lies inside its component's slab.
struct Stored {
  std::string name;
  DType dtype = DType::invalid;
  formats::Shape shape;
  uint64_t nbytes = 0;
  uint64_t align = 64;
  uint64_t offset = 0;
};

/// Bytes that go from a file to a stored tensor as they are.
struct Identity {
  uint32_t stored = 0;
  uint32_t tensor = 0;  // index into the layer's tensors
  bool checked = false;
  uint64_t src_offset = 0, dst_offset = 0, rows = 0, row_nbytes = 0, src_stride = 0, dst_stride = 0;
  uint64_t tag = 0;
};

/// A tensor of the layer that a session reads.
struct Source {
  uint32_t tensor = 0;
  bool resident = false;
  uint64_t tag = 0, row_begin = 0, row_count = 0, granule = 1;
};

/// What one runtime layer gets.
struct LayerPlan {
  uint32_t layer = 0;  // index into Plan::graph.layers (after splits)
  Decision decision = Decision::keep;
  std::string rule;    // "pipeline.yaml:7:5" or the default's name
  std::string reason;
  std::vector<std::string> overrode;  // what lost, for --why
  std::shared_ptr<const plugin::MethodConfig> config;  // null for keep
  std::string method;  // "" for keep
  std::string kernel;
  uint32_t passes = 1;
  uint32_t bias = LS_BIAS_BY_HOST;
  uint64_t note = 0;
  uint64_t stat_nbytes = 0, session_scratch = 0, feed_scratch = 0;
  std::vector<Source> sources;
  std::vector<Stored> stored;
  std::vector<Identity> identities;
  std::vector<std::pair<uint32_t, std::string>> unused;
  bool reread = false;      // passes == 2: read again (else the layer is held)
  int64_t shared_with = -1; // index of the LayerPlan whose stored tensors this one uses
  uint64_t nbytes_before = 0, nbytes_after = 0;
};

/// One contiguous allocation per component.
struct Slab {
  uint32_t component = 0;
  uint64_t nbytes = 0;
};

struct Peaks {
  uint64_t host = 0;    // ring + stored + largest sum in flight
  uint64_t device = 0;
  uint64_t stored = 0, ring = 0, in_flight = 0;
};

struct Plan {
  std::shared_ptr<const formats::Checkpoint> checkpoint;
  graph::Graph graph;
  config::QuantConfig quantization;
  Target target;
  LoadOptions options;
  std::vector<LayerPlan> layers;    // parallel to graph.layers
  std::vector<uint32_t> schedule;   // layer plans in order of their first source's offset
  std::vector<Slab> slabs;          // by component
  Peaks peaks;
  std::vector<std::string> rules;   // the compiled ordered list, for plan --rules
  std::vector<std::string> notes;

  /// What `plan --format json` prints (design/COMMANDS: plan).
  Node to_node() const;
};

/// The one way in: decide, ask the methods, lay out, schedule, predict. Reports all problems.
Result<Plan> make_plan(std::shared_ptr<const formats::Checkpoint> checkpoint, graph::Graph graph,
                       const config::QuantConfig& quantization, plugin::Registry& registry,
                       const Target& target, const LoadOptions& options);

/// An ls_layer with its arrays, built from a graph layer; what methods are asked and fed with.
class LayerView {
 public:
  LayerView(const formats::Checkpoint& checkpoint, const graph::Graph& graph,
            const graph::Layer& layer, uint32_t want, DType load_dtype);
  ~LayerView();
  LayerView(LayerView&&) noexcept;
  LayerView& operator=(LayerView&&) noexcept;
  const ls_layer& get() const;
  /// Answers needs_value: `bytes` must outlive the view.
  void set_value(uint32_t tensor, const void* bytes);

 private:
  struct Arrays;
  std::unique_ptr<Arrays> arrays_;
};

}  // namespace loadstone::plan
