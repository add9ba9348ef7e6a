// Checkpoint: tensors in files with their declarations. Knows names, dtypes, shapes and offsets;
// has read headers and small JSON files, nothing else.
#pragma once

#include <boost/container/small_vector.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/dtype.hpp"
#include "base/file.hpp"
#include "base/result.hpp"
#include "base/tree.hpp"

namespace loadstone::formats {

using Shape = boost::container::small_vector<uint64_t, 4>;

/// One tensor in one file. `offset` counts from the file's first byte. Row-major; sub-byte and
/// block types have whole rows.
struct TensorEntry {
  std::string name;  // as stored
  DType dtype = DType::invalid;
  Shape shape;        // outermost first (GGUF's order is turned round by its reader)
  uint32_t file = 0;  // index into Checkpoint::files
  uint64_t offset = 0;
  uint64_t nbytes = 0;
};

/// An opened shard; stays open until the last user of the Checkpoint is gone.
struct FileEntry {
  std::string path;  // as the user sees it
  std::shared_ptr<const File> file;
  FileIdentity identity;  // when the header was read
};

/// A quantization declaration found beside the tensors: `origin` says where by the plugin
/// interface's names: a config key ("quantization_config"), a side file ("hf_quant_config.json",
/// "quant_model_description.json", whatever the file's own suffix), "gguf", header metadata
/// ("metadata:_quantization_metadata") or marker tensors ("marker:scaled_fp8": map of the prefix
/// to dtype and shape; "marker:comfy_quant": map of the layer to what its marker says).
/// A side file that repeats config.json's declaration word for word is not listed twice.
struct Declaration {
  std::string origin;
  std::string path;  // file that holds it, as the user sees it
  std::string
      scope;  // config key path of the sub-model it stands in ("thinker_config"), "" if none
  Node value;
};

/// A component as the files show it. `folder` is relative to the model's root ("" for the root).
struct Component {
  std::string name;
  std::string folder;
  std::string source;      // folder, or file, that its tensors come from, as the user sees it
  std::string class_name;  // from model_index.json or config.json ("_class_name", architectures[0])
  std::string library;     // "diffusers", "transformers", "" if unknown
  Node config;             // config.json (null if there is none); of a GGUF set, its metadata
  Node metadata;           // map of header metadata (safetensors `__metadata__`), or null
  std::vector<TensorEntry> tensors;  // by file, then by offset
  bool gguf = false;                 // they are in GGUF files
  std::vector<Declaration> declarations;
  /// Tensors that the container holds in another shape (a convolution in rows of whole blocks):
  /// index and true shape.
  std::vector<std::pair<uint32_t, std::vector<uint64_t>>> reshaped;
  /// The base model's component whose place this one's files take (`components`, `gguf_model`);
  /// null: none. Its tensors are described only: their file indices mean nothing here.
  std::shared_ptr<const Component> replaced;

  const TensorEntry* find(std::string_view tensor_name) const;  // linear; index it for many
};

enum class Layout : uint8_t {
  diffusers,     // model_index.json and a folder a component
  transformers,  // one root with config.json
  single_file,   // one safetensors file or GGUF set
  cascade,       // component folders without model_index.json: high_noise_model/, transformer_2/
};

std::string_view to_string(Layout layout);

struct Checkpoint {
  std::string path;  // as the user gave it
  std::string root;  // resolved absolute folder (or the file's folder)
  Layout layout = Layout::transformers;
  Node model_index;                   // model_index.json, or null
  std::vector<Component> components;  // in model_index order; a root is one component named ""
  std::vector<FileEntry> files;
  std::vector<std::string> notes;  // accepted oddities, for `inspect`

  const Component* component(std::string_view name) const;
  uint64_t tensor_nbytes() const;
  /// What `inspect --format json` prints (without tensors: `tensors` false).
  Node to_node(bool tensors) const;
};

struct OpenOptions {
  uint64_t max_header_nbytes = 100'000'000;  // security checklist S02
  bool lenient = false;                      // what the checklist marks [L]
  std::vector<std::string> elsewhere;        // components that needn't have files here
};

/// Fails ("file changed while reading") unless every file still is what it was when its header was
/// read: size, modification time, and that it has not been replaced under its name (S42).
Status check_unchanged(const Checkpoint& checkpoint);
Status check_unchanged(const FileEntry& entry);

/// Opens a folder, a single file, or a hub name ("Qwen/Qwen-Image", optionally "@revision") in the
/// local cache. Reads headers and JSON only.
/// Errors: not_found (with how to download), invalid_checkpoint, io.
Result<Checkpoint> open_checkpoint(FileSystem& files, const std::string& path,
                                   const OpenOptions& options = {});

}  // namespace loadstone::formats
