#include "common/cuda/decoded_layer.hpp"

#include <algorithm>

#include "common/numerics/floats.hpp"

namespace loadstone::common::cuda {
namespace {

constexpr uint64_t kScratchNbytes = 512u << 20;  // at most
constexpr uint64_t kPanelRows = 64;              // at least, and a multiple of it

}  // namespace

uint64_t DecodedLayer::scratch_nbytes() const {
  const uint64_t least = std::min(w_.n, kPanelRows) * w_.k * sizeof(float);
  return std::max(std::min(w_.n * w_.k * 2, kScratchNbytes), least);
}

uint64_t DecodedLayer::workspace_nbytes(uint64_t m) const {
  Cutter cutter(nullptr);
  cutter.take<char>(scratch_nbytes());
  Room::take(cutter, m, w_.n);
  return cutter.used();
}

void DecodedLayer::run(const ls_apply& call) const {
  Cutter cutter(call.workspace);
  auto* scratch = cutter.take<char>(scratch_nbytes());
  const Room room = Room::take(cutter, call.m, w_.n);
  uint64_t panel = scratch_nbytes() / (w_.k * float_nbytes(call.x_dtype));
  if (panel < w_.n) panel = std::max(panel / kPanelRows * kPanelRows, kPanelRows);
  for (uint64_t row = 0; row < w_.n; row += panel) {
    const uint64_t count = std::min(panel, w_.n - row);
    check(decode_rows(w_, row, count, scratch, call.x_dtype, stream_of(call)), "decoding weights");
    Operands a;
    a.x_dtype = a.w_dtype = call.x_dtype;
    a.x = call.x;
    a.x_ld = call.x_stride;
    a.w = scratch;
    a.n = count;
    a.k = w_.k;
    if (!multiply(a, call, row, room)) {
      sdk::fail(LS_UNSUPPORTED, "product on CUDA: found no algorithm of cublasLt for m " +
                                    std::to_string(call.m) + ", n " + std::to_string(count) +
                                    ", k " + std::to_string(w_.k));
    }
  }
}

void DecodedLayer::gather(const ls_apply& call) const {
  if (call.x_dtype != LS_DTYPE_I64) {
    sdk::fail(LS_INVALID_ARGUMENT, "gather expects I64 row numbers");
  }
  check(gather_rows(w_, static_cast<const int64_t*>(call.x), std::max<uint64_t>(call.x_stride, 1),
                    call.m, call.y, call.y_stride, call.y_dtype, stream_of(call)),
        "looking rows up");
}

}  // namespace loadstone::common::cuda
