#include "common/scaled/words.hpp"

namespace loadstone::common::scaled {
namespace {

constexpr uint64_t kMaxExtent = 1ull << 40;  // of a matrix: times 8 bits it doesn't wrap

[[noreturn]] void refuse(const char* what, const sdk::Layer& layer, const sdk::Tensor& tensor,
                         const std::string& found) {
  sdk::fail(LS_INVALID_CHECKPOINT,
            std::string(what) + ": " + full_name(layer, tensor) + ": " + found);
}

bool is_shape(const sdk::Tensor& tensor) {
  return (tensor.dtype == LS_DTYPE_I64 || tensor.dtype == LS_DTYPE_I32) && tensor.rank == 1 &&
         tensor.shape[0] == 2;
}

}  // namespace

std::pair<uint64_t, uint64_t> shape_of(const sdk::Layer& layer, size_t part, const Spec& spec,
                                       const sdk::Tensor& weight) {
  const auto shape = layer.find(part, spec.shape_name);
  if (!shape) {
    refuse("weight has no shape", layer, weight,
           found_beside(layer, weight) + ", expected \"" + spec.shape_name + "\"");
  }
  if (!is_shape(*shape)) {
    refuse("shape of a weight rejected", layer, *shape,
           "found " + dtype_name(shape->dtype) + " " + dims(*shape) + ", expected I64 [2]");
  }
  if (shape->value == nullptr) sdk::fail(LS_INTERNAL, "the shape's values were not asked for");
  const bool wide = shape->dtype == LS_DTYPE_I64;
  uint64_t out[2];
  for (size_t i = 0; i < 2; ++i) {
    out[i] = wide ? static_cast<const uint64_t*>(shape->value)[i]
                  : static_cast<const uint32_t*>(shape->value)[i];
    if (out[i] <= kMaxExtent) continue;
    refuse("shape of a weight rejected", layer, *shape,
           "found " + std::to_string(static_cast<int64_t>(out[i])) + ", expected rows and columns");
  }
  return {out[0], out[1]};
}

bool knows_width(const Spec& spec, const sdk::Layer& layer, sdk::Plan& out) {
  bool known = true;
  for (uint64_t i = 0; spec.codes == Codes::words && i < layer.part_count(); ++i) {
    const auto shape = layer.find(i, spec.shape_name);
    if (shape && is_shape(*shape)) known = out.needs_value(*shape) && known;
  }
  return known;
}

}  // namespace loadstone::common::scaled
