// Scaled layers on a GPU whose codes are multiplied as bf16 levels, or decoded to values.
#include <algorithm>

#include "common/scaled/device.hpp"
#include "common/scaled/views.hpp"

namespace loadstone::common::scaled {
namespace {

cuda::LevelCodes codes_of(Codes codes) {
  switch (codes) {
    case Codes::e4m3:
      return cuda::LevelCodes::e4m3;
    case Codes::int8:
      return cuda::LevelCodes::int8;
    case Codes::int4:
      return cuda::LevelCodes::int4;
    case Codes::words:
      return cuda::LevelCodes::words;
    default:
      return cuda::LevelCodes::e2m1;
  }
}

uint64_t height_of(const Form& form) {
  if (form.spec.scale == Scale::tensor) return 0;
  return form.spec.scale == Scale::block ? form.spec.block_rows : 1;
}

/// What 8-bit products do: one scale a row, or square blocks under groups of columns.
bool is_coded(const Form& form) {
  const Spec& spec = form.spec;
  const bool grouped = spec.scale == Scale::group && form.scale_columns > 1;
  if (grouped || is_integer(spec.input) != (spec.codes == Codes::int8)) return false;
  const bool blocks = spec.scale == Scale::block;
  if (blocks != (spec.input == Input::fp8_group)) return false;
  return !blocks || (!form.has(kPre) && spec.block_rows == spec.block_columns);
}

}  // namespace

bool by_levels(const Form& form) {
  const Spec& spec = form.spec;
  if (spec.codes != Codes::int8 && spec.codes != Codes::e4m3) return true;
  if (form.has_zeros() || form.has(kOrder)) return true;
  if (form.weight_only()) return form.has(kPre) || spec.scale_holds_input;
  return spec.input == Input::nvfp4 || !is_coded(form);
}

std::string why_no_levels(const Form& form) {
  if (form.parts.size() > static_cast<size_t>(cuda::Levels::kMaxParts)) {
    return "layers of " + std::to_string(form.parts.size()) + " parts of such codes have no";
  }
  if (form.weight_only()) return "";
  if (form.has(kConstant)) return "constants beside grouped scales have no";
  if (form.has(kOrder)) return "column orders beside quantized activations have no";
  const bool smooth_groups = form.has(kPre) && form.spec.input == Input::fp8_group;
  if (smooth_groups) return "smoothed groups of columns have no";
  const uint64_t group = levels_group(form);
  if (group % cuda::GroupsProduct::kDepth != 0 || (group != 0 && form.k % group != 0)) {
    return "groups of " + std::to_string(group) + " columns beside quantized activations have no";
  }
  return "";
}

uint64_t levels_group(const Form& form) {
  const bool grouped = form.spec.codes != Codes::e2m1 && form.scale_columns > 1;
  return grouped || form.spec.input == Input::fp8_group ? form.scale_width : 0;
}

cuda::Levels levels_of(const Form& form, const sdk::Binding& binding) {
  cuda::Levels out;
  out.codes = codes_of(form.spec.codes);
  out.order = form.spec.order;
  out.bits = form.spec.bits;
  out.at = static_cast<const uint8_t*>(binding.stored.raw(0).at);
  out.n = form.n;
  out.k = form.k;
  out.row_nbytes = form.row_nbytes();
  out.scale_columns = form.scale_columns;
  out.scale_width = form.scale_width;
  out.scale_height = height_of(form);
  const auto dtype_of = [&](Which which) {
    return form.has(which) ? form.tensor(0, which).dtype : uint32_t{LS_DTYPE_F32};
  };
  out.scale_dtype = dtype_of(kScale);
  out.zero_dtype = dtype_of(kZero);
  out.global_dtype = dtype_of(kGlobal);
  out.divisor_dtype = dtype_of(kInput);
  for (size_t i = 0; i < form.parts.size(); ++i) {
    const auto at = [&](Which which) -> const char* {
      if (!form.has(which)) return nullptr;
      return static_cast<const char*>(binding.stored.raw(form.stored_index(which)).at) +
             cut_of(form, i, which).dst_offset;
    };
    cuda::LevelPart& part = out.parts[out.count++];
    part.begin = static_cast<uint32_t>(form.parts[i].row_begin);
    part.end = static_cast<uint32_t>(form.parts[i].row_begin + form.parts[i].rows());
    part.scales = at(kScale);
    if (form.has_zeros()) part.zeros = at(kZero);
    part.order = reinterpret_cast<const int32_t*>(at(kOrder));
    part.global = at(kGlobal);
    if (form.spec.scale_holds_input) part.divisor = at(kInput);
  }
  std::sort(out.parts, out.parts + out.count,
            [](const auto& a, const auto& b) { return a.begin < b.begin; });
  return out;
}

uint64_t DeviceBound::levels_workspace_nbytes(uint64_t m) const {
  cuda::Cutter cutter(nullptr);
  if (form_.weight_only()) {
    cutter.take<float>(mul_.count);
    cutter.take<float>(mul_.at == nullptr ? 0 : m * form_.k);
  } else {
    cutter.take<float>(form_.n * (levels_group(form_) == 0 ? 1 : form_.scale_columns));
  }
  return cutter.used() + cuda::decoded_nbytes(form_.n, form_.k, m);
}

void DeviceBound::prepare_levels(const ls_apply& call, const Quantized& to) const {
  const cuda::RowsCall rows = rows_of(call, to);
  if (form_.spec.input == Input::nvfp4) {
    cuda::Nvfp4Round round{};
    round.dtype = call.x_dtype;
    round.x = call.x;
    round.mul = rows.mul;
    round.input = rows.given;
    round.divides = form_.spec.order != Nvfp4Order::multiplied;
    round.m = call.m;
    round.k = form_.k;
    round.stride = call.x_stride;
    round.values = to.values;
    round.scales = to.scales;
    round.stream = rows.stream;
    return cuda::check(cuda::nvfp4_round_rows(round), "quantizing activations");
  }
  quantize(rows);
  cuda::Levels codes;
  codes.codes = is_integer(form_.spec.input) ? cuda::LevelCodes::int8 : cuda::LevelCodes::e4m3;
  codes.at = to.codes;
  codes.n = call.m;
  codes.k = codes.row_nbytes = codes.scale_width = form_.k;
  codes.count = 1;
  codes.parts[0].end = static_cast<uint32_t>(call.m);
  cuda::check(cuda::decode_levels(codes, 0, call.m, to.values, rows.stream), "widening codes");
}

void DeviceBound::apply_levels(const ls_apply& call) const {
  if (form_.weight_only()) return apply_values(call);
  cuda::Cutter cutter(call.activation);
  const Quantized from = cut(cutter, call.m);
  ls_apply own = call;
  own.x = from.values;
  own.x_dtype = LS_DTYPE_BF16;
  own.x_stride = form_.k;
  levels_group(form_) == 0 ? apply_rows(own, from) : apply_groups(own, from);
}

/// Weights alone: decoded to x's dtype, x smoothed first where the form says so.
void DeviceBound::apply_values(const ls_apply& call) const {
  const cudaStream_t stream = cuda::stream_of(call);
  if (gathers_) {
    if (call.x_dtype != LS_DTYPE_I64) {
      sdk::fail(LS_INVALID_ARGUMENT, "gather expects I64 row numbers");
    }
    return cuda::check(cuda::gather_values(*levels_, static_cast<const int64_t*>(call.x),
                                           std::max<uint64_t>(call.x_stride, 1), call.m, call.y,
                                           call.y_stride, call.y_dtype, stream),
                       "looking rows up");
  }
  cuda::Cutter cutter(call.workspace);
  auto* room = cutter.take<float>(mul_.count);
  void* smooth = cutter.take<float>(mul_.at == nullptr ? 0 : call.m * form_.k);
  ls_apply own = call;
  own.workspace = static_cast<char*>(call.workspace) + cutter.used();
  if (mul_.at != nullptr) {
    cuda::check(cuda::smooth_rows(call.x_dtype, call.x, call.m, form_.k, call.x_stride,
                                  widened(mul_, room, call), smooth, stream),
                "smoothing activations");
    own.x = smooth;
    own.x_stride = form_.k;
  }
  cuda::run_decoded(
      form_.n, form_.k,
      [this](uint64_t begin, uint64_t count, void* out, uint32_t dtype, cudaStream_t s) {
        return cuda::decode_values(*levels_, begin, count, out, dtype, s);
      },
      own);
}

void DeviceBound::apply_rows(const ls_apply& call, const Quantized& from) const {
  const cudaStream_t stream = cuda::stream_of(call);
  cuda::Cutter cutter(call.workspace);
  auto* scales = cutter.take<float>(form_.n);
  cuda::check(cuda::level_scales(*levels_, 1, scales, stream), "spreading scales");
  const cuda::Room room = cuda::Room::take(cutter, call.m, form_.n);
  const auto decode = [this](uint64_t begin, uint64_t count, void* out, uint32_t, cudaStream_t s) {
    return cuda::decode_levels(*levels_, begin, count, out, s);
  };
  cuda::for_panels(form_.n, form_.k, decode, call, cutter,
                   [&](uint64_t row, uint64_t count, const void* w) {
                     cuda::Operands a;
                     a.x_dtype = a.w_dtype = LS_DTYPE_BF16;
                     a.scaling = cuda::Scaling::rows;
                     a.x = call.x;
                     a.x_ld = form_.k;
                     a.w = w;
                     a.x_scale = from.scales;
                     a.w_scale = scales + row;
                     a.n = count;
                     a.k = form_.k;
                     if (cuda::multiply(a, call, row, room)) return;
                     sdk::fail(LS_UNSUPPORTED, "product on CUDA: found no algorithm of cublasLt");
                   });
}

void DeviceBound::apply_groups(const ls_apply& call, const Quantized& from) const {
  const uint64_t columns = form_.scale_columns;
  const bool grouped_x = form_.spec.input == Input::fp8_group;
  cuda::Cutter cutter(call.workspace);
  auto* scales = cutter.take<float>(form_.n * columns);
  cuda::check(cuda::level_scales(*levels_, columns, scales, cuda::stream_of(call)),
              "spreading scales");
  const auto decode = [this](uint64_t begin, uint64_t count, void* out, uint32_t, cudaStream_t s) {
    return cuda::decode_levels(*levels_, begin, count, out, s);
  };
  cuda::for_panels(form_.n, form_.k, decode, call, cutter,
                   [&](uint64_t row, uint64_t count, const void* w) {
                     cuda::GroupsProduct product = cuda::groups_of(call, row, count, form_.k, w);
                     product.x_scale = from.scales;
                     product.x_row = 1;
                     product.x_group = grouped_x ? call.m : 0;
                     product.w_scale = scales + row * columns;
                     product.group = form_.scale_width;
                     cuda::check(cuda::groups_product(product), "product of groups");
                   });
}

}  // namespace loadstone::common::scaled
