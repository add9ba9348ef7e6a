// An adapter: one family's knowledge, read from `model_adapters/<family>/adapter.yaml`.
// The file's keys are described in model_adapters/README.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/tree.hpp"
#include "graph/graph.hpp"
#include "graph/path_table.hpp"

namespace loadstone::graph {

/// What the family knows about modules that match one pattern.
struct ModuleRule {
  std::string role;
  std::string keep;   // why it isn't quantized; "": it is
  std::string kind;   // "linear", "gather", "other"; "": by shape
  std::string alias;  // another path, '*' standing for the pattern's captures
};

/// A part of a fusion: modules that match it go into the fused layer.
struct FusionPart {
  uint32_t fusion = 0;
  uint32_t order = 0;     // within a group
  std::string shard;      // "<e>" stands for the expert's number
  int32_t group_at = -1;  // which capture is the expert's number; -1: none
};

struct Fusion {
  std::string into;  // path of the fused layer, '*' standing for captures
  std::string role;
  std::vector<std::string> parts;  // full patterns, in order
};

/// Original name → the family's.
struct Rename {
  std::string from;
  std::string to;
  std::vector<std::string> holds;  // modules inside one stored tensor
  std::string transform;
};

struct AdapterComponent {
  std::string name, kind, keep;
  std::string gguf_architecture;  // general.architecture of GGUF files; "": none are read
  Reach reach = Reach::map;
  std::vector<std::string> aliases, folders, prefixes, files, classes;
  bool rest = false;  // takes a flat root's tensors that no other component claims
  std::vector<Scope> scopes;
  std::vector<std::string> scope_keep;  // parallel to scopes
  std::vector<std::pair<std::string, std::string>> prefix_aliases;
  std::vector<std::vector<std::string>> needs, lacks;  // module patterns that recognise its tensors
  std::vector<ModuleRule> rules;
  std::vector<Fusion> fusions;
  std::vector<FusionPart> fusion_parts;
  std::vector<Rename> renames;
  std::string original_mark;                 // renames apply where a module matches it; "": always
  PathTable modules, parts, into, original;  // into: of fusions
};

struct Variant {
  std::string name;
  std::vector<std::string> pipelines;
  std::vector<std::string> present, absent;          // components
  std::vector<std::pair<std::string, Node>> config;  // "transformer.in_channels": value
  Node support;
};

struct Adapter {
  std::string family, path, summary;
  std::vector<std::string> pipelines;    // class names in model_index.json or config.json
  std::vector<std::string> model_types;  // `model_type` of a flat root's config.json
  std::vector<std::string> strip;
  std::vector<AdapterComponent> components;
  std::vector<Edge> edges;
  std::vector<Variant> variants;
  Node support;
};

/// Module names that mean the same in every family ("**.self_attn.q_proj", "**.embed_tokens").
struct CommonModules {
  PathTable table;
  std::vector<ModuleRule> rules;
};

struct Adapters {
  CommonModules common;
  std::vector<Adapter> families;  // by folder name
};

/// Reads every adapter under a folder. Errors: not_found (no such folder), internal (a bad file,
/// with file:line).
Result<Adapters> read_adapters(const std::string& dir);

/// "a.{x,y}" → "a.x", "a.y"; every group, in order.
struct Expanded {
  std::string text;
  size_t last = 0;  // which alternative of the last group
};
std::vector<Expanded> expand_braces(std::string_view text);

}  // namespace loadstone::graph
