#include "common/cuda/coded_layer.hpp"

#include "common/cuda/rows_product.hpp"
#include "common/numerics/floats.hpp"

namespace loadstone::common::cuda {
namespace {

constexpr uint64_t kBlock = 128;  // of cublasLt's block scales

}  // namespace

CodedLayer::CodedLayer(const CodedMatrix& w, uint64_t group) : w_(w), group_(group) {}

uint32_t CodedLayer::w_dtype() const {
  if (w_.kind == CodeKind::int8) return LS_DTYPE_I8;
  return w_.kind == CodeKind::e5m2 ? LS_DTYPE_F8_E5M2 : LS_DTYPE_F8_E4M3;
}

bool CodedLayer::blocks_in_order() const {
  if (w_.scale_kind != ScaleKind::f32) return false;
  if (group_ != kBlock || w_.map.height != kBlock || w_.scale_columns % 4 != 0) return false;
  for (int i = 0; i < w_.map.count; ++i) {
    const ScaleRun& run = w_.map.runs[i];
    if (run.phase != 0 || run.begin % kBlock != 0) return false;
    if (run.first != static_cast<int32_t>(run.begin / kBlock)) return false;
  }
  return true;
}

/// Rows of 16 bytes on both sides.
bool CodedLayer::on_tensor_cores() const {
  if (w_.k % 16 != 0 || w_.n % 16 != 0) return false;
  if (group_ != 0) return blocks_in_order();
  for (int i = 0; i < w_.map.count; ++i) {
    if (w_.map.runs[i].begin % 16 != 0) return false;
  }
  return true;
}

const char* CodedLayer::unit(uint32_t sm) const {
  if (!on_tensor_cores()) return "simt";
  if (sm != 90 || group_ != 0) return "cublaslt";
  if (w_.kind == CodeKind::int8) return "int8_tiles";
  return w_.kind == CodeKind::e4m3 ? "fp8_tiles" : "cublaslt";
}

uint64_t CodedLayer::workspace_nbytes(uint64_t m) const {
  Cutter cutter(nullptr);
  cutter.take<float>(w_.n * groups());
  if (on_tensor_cores()) Room::take(cutter, m, w_.n);
  return cutter.used();
}

void CodedLayer::run_simt(const ls_apply& call, const CodedSegment& segment,
                          const float* w_scales) const {
  RowsProduct product{};
  product.w_dtype = w_dtype();
  product.x_dtype = w_.kind == CodeKind::int8 ? LS_DTYPE_I8 : LS_DTYPE_F8_E4M3;
  product.y_dtype = call.y_dtype;
  product.bias_dtype = call.bias_dtype;
  product.m = call.m;
  product.n = segment.count;
  product.k = w_.k;
  product.group = group_ == 0 ? w_.k : group_;
  product.w_groups = groups();
  product.y_stride = call.y_stride;
  product.x = segment.x;
  product.w = w_.codes + segment.begin * w_.k;
  product.x_scale = segment.x_scales;
  product.w_scale = w_scales + segment.begin * groups();
  if (call.bias != nullptr) {
    product.bias =
        static_cast<const char*>(call.bias) + segment.begin * float_nbytes(call.bias_dtype);
  }
  if (w_.constants != nullptr) product.constants = w_.constants + segment.begin;
  product.y = static_cast<char*>(call.y) + segment.begin * float_nbytes(call.y_dtype);
  product.stream = stream_of(call);
  check(rows_product(product), "product");
}

void CodedLayer::run(const ls_apply& call, const CodedSegment* segments, uint64_t count) const {
  Cutter cutter(call.workspace);
  auto* room_for_scales = cutter.take<float>(w_.n * groups());
  const auto* stored = static_cast<const float*>(w_.scales);
  // One scale a row lies as products read it; others are spread over their rows.
  const bool a_row =
      group_ == 0 && w_.map.height == 1 && w_.map.count == 1 && w_.scale_kind == ScaleKind::f32;
  const auto row_scales = [&] {
    if (a_row) return stored;
    check(expand_scales(w_, groups(), room_for_scales, stream_of(call)), "spreading scales");
    return static_cast<const float*>(room_for_scales);
  };
  const bool blocks = group_ != 0 && on_tensor_cores();
  const float* w_scales = blocks ? stored : row_scales();
  Room room;
  if (on_tensor_cores()) room = Room::take(cutter, call.m, w_.n);
  for (uint64_t i = 0; i < count; ++i) {
    const CodedSegment& segment = segments[i];
    bool done = false;
    if (on_tensor_cores()) {
      Operands a;
      a.w_dtype = w_dtype();
      a.x_dtype = w_.kind == CodeKind::int8 ? LS_DTYPE_I8 : LS_DTYPE_F8_E4M3;
      a.scaling = blocks ? Scaling::blocks : Scaling::rows;
      a.x = segment.x;
      a.x_ld = w_.k;
      a.w = w_.codes + segment.begin * w_.k;
      a.x_scale = segment.x_scales;
      a.w_scale = blocks ? w_scales : w_scales + segment.begin;
      a.n = segment.count;
      a.k = w_.k;
      if (w_.constants != nullptr) a.constants = w_.constants + segment.begin;
      done = multiply(a, call, segment.begin, room);
    }
    if (!done) run_simt(call, segment, blocks ? row_scales() : w_scales);
  }
}

}  // namespace loadstone::common::cuda
