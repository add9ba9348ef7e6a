// The default save: stored tensors as they are, split by parts along the output axis, others
// repeated for each part.
#pragma once

#include <vector>

#include "plan.hpp"
#include "produce.hpp"

namespace loadstone::sdk {

/// One serialized tensor: bytes [offset, offset+nbytes) of a stored one.
struct SavedTensor {
  ls_stored shape;  // name and dtype of the stored tensor, the part's shape
  uint32_t part = 0;
  uint64_t stored = 0;
  uint64_t offset = 0, nbytes = 0;
};

namespace detail {

/// What part `part` gets of a stored tensor of `nbytes`. Leading axes that count are groups (when
/// the layer has several) and output rows; a tensor with neither is repeated.
inline SavedTensor cut_for_part(const Layer& layer, const ls_stored& stored, uint64_t nbytes,
                                uint32_t part_index) {
  SavedTensor out;
  out.shape = stored;
  out.part = part_index;
  out.nbytes = nbytes;
  const Part part = layer.part(part_index);
  uint32_t axis = 0;
  if (layer.groups() > 1 && stored.rank > 0 && stored.shape[0] == layer.groups()) {
    out.nbytes /= layer.groups();
    out.offset = part.group * out.nbytes;
    std::copy(stored.shape + 1, stored.shape + LS_MAX_RANK, out.shape.shape);
    out.shape.shape[LS_MAX_RANK - 1] = 1;
    out.shape.rank -= 1;
    axis = 1;
  }
  if (stored.rank > axis && stored.shape[axis] == layer.out() && layer.out() != 0) {
    const uint64_t row_nbytes = out.nbytes / layer.out();
    out.offset += part.out_begin * row_nbytes;
    out.nbytes = part.out_count * row_nbytes;
    out.shape.shape[0] = part.out_count;
  }
  return out;
}

/// All serialized tensors, part by part; sizes in bytes come from `nbytes_of(stored)`.
template <typename NbytesOf>
std::vector<SavedTensor> saved_tensors(const Layer& layer, const Plan& plan,
                                       const NbytesOf& nbytes_of) {
  std::vector<SavedTensor> out;
  for (uint32_t part = 0; part < layer.part_count(); ++part) {
    for (uint64_t s = 0; s < plan.all_stored().size(); ++s) {
      SavedTensor saved = cut_for_part(layer, plan.all_stored()[s], nbytes_of(s), part);
      saved.stored = s;
      out.push_back(saved);
    }
  }
  return out;
}

}  // namespace detail

}  // namespace loadstone::sdk
