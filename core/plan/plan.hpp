// Plan: every decision, read, stored tensor and size of a load, for one target. Immutable and
// printable; equal input gives an equal plan.
#pragma once

#include <loadstone/plugin.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "base/tree.hpp"
#include "config/quant_config.hpp"
#include "formats/checkpoint.hpp"
#include "graph/graph.hpp"
#include "plan/attention.hpp"
#include "plugin/registry.hpp"

namespace loadstone::plan {

/// split: the method treats the parts of a fused layer apart; the parts follow as layers of their
/// own (LayerPlan::split_from), the fused layer itself then stores nothing.
enum class Decision : uint8_t { keep, quantize, decode, split };
std::string_view to_string(Decision decision);

/// A device with its abilities. "cpu", "cuda:0", "cuda:sm80".
struct Target {
  uint32_t kind = LS_TARGET_CPU;
  uint32_t sm = 0;
  std::string name = "cpu";
  int32_t index = -1;  // of the GPU that "cuda:N" names; -1: none, "cuda:sm80" is a kind
};
Result<Target> parse_target(const std::string& text);

struct LoadOptions {
  DType dtype = DType::invalid;       // of kept floats; invalid: as stored ("auto")
  uint64_t ring_nbytes = 256u << 20;  // upper bound; what the load can't use isn't allocated
  uint64_t piece_nbytes = 1u << 20;   // of one read through the ring; at most the ring
  unsigned threads = 0;               // 0: usable_threads()
  bool map_files = false;             // what goes to a GPU is copied there from mapped files
  std::map<std::string, config::Placement> place;  // component → target, else the plan's
  std::map<std::string, uint32_t> device_sm;       // of targets "cuda:N" that are here
  bool repack = true;      // kernels' own layouts; false: canonical tensors stay
  bool apart = false;      // parts of fused layers become layers of their own (dequantize)
  bool as_stored = false;  // rows in the file's order, not the family's (dequantize, quantize)
};

/// A tensor of the loaded model. `offset` lies inside its component's slab.
struct Stored {
  std::string name;
  DType dtype = DType::invalid;
  formats::Shape shape;
  uint64_t nbytes = 0;  // of the canonical form
  uint64_t align = 64;
  uint64_t offset = 0;
  uint64_t packed_nbytes = 0;  // a kernel's layout that replaces the canonical form; 0: none
  uint64_t packed_align = 64;
  uint32_t packed_wish = 0;  // index in the order of the method's wishes

  uint64_t slab_nbytes() const { return packed_nbytes != 0 ? packed_nbytes : nbytes; }
  uint64_t slab_align() const { return packed_nbytes != 0 ? packed_align : align; }
};

/// Bytes that go from a file to a stored tensor as they are: `rows` runs of `row_nbytes`.
struct Identity {
  uint32_t stored = 0;
  uint32_t tensor = 0;  // index into the layer's tensors
  bool checked = false;
  uint64_t src_offset = 0, dst_offset = 0, rows = 0, row_nbytes = 0, src_stride = 0, dst_stride = 0;
  uint64_t tag = 0;
};

/// Floats of a kept tensor that change their dtype on the way (LoadOptions::dtype).
struct Cast {
  uint32_t stored = 0;
  uint32_t tensor = 0;                      // index into the layer's tensors
  uint64_t src_offset = 0, dst_offset = 0;  // bytes
  uint64_t elems = 0;
};

/// A tensor of the layer that a session reads, in the order of the method's answer. `from_value`:
/// read while planning; it is handed over as resident.
struct Source {
  uint32_t tensor = 0;
  bool resident = false;
  bool from_value = false;
  uint64_t tag = 0, row_begin = 0, row_count = 0, granule = 1;
};

/// Content of a tensor that the method asked for while planning.
struct Value {
  uint32_t tensor = 0;
  std::shared_ptr<const std::vector<std::byte>> bytes;
};

/// What one runtime layer gets.
///
/// Stored tensors of a kept layer are named by their suffix ("weight", "bias"; a tensor that is
/// the module itself is "weight"). Parts of a fused layer are laid one after the other, in the
/// order of their rows in the layer, where dtype and row shape allow it: "weight" is then
/// (out, in), (groups, out, in) for experts. Otherwise each has its own, "<shard>.<suffix>".
/// A bias that the host adds to a method's product is stored by the same rule.
struct LayerPlan {
  uint32_t layer = 0;  // index into Plan::graph.layers (after splits)
  Decision decision = Decision::keep;
  std::string rule;  // "pipeline.yaml:7:5" or the default's name
  std::string reason;
  std::vector<std::string> overrode;                   // what lost, for --why
  std::shared_ptr<const plugin::MethodConfig> config;  // null for keep
  std::string method;                                  // "" for keep
  std::string kernel;
  uint32_t want = LS_WANT_QUANTIZE;   // what the method was asked for
  DType load_dtype = DType::invalid;  // of decoded weights and of activations
  uint32_t passes = 1;
  uint32_t bias = LS_BIAS_BY_HOST;
  uint32_t produce_on = LS_PLACE_HOST;  // where its method takes pieces
  uint64_t note = 0;
  uint64_t stat_nbytes = 0, session_scratch = 0, feed_scratch = 0;
  uint64_t in = 0;       // columns of the weight as a matrix; 0 for kind other
  bool session = false;  // needs begin … end of its method
  std::vector<Source> sources;
  std::vector<Stored> stored;
  uint32_t method_stored = 0;  // the first of them are the method's; then the host's ("bias")
  std::vector<Identity> identities;
  std::vector<Cast> casts;
  std::vector<std::pair<uint32_t, std::string>> unused;
  std::vector<Value> values;
  bool reread = false;       // passes == 2: read again (else the layer is held)
  int64_t shared_with = -1;  // index of the LayerPlan whose stored tensors this one uses
  int64_t split_from = -1;   // index of the fused LayerPlan that this one is a part of
  uint64_t nbytes_before = 0, nbytes_after = 0;

  /// The stored tensor of that name, or -1.
  int64_t find_stored(std::string_view name) const;
};

/// One contiguous allocation per component.
struct Slab {
  uint32_t component = 0;
  uint64_t nbytes = 0;
  Target target;
};

/// Layers [begin, begin+count) of the schedule, admitted together: one large layer or some small
/// ones whose reads are worth joining. Bytes are those of one unit while it is in flight.
struct Unit {
  uint32_t begin = 0, count = 0;
  uint64_t held_nbytes = 0;  // resident sources, scratch, statistics, second-pass layers
  uint64_t feed_nbytes = 0;  // largest need of one running feed: scratch, statistics, assembly
  uint64_t gpu_nbytes = 0;   // of the GPUs' memory: scratch, statistics, second-pass layers
};

/// How a load moves: fixed by the plan, so that its peak is known.
struct Flow {
  unsigned workers = 1;
  uint64_t slot_nbytes = 0;           // payload of a ring slot
  uint32_t slots = 0;                 // 0: every read goes straight to its place
  uint64_t pinned_nbytes = 0;         // of each of a worker's two buffers to each GPU; 0: no GPU
  uint32_t gpus = 0;                  // that something is loaded onto
  uint64_t stage_nbytes = 0;          // of each worker's memory on each GPU for pieces; 0: none
  uint64_t stage_scratch_nbytes = 0;  // beside it, of one running feed
  uint64_t gpu_flight_nbytes = 0;     // bound on the sum over units that run at once, on each GPU
  uint64_t in_flight_nbytes = 0;      // the same in host memory, feeds included
  std::vector<Unit> units;
};

struct Peaks {
  uint64_t host = 0;    // ring + pinned + stored on the host + largest sum in flight
  uint64_t device = 0;  // stored on devices + staging there
  uint64_t stored = 0, ring = 0, pinned = 0, in_flight = 0, staging = 0;
  uint64_t stored_on_devices = 0;
};

struct Plan {
  std::shared_ptr<const formats::Checkpoint> checkpoint;
  graph::Graph graph;
  config::QuantConfig quantization;
  config::RunSection run;
  Target target;
  LoadOptions options;
  std::vector<LayerPlan> layers;   // parallel to graph.layers
  std::vector<uint32_t> schedule;  // layer plans that load something, by first source offset
  std::vector<Slab> slabs;         // parallel to graph.components
  Flow flow;
  Peaks peaks;
  std::vector<std::string> rules;  // the compiled ordered list, for plan --rules
  std::vector<std::string> notes;
  std::optional<AttentionPlan> attention;  // quantized attention, where it is asked for

  /// What `plan --format json` prints (design/COMMANDS: plan).
  Node to_node() const;

  const graph::Layer& layer_of(const LayerPlan& plan) const { return graph.layers[plan.layer]; }
  /// The checkpoint tensor behind index `tensor` of a layer's tensors.
  const formats::TensorEntry& entry_of(const LayerPlan& plan, uint32_t tensor) const;
};

/// The one way in: decide, ask the methods, lay out, schedule, predict. Reports all problems.
Result<Plan> make_plan(std::shared_ptr<const formats::Checkpoint> checkpoint, graph::Graph graph,
                       const config::QuantConfig& quantization, plugin::Registry& registry,
                       const Target& target, const LoadOptions& options);

/// An ls_layer with its arrays, built from a graph layer; what methods are asked and fed with.
/// Keeps pointers into checkpoint, graph and layer: they must outlive it.
class LayerView {
 public:
  LayerView(const formats::Checkpoint& checkpoint, const graph::Graph& graph,
            const graph::Layer& layer, uint32_t want, DType load_dtype);
  /// As it was planned, with the values that the method asked for.
  LayerView(const Plan& plan, const LayerPlan& layer);
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

/// An ls_target for the plan's target or a component's own; `target` must outlive it.
ls_target to_abi(const Target& target);

/// Rows as the plugin interface counts them: runs of the last axis over all leading axes; rank 0
/// and 1 are one row.
uint64_t row_count(const formats::TensorEntry& tensor);
uint64_t row_nbytes(const formats::TensorEntry& tensor);

/// Bytes of a dense tensor; nullopt for an unknown dtype, broken rows or overflow.
std::optional<uint64_t> tensor_nbytes(DType dtype, const formats::Shape& shape);

}  // namespace loadstone::plan
