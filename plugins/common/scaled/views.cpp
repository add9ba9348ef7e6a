#include "common/scaled/views.hpp"

#include <algorithm>
#include <cstring>

#include "common/codecs/e4m3.hpp"
#include "common/layer/pieces.hpp"
#include "common/numerics/floats.hpp"

namespace loadstone::common::scaled {

uint64_t item_nbytes(const sdk::Tensor& tensor) {
  switch (tensor.dtype) {
    case LS_DTYPE_F8_E4M3:
    case LS_DTYPE_I8:
      return 1;
    case LS_DTYPE_I32:
      return 4;
    case LS_DTYPE_I64:
      return 8;
    default:
      return float_nbytes(tensor.dtype);
  }
}

bool any_zero_fits(const Spec& spec, const sdk::Tensor& tensor) {
  return !spec.zeros_vanish && !tensor.is_float();
}

float value_at(const sdk::Tensor& tensor, const void* from, uint64_t index) {
  const char* at = static_cast<const char*>(from) + index * item_nbytes(tensor);
  float out = 0;
  switch (tensor.dtype) {
    case LS_DTYPE_I64:  // little endian: the low half comes first
      std::memcpy(&out, at, sizeof out);
      return out;
    case LS_DTYPE_I8:
      return static_cast<float>(static_cast<int8_t>(*at));
    case LS_DTYPE_F8_E4M3:
      return e4m3_decode(static_cast<uint8_t>(*at));
    default:
      widen(tensor.dtype, at, &out, 1);
      return out;
  }
}

PartView view_of(const Form& form, size_t part, const std::function<const char*(Which)>& at) {
  PartView out;
  out.scales = at(kScale);
  if (form.has_zeros()) out.zeros = at(kZero);
  if (form.spec.scale_holds_input) {
    out.divisor = value_at(form.tensor(part, kInput), at(kInput), 0);
  }
  out.order = reinterpret_cast<const int32_t*>(at(kOrder));
  const char *global = at(kGlobal), *pre = at(kPre);
  if (global != nullptr) out.global = value_at(form.tensor(part, kGlobal), global, 0);
  if (pre != nullptr) {
    out.pre.resize(form.k);
    widen(form.tensor(part, kPre).dtype, pre, out.pre.data(), form.k);
  }
  return out;
}

std::vector<PartView> stored_views(const Form& form, const sdk::Buffers& stored) {
  const auto at = [&](size_t part, Which which) -> const char* {
    if (!form.has(which)) return nullptr;
    return static_cast<const char*>(stored.raw(form.stored_index(which)).at) +
           cut_of(form, part, which).dst_offset;
  };
  std::vector<PartView> out;
  for (size_t i = 0; i < form.parts.size(); ++i) {
    out.push_back(view_of(form, i, [&](Which which) { return at(i, which); }));
  }
  return out;
}

void dequantize(const Form& form, const sdk::Layer& layer, const sdk::Rows& rows) {
  const uint64_t first = rows.group() * form.n + rows.begin();
  if (form.decodes) {
    const uint64_t item = float_nbytes(layer.load_dtype());
    const auto* at = static_cast<const char*>(rows.stored().raw(0).at) + first * form.k * item;
    return widen(layer.load_dtype(), at, rows.raw().out, rows.count() * form.k);
  }
  const auto views = stored_views(form, rows.stored());
  const auto* codes = static_cast<const uint8_t*>(rows.stored().raw(0).at);
  const bool raw = rows.raw().raw != 0;
  for (uint64_t r = 0; r < rows.count(); ++r) {
    const size_t part = part_of_row(form.parts, first + r);
    float* out = rows.out(r).data();
    dequantize_row(form, views[part], first + r - form.parts[part].row_begin,
                   codes + (first + r) / form.rows_a_row() * form.row_nbytes(), out);
    for (uint64_t i = 0; !raw && i < views[part].pre.size(); ++i) out[i] *= views[part].pre[i];
  }
  if (!raw || !form.has(kPre)) return;
  const auto& pre = views[part_of_row(form.parts, rows.group() * form.n)].pre;
  if (rows.raw().in_scale != nullptr) std::copy(pre.begin(), pre.end(), rows.raw().in_scale);
  if (rows.raw().has_in_scale != nullptr) *rows.raw().has_in_scale = 1;
}

}  // namespace loadstone::common::scaled
