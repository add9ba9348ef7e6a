// What checkpoints declare: vLLM's dictionary, AutoRound's, ComfyUI's markers and header metadata.
#pragma once

#include <loadstone/plugin.hpp>

namespace loadstone::fp8 {

/// kClaims of the method, in this order.
enum Claim : uint64_t { kNative, kScaledFp8, kComfyQuant, kComfyMetadata, kAutoRound };

/// Errors (thrown): LS_INVALID_CHECKPOINT for unknown keys and values of a wrong type;
/// LS_UNSUPPORTED for layers in a format that isn't fp8.
void read_declaration(const sdk::Node& node, uint64_t claim, std::span<const ls_field> fields,
                      sdk::Declaration& out);

}  // namespace loadstone::fp8
