#include "common/cuda/multiply.hpp"

#include <algorithm>

#include "common/cuda/code_tiles.hpp"
#include "common/cuda/finish.hpp"
#include "common/numerics/floats.hpp"

namespace loadstone::common::cuda {
namespace {

uint64_t item_of(uint32_t dtype) {
  switch (dtype) {
    case LS_DTYPE_F32:
    case LS_DTYPE_I32:
      return 4;
    case LS_DTYPE_BF16:
    case LS_DTYPE_F16:
      return 2;
    default:
      return 1;
  }
}

const void* behind(const void* at, uint64_t elements, uint32_t dtype) {
  return at == nullptr ? nullptr : static_cast<const char*>(at) + elements * item_of(dtype);
}

LtShape shape_of(const Operands& a, uint64_t m) {
  LtShape out;
  out.x_dtype = a.x_dtype;
  out.w_dtype = a.w_dtype;
  out.scaling = a.scaling;
  out.m = m;
  out.n = a.n;
  out.k = a.k;
  out.x_ld = a.x_ld;
  out.w_ld = a.k;
  out.alignment = std::min(alignment_of(a.x, a.x_ld * item_of(a.x_dtype)),
                           alignment_of(a.w, a.k * item_of(a.w_dtype)));
  return out;
}

/// y with its scales and bias at once.
bool in_one_pass(const Operands& a, const ls_apply& call, void* y, const void* bias,
                 const Room& room) {
  if (bias != nullptr && call.bias_dtype != call.y_dtype) return false;
  LtShape shape = shape_of(a, call.m);
  shape.y_dtype = call.y_dtype;
  shape.y_ld = call.y_stride;
  shape.bias = bias != nullptr;
  const uint64_t item = item_of(call.y_dtype);
  shape.alignment = std::min(shape.alignment, alignment_of(y, call.y_stride * item));
  if (bias != nullptr) shape.alignment = std::min(shape.alignment, alignment_of(bias, 0));
  const LtProduct& lt = LtProduct::current();
  if (!lt.can(shape)) return false;
  lt.run(shape, {a.x, a.w, a.x_scale, a.w_scale, bias, y, room.lt, call.stream});
  return true;
}

/// y of 8-bit codes with scales and bias in the epilogue, where the GPU has that kernel.
bool in_tiles(const Operands& a, const ls_apply& call, void* y, const void* bias) {
  if (a.x_dtype != a.w_dtype || a.x_ld != a.k || a.scaling != Scaling::rows) return false;
  if (a.x_dtype != LS_DTYPE_I8 && a.x_dtype != LS_DTYPE_F8_E4M3) return false;
  CodeTiles tiles{};
  tiles.dtype = a.x_dtype;
  tiles.x = a.x;
  tiles.w = a.w;
  tiles.x_scale = a.x_scale;
  tiles.w_scale = a.w_scale;
  tiles.constants = a.constants;
  tiles.bias = bias;
  tiles.bias_dtype = call.bias_dtype;
  tiles.y_dtype = call.y_dtype;
  tiles.m = call.m;
  tiles.n = a.n;
  tiles.k = a.k;
  tiles.y_stride = call.y_stride;
  tiles.y = y;
  tiles.stream = stream_of(call);
  if (!code_tiles_fit(tiles)) return false;
  check(code_tiles(tiles), "product of tiles");
  return true;
}

/// Sums of rows [row, row+m), then y.
bool through_sums(const Operands& a, const ls_apply& call, void* y, const void* bias,
                  const Room& room) {
  const LtProduct& lt = LtProduct::current();
  const bool integers = a.x_dtype == LS_DTYPE_I8;
  const uint64_t step = sums_rows(call.m, a.n);
  for (uint64_t row = 0; row < call.m; row += step) {
    const uint64_t m = std::min(step, call.m - row);
    LtShape shape = shape_of(a, m);
    shape.y_dtype = integers ? LS_DTYPE_I32 : LS_DTYPE_F32;
    shape.y_ld = a.n;
    shape.scaling = Scaling::none;
    shape.alignment = std::min(shape.alignment, alignment_of(room.sums, a.n * 4));
    if (!lt.can(shape)) return false;  // of all steps alike, or of a last one of fewer rows
    const void* x = behind(a.x, row * a.x_ld, a.x_dtype);
    lt.run(shape, {x, a.w, nullptr, nullptr, nullptr, room.sums, room.lt, call.stream});
    Finish finish{};
    finish.sums = room.sums;
    finish.integers = integers;
    finish.x_scale = a.x_scale == nullptr ? nullptr : a.x_scale + row;
    finish.w_scale = a.w_scale;
    finish.constants = a.constants;
    finish.bias = bias;
    finish.bias_dtype = call.bias_dtype;
    finish.y_dtype = call.y_dtype;
    finish.m = m;
    finish.n = a.n;
    finish.y_stride = call.y_stride;
    finish.y = const_cast<void*>(behind(y, row * call.y_stride, call.y_dtype));
    finish.stream = stream_of(call);
    check(finish_sums(finish), "finishing a product");
  }
  return true;
}

}  // namespace

uint64_t sums_rows(uint64_t m, uint64_t n) {
  constexpr uint64_t kTile = 128;
  const uint64_t fit = Room::kSumsNbytes / (n * sizeof(float)) / kTile * kTile;
  return std::min(m, std::max(fit, kTile));
}

Room Room::take(Cutter& cutter, uint64_t m, uint64_t n) {
  Room out;
  out.lt = cutter.take<char>(LtProduct::kWorkspace);
  out.sums = cutter.take<float>(sums_rows(m, n) * n);
  return out;
}

bool multiply(const Operands& a, const ls_apply& call, uint64_t column, const Room& room) {
  void* y = static_cast<char*>(call.y) + column * item_of(call.y_dtype);
  const void* bias = behind(call.bias, column, call.bias_dtype);
  if (in_tiles(a, call, y, bias)) return true;
  // cublasLt scales 8-bit floats alone.
  const bool at_once = a.scaling == Scaling::none || item_of(a.x_dtype) == 1;
  if (a.x_dtype != LS_DTYPE_I8 && at_once && in_one_pass(a, call, y, bias, room)) return true;
  if (a.scaling != Scaling::blocks) return through_sums(a, call, y, bias, room);
  if (bias == nullptr || !in_one_pass(a, call, y, nullptr, room)) return false;
  check(
      add_bias(y, call.y_dtype, call.m, a.n, call.y_stride, bias, call.bias_dtype, stream_of(call)),
      "adding a bias");
  return true;
}

}  // namespace loadstone::common::cuda
