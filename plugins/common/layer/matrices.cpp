#include "common/layer/matrices.hpp"

#include <algorithm>

namespace loadstone::common {
namespace {

using sdk::Tensor;

bool is_code(const WeightRules& rules, uint32_t dtype) {
  return std::find(rules.codes.begin(), rules.codes.end(), dtype) != rules.codes.end();
}

}  // namespace

bool NoForm::set(uint32_t value, std::string text) {
  verdict = value;
  reason = std::move(text);
  return false;
}

void NoForm::answer(sdk::Plan& out) const {
  if (verdict == LS_VERDICT_KEEP) return out.keep(reason);
  if (verdict == LS_VERDICT_SPLIT) return out.split(reason);
  out.unsupported(reason);
}

bool find_matrices(const sdk::Layer& layer, const WeightRules& rules, std::vector<MatrixPart>& out,
                   NoForm& instead) {
  if (layer.part_count() == 0)
    return instead.set(LS_VERDICT_UNSUPPORTED, "the layer has no weight");
  for (uint64_t i = 0; i < layer.part_count(); ++i) {
    auto weight = layer.find(i, "weight");
    if (!weight && rules.other_name != nullptr) weight = layer.find(i, rules.other_name);
    if (!weight) {
      return instead.set(rules.keep_missing ? LS_VERDICT_KEEP : LS_VERDICT_UNSUPPORTED,
                         "\"" + std::string(layer.part(i).path()) + "\" holds no \"weight\"");
    }
    MatrixPart part;
    part.part = layer.part(i);
    part.weight = *weight;
    part.row_begin = part.part.group * layer.out() + part.part.out_begin;
    out.push_back(part);
  }
  const uint32_t first = out[0].weight.dtype;
  for (const MatrixPart& part : out) {
    const uint32_t dtype = part.weight.dtype;
    if (!is_code(rules, dtype) && !part.weight.is_float()) {
      return instead.set(LS_VERDICT_UNSUPPORTED,
                         "found a weight of " + dtype_name(dtype) + ", expected " + rules.expected);
    }
    if ((is_code(rules, dtype) || is_code(rules, first)) && dtype != first) {
      return instead.set(LS_VERDICT_SPLIT, "parts are stored differently: " + dtype_name(first) +
                                               " and " + dtype_name(dtype));
    }
  }
  return true;
}

bool check_matrix(const sdk::Layer& layer, const MatrixPart& part, uint64_t columns,
                  NoForm& instead) {
  const Tensor& weight = part.weight;
  if (weight.rank != 2) {
    return instead.set(LS_VERDICT_UNSUPPORTED,
                       "found a weight of shape " + dims(weight) + ", expected a matrix");
  }
  if (weight.columns() != columns || weight.rows() != part.part.file_total) {
    sdk::fail(LS_INVALID_CHECKPOINT, "weight has a wrong shape: " + full_name(layer, weight) +
                                         ": found " + dims(weight) + ", expected " +
                                         dims(part.part.file_total, columns));
  }
  return true;
}

ls_identity identity_of(const MatrixPart& part, const Tensor& tensor, uint64_t row_nbytes,
                        uint32_t stored, size_t index) {
  ls_identity out = sdk::make<ls_identity>();
  out.stored = stored;
  out.tensor = tensor.index;
  out.checked = 1;
  out.rows = part.rows();
  out.row_nbytes = out.src_stride = out.dst_stride = row_nbytes;
  out.src_offset = part.part.file_begin * row_nbytes;
  out.dst_offset = part.row_begin * row_nbytes;
  out.tag = index;
  return out;
}

std::string dims(const Tensor& tensor) {
  std::string out = "[";
  for (uint32_t i = 0; i < tensor.rank; ++i) {
    out += (i == 0 ? "" : ", ") + std::to_string(tensor.shape[i]);
  }
  return out + "]";
}

std::string dims(uint64_t rows, uint64_t columns) {
  return "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

std::string dtype_name(uint32_t dtype) {
  struct Name {
    uint32_t dtype;
    const char* name;
  };
  constexpr Name kNames[] = {
      {LS_DTYPE_BOOL, "BOOL"},       {LS_DTYPE_U8, "U8"},           {LS_DTYPE_I8, "I8"},
      {LS_DTYPE_I16, "I16"},         {LS_DTYPE_U16, "U16"},         {LS_DTYPE_I32, "I32"},
      {LS_DTYPE_U32, "U32"},         {LS_DTYPE_I64, "I64"},         {LS_DTYPE_U64, "U64"},
      {LS_DTYPE_F16, "F16"},         {LS_DTYPE_BF16, "BF16"},       {LS_DTYPE_F32, "F32"},
      {LS_DTYPE_F64, "F64"},         {LS_DTYPE_F8_E4M3, "F8_E4M3"}, {LS_DTYPE_F8_E5M2, "F8_E5M2"},
      {LS_DTYPE_F8_E8M0, "F8_E8M0"}, {LS_DTYPE_F4, "F4"},
  };
  for (const Name& known : kNames) {
    if (known.dtype == dtype) return known.name;
  }
  return "dtype " + std::to_string(dtype);
}

std::string full_name(const sdk::Part& part, const Tensor& tensor) {
  return std::string(part.path()) + (part.path().empty() ? "" : ".") + std::string(tensor.suffix());
}

std::string full_name(const sdk::Layer& layer, const Tensor& tensor) {
  return full_name(layer.part(tensor.part), tensor);
}

std::string found_beside(const sdk::Layer& layer, const Tensor& tensor) {
  std::string found;
  for (uint64_t i = 0; i < layer.tensor_count(); ++i) {
    const Tensor other = layer.tensor(i);
    if (other.part != tensor.part || other.index == tensor.index) continue;
    found += (found.empty() ? "found only \"" : "\" and \"") + std::string(other.suffix());
  }
  return found.empty() ? "found nothing beside it" : found + "\"";
}

}  // namespace loadstone::common
