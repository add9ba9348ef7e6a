// Graph: components, edges and layers of one model, made by an adapter from a checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/tree.hpp"
#include "formats/checkpoint.hpp"

namespace loadstone::graph {

/// Values equal LS_KIND_* of the plugin interface.
enum class LayerKind : uint32_t {
  linear = 1,          // y = x·Wᵀ + b, W (out, in)
  grouped_linear = 2,  // experts: one W per group, x sorted by group
  gather = 3,          // embedding: x is row numbers
  attention = 4,       // no apply; carries k_scale, v_scale …
  other = 5,           // convolution, norm, anything else: kept or decoded
};

std::string_view to_string(LayerKind kind);

/// Where a module's rows stand in a file with the family's original names.
struct OriginalPlace {
  std::string name;  // "double_blocks.0.img_attn.qkv"; "": the family has no name adapter for GGUF
  uint32_t index = 0, count = 1;  // the how manieth of the modules that this one holds
  std::string transform;          // "swap_halves": the family's rows change places on the way there
};

/// One checkpoint module inside a runtime layer (to_q of to_qkv; an expert's w1). Rows
/// [out_begin, out_begin+out_count) of the layer are the module's rows
/// [file_begin, file_begin+out_count) of file_total.
struct Part {
  std::string
      name;  // checkpoint module path inside the component, "transformer_blocks.0.attn.to_q"
             // (as stored, less the component's strip prefixes)
  std::string path;   // the family's name for it: differs from `name` in files with original names
  std::string shard;  // the part's short name in the fusion: "q", "k", "gate", "e3.w1"; "" if alone
  std::string role;   // "attention.q"; "" if none
  std::string transform;  // how stored rows differ from the family's: "" or "swap_halves"
  OriginalPlace original;
  uint32_t group = 0;
  uint64_t out_begin = 0;
  uint64_t out_count = 0;
  uint64_t file_begin = 0;
  uint64_t file_total = 0;
};

/// A checkpoint tensor that belongs to a layer. `suffix` is its name below the part's module:
/// "weight", "weight_scale", "bias", "linear.weight"; "" when the tensor is the module itself.
struct LayerTensor {
  uint32_t tensor = 0;  // index into the component's tensors
  uint32_t part = 0;
  uint32_t group = 0;
  std::string suffix;
};

/// What happens to a layer if no rule speaks, and why ("precision", "io", "component", …).
struct Default {
  bool quantize = false;
  std::string why;     // empty when quantize
  bool named = false;  // quantized when the component, or the layer's scope, is named by a map
};

struct Layer {
  uint32_t component = 0;  // index into Graph::components
  std::string path;        // runtime path inside the component, checkpoint style: "….attn.to_qkv"
  LayerKind kind = LayerKind::other;
  std::string role;  // "attention.q", "mlp.up", "modulation", …; "" if none
  uint64_t out = 0;  // of the weight as a matrix; 0 for kind other
  uint64_t in = 0;
  uint32_t groups = 1;
  bool has_bias = false;
  std::vector<Part> parts;  // at least one
  std::vector<LayerTensor> tensors;
  Default fallback;
  std::vector<std::string> aliases;  // other accepted paths: "….attn.to_out" for "….attn.to_out.0"
  std::vector<std::string> holds;  // the family's modules inside one stored tensor (a fused file)
  int32_t scope = -1;              // index into the component's scopes, -1: none
};

/// A part of a component that a component map may name: the vision tower of a thinker.
struct Scope {
  std::string name;    // "visual"
  std::string prefix;  // of module paths, with the last dot: "thinker.visual."
};

/// Where a method given without components applies.
enum class Reach : uint8_t {
  flat,      // here
  map,       // only when a component map or a rule names it
  declared,  // only when the checkpoint declares it, or a map or rule names it
  stage,     // a stage of a multi-stage model: a flat method is an error that lists the stages
};

std::string_view to_string(Reach reach);

/// A component as the model's family sees it.
struct GraphComponent {
  std::string name;                   // "transformer"
  uint32_t checkpoint_component = 0;  // index into Checkpoint::components
  std::string kind;  // adapter's word: "diffusion_transformer", "text_encoder", "vae", …
  std::vector<std::string> aliases;  // other accepted component keys ("visual", "audio_tower")
  std::vector<std::string> strip;    // name prefixes that don't count ("model.diffusion_model.")
  std::string gguf_architecture;     // of GGUF files of these tensors; "": no name adapter
  bool default_scope = false;        // a flat method applies here (reach is flat)
  Reach reach = Reach::map;
  std::vector<Scope> scopes;
  // Other accepted beginnings of layer paths: {"thinker.model.", "language_model.model."}.
  std::vector<std::pair<std::string, std::string>> prefix_aliases;
};

struct Edge {
  std::string from, to, carries;  // carries: "prompt_embeds", "latents", "hidden_states"
};

struct Graph {
  std::string family;        // "qwen_image", "generic"
  std::string variant;       // "wan22_ti2v_5b"; the family where it has none
  std::string adapter;       // path of the adapter.yaml that made it
  bool family_known = true;  // false: the generic adapter; says so in every report
  std::vector<GraphComponent> components;
  std::vector<Edge> edges;
  std::vector<Layer> layers;  // by component, then in checkpoint order of their first tensor
  // Components of the family that this checkpoint lacks: maps may keep them, not quantize them.
  std::vector<std::string> absent_components;
  std::vector<std::string> gguf_families;  // those whose adapters read GGUF, for messages
  std::vector<std::string> notes;
  Node support;  // support levels of the family, method → level

  Node to_node() const;
};

/// Where the adapters of a program lie: ../share/loadstone/model_adapters beside its folder, in the
/// build tree and installed alike.
std::string adapters_dir(const std::string& program_dir);

/// Makes the graph: recognises the family by the adapters under `adapters_dir` (one folder a
/// family with adapter.yaml; "generic" applies when none does).
/// Errors: invalid_checkpoint (a component lacks tensors that its family needs), internal (bad
/// adapter file, with file:line).
Result<Graph> build_graph(const formats::Checkpoint& checkpoint, const std::string& adapters_dir);
/// The same by adapters that are read already.
struct Adapters;
Result<Graph> build_graph(const formats::Checkpoint& checkpoint, const Adapters& adapters);

}  // namespace loadstone::graph
