// The serialized form that save writes: what form.hpp reads, per part.
//   weight F8_E4M3 (rows, K) and weight_scale F32 (rows, 1) or [1], or weight_scale_inv F32
//   (ceil(rows/bn), ceil(K/bk)); input_scale F32 [1] for static activations.
#pragma once

#include "fp8/form.hpp"

namespace loadstone::fp8 {

struct SavedPart {
  ls_stored shape;
  uint32_t part = 0;
  uint64_t stored = 0;              // index of the stored tensor
  uint64_t offset = 0, nbytes = 0;  // of it
};

/// All serialized tensors in order. Errors (thrown): LS_UNSUPPORTED for a part that starts inside
/// a block of the tensor it was cut from.
std::vector<SavedPart> saved_parts(const Form& form);

/// The declaration, as JSON.
std::string declaration(const Config& config);

}  // namespace loadstone::fp8
