#include "graph/shapes.hpp"

namespace loadstone::graph {
namespace {

/// The tensor with this suffix, plain or wrapped ("linear.weight"), or null.
const formats::TensorEntry* find(const formats::Component& component, const Module& module,
                                 std::string_view suffix) {
  for (const ModuleTensor& one : module.tensors) {
    std::string_view name = one.suffix;
    if (name.substr(0, 7) == "linear.") name.remove_prefix(7);
    if (name == suffix) return &component.tensors[one.tensor];
  }
  return nullptr;
}

/// Bytes or words that hold several codes each: their shape isn't the matrix's.
bool is_packed(DType dtype) {
  return dtype == DType::U8 || dtype == DType::I32 || dtype == DType::U32 || dtype == DType::I64;
}

/// Rows of the matrix: those stored, or twice as many where the companions tell that two share a
/// byte (a bias has one value a row, scales one or more). Companions that tell anything else are
/// damaged; who reads them says so.
uint64_t rows_from_companions(const formats::Component& component, const Module& module,
                              uint64_t stored) {
  uint64_t told = stored;
  if (const auto* bias = find(component, module, "bias"); bias && bias->shape.size() == 1) {
    told = bias->shape[0];
  } else if (const auto* scale = find(component, module, "weight_scale");
             scale && !scale->shape.empty()) {
    told = scale->shape[0];
  }
  return told % 2 == 0 && told / 2 == stored ? told : stored;
}

/// Rows of packed words: one a column, or one every eight. `qweight` is a matrix.
uint64_t rows_of_words(const formats::TensorEntry& qweight, const formats::TensorEntry* scales) {
  const uint64_t columns = qweight.shape[1];
  if (scales == nullptr || scales->shape.size() != 2) return columns;
  const uint64_t rows = scales->shape[1];
  return rows % 8 == 0 && rows / 8 == columns ? rows : columns;
}

void measure_weight(const formats::Component& component, const Module& module,
                    const formats::TensorEntry& weight, Matrix* out) {
  out->kind = LayerKind::linear;
  out->out = weight.shape[0];
  out->in = weight.shape[1];
  if (is_packed(weight.dtype)) {
    out->out = rows_from_companions(component, module, out->out);
    out->in = 0;
  } else if (weight.dtype == DType::I8) {
    uint64_t rows = rows_from_companions(component, module, out->out);
    if (rows != out->out) out->in = 0;  // two codes a byte, packed along the rows
    out->out = rows;
  }
}

}  // namespace

Matrix matrix_of(const formats::Component& component, const Module& module, bool rank3_experts) {
  Matrix out;
  out.has_bias = find(component, module, "bias") != nullptr;
  const formats::TensorEntry* weight = find(component, module, "weight");
  if (!weight) weight = find(component, module, "weight_packed");
  if (!weight && module.tensors.size() == 1 && module.tensors[0].suffix.empty()) {
    weight = &component.tensors[module.tensors[0].tensor];
    out.two_d = weight->shape.size() == 2;
    if (!(rank3_experts && weight->shape.size() == 3)) return out;
  }
  if (weight && weight->shape.size() == 2) {
    out.two_d = true;
    measure_weight(component, module, *weight, &out);
    if (find(component, module, "weight_packed") == weight) out.in = 0;
    return out;
  }
  if (weight && rank3_experts && weight->shape.size() == 3) {
    out.kind = LayerKind::grouped_linear;
    out.groups = weight->shape[0];
    out.out = weight->shape[1];
    out.in = is_packed(weight->dtype) ? 0 : weight->shape[2];
    return out;
  }
  if (weight) return out;
  if (const auto* qweight = find(component, module, "qweight"); qweight) {
    const auto* scales = find(component, module, "scales");
    out.kind = LayerKind::linear;
    out.two_d = true;
    if (qweight->shape.size() == 2) out.out = rows_of_words(*qweight, scales);
    return out;
  }
  bool scales_only = !module.tensors.empty();
  for (const ModuleTensor& one : module.tensors) {
    scales_only = scales_only && one.suffix.size() > 6 &&
                  one.suffix.compare(one.suffix.size() - 6, 6, "_scale") == 0;
  }
  if (scales_only) out.kind = LayerKind::attention;
  return out;
}

}  // namespace loadstone::graph
