// What `quantize` writes of each component: names, dtypes, shapes, origins, declaration.
#pragma once

#include <string>
#include <vector>

#include "formats/gguf_writer.hpp"
#include "formats/safetensors_writer.hpp"
#include "plan/plan.hpp"

namespace loadstone::load {

/// Bytes [offset, offset+nbytes) of a file's tensor as it is, or of serialized tensor `index` of
/// layer plan `layer`.
struct SavedPiece {
  const formats::TensorEntry* entry = nullptr;  // null: of the layer
  uint32_t layer = 0, index = 0;
  uint64_t offset = 0, nbytes = 0;
};

/// One tensor to write. `place` and `suffix` say where it belongs under the original names.
struct SavedOutput {
  formats::TensorSpec spec;
  uint64_t nbytes = 0;
  std::vector<SavedPiece> pieces;
  graph::OriginalPlace place;
  std::string suffix;
};

struct SavedFile {
  std::string name;  // inside the component's folder
  std::vector<SavedOutput> tensors;
};

/// A component of the checkpoint. `files` is empty when it is copied as it is.
struct SavedComponent {
  uint32_t component = 0;  // index into Checkpoint::components
  std::string method;      // "" : copied
  Node declaration;        // for config.json; null: none
  uint64_t layers = 0;
  std::vector<SavedFile> files;
  formats::GgufWriter::Metadata gguf;  // of its one GGUF file; empty: safetensors
};

/// In the order of the checkpoint's components. Layers' tensors stand together, where the first
/// tensor that they replace stood. Pointers go into the plan's checkpoint.
/// Errors: as quantize.
Result<std::vector<SavedComponent>> list_saved(const plan::Plan& plan);

}  // namespace loadstone::load
