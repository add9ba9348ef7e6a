// What lies beside a component's tensors and says how they are quantized.
#pragma once

#include <string>
#include <vector>

#include "formats/checkpoint.hpp"
#include "formats/model_files.hpp"

namespace loadstone::formats {

inline constexpr uint64_t kMaxConfigNbytes = 16u << 20;
inline constexpr uint64_t kMaxDescriptionNbytes = 64u << 20;

/// A declaration as a map: a text is a method's name ({"quant_method": text}); null for null and
/// for an empty map, which say nothing. Errors: invalid_checkpoint (another kind; `path` without a
/// mark).
Result<Node> declared_map(const Node& value, const std::string& path);

/// `quantization_config` of a config.json, wherever it stands in it (top, "text_config",
/// "thinker_config.text_config", …). Errors as declared_map.
Result<std::vector<Declaration>> declarations_of_config(const Node& config,
                                                        const std::string& path);

/// hf_quant_config.json, quantize_config.json, quantization_config.json and
/// quant_model_description*.json of a folder. One that repeats config.json's is left out; one
/// that contradicts it is kept and noted.
Status add_side_files(const ModelFiles& files, const std::string& folder,
                      const std::vector<std::string>& names, Component& component,
                      std::vector<std::string>& notes);

/// Header metadata keys that speak of quantization, and marker tensors (whose few bytes are read).
Status add_embedded_declarations(const std::vector<FileEntry>& files, Component& component);

}  // namespace loadstone::formats
