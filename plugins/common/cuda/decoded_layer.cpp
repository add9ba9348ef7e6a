#include "common/cuda/decoded_layer.hpp"

#include <algorithm>

#include "common/numerics/floats.hpp"

namespace loadstone::common::cuda {
namespace {

constexpr uint64_t kScratchNbytes = 512u << 20;  // at most
constexpr uint64_t kPanelRows = 64;              // at least, and a multiple of it

uint64_t scratch_nbytes(uint64_t n, uint64_t k) {
  const uint64_t least = std::min(n, kPanelRows) * k * sizeof(float);
  return std::max(std::min(n * k * 2, kScratchNbytes), least);
}

}  // namespace

uint64_t decoded_nbytes(uint64_t n, uint64_t k, uint64_t m) {
  Cutter cutter(nullptr);
  cutter.take<char>(scratch_nbytes(n, k));
  Room::take(cutter, m, n);
  return cutter.used();
}

void for_panels(uint64_t n, uint64_t k, const DecodeRows& decode, const ls_apply& call,
                Cutter& cutter,
                const std::function<void(uint64_t row, uint64_t count, const void* w)>& multiply) {
  auto* scratch = cutter.take<char>(scratch_nbytes(n, k));
  uint64_t panel = scratch_nbytes(n, k) / (k * float_nbytes(call.x_dtype));
  if (panel < n) panel = std::max(panel / kPanelRows * kPanelRows, kPanelRows);
  for (uint64_t row = 0; row < n; row += panel) {
    const uint64_t count = std::min(panel, n - row);
    check(decode(row, count, scratch, call.x_dtype, stream_of(call)), "decoding weights");
    multiply(row, count, scratch);
  }
}

void run_decoded(uint64_t n, uint64_t k, const DecodeRows& decode, const ls_apply& call) {
  Cutter cutter(call.workspace);
  const Room room = Room::take(cutter, call.m, n);
  for_panels(n, k, decode, call, cutter, [&](uint64_t row, uint64_t count, const void* w) {
    Operands a;
    a.x_dtype = a.w_dtype = call.x_dtype;
    a.x = call.x;
    a.x_ld = call.x_stride;
    a.w = w;
    a.n = count;
    a.k = k;
    if (!multiply(a, call, row, room)) {
      sdk::fail(LS_UNSUPPORTED, "product on CUDA: found no algorithm of cublasLt for m " +
                                    std::to_string(call.m) + ", n " + std::to_string(count) +
                                    ", k " + std::to_string(k));
    }
  });
}

void DecodedLayer::run(const ls_apply& call) const {
  run_decoded(
      w_.n, w_.k,
      [this](uint64_t begin, uint64_t count, void* out, uint32_t dtype, cudaStream_t stream) {
        return decode_rows(w_, begin, count, out, dtype, stream);
      },
      call);
}

GroupsProduct groups_of(const ls_apply& call, uint64_t row, uint64_t count, uint64_t k,
                        const void* w) {
  GroupsProduct out{};
  out.x = call.x;
  out.w = w;
  if (call.bias != nullptr) {
    out.bias = static_cast<const char*>(call.bias) + row * float_nbytes(call.bias_dtype);
  }
  out.bias_dtype = call.bias_dtype;
  out.y = static_cast<char*>(call.y) + row * float_nbytes(call.y_dtype);
  out.y_dtype = call.y_dtype;
  out.m = call.m;
  out.n = count;
  out.k = k;
  out.y_stride = call.y_stride;
  out.stream = stream_of(call);
  return out;
}

void DecodedLayer::run_grouped(const ls_apply& call, uint64_t group, const float* x_scale,
                               const float* w_scale) const {
  const auto decode = [this](uint64_t begin, uint64_t count, void* out, uint32_t dtype,
                             cudaStream_t stream) {
    return decode_rows(w_, begin, count, out, dtype, stream);
  };
  Cutter cutter(call.workspace);
  for_panels(w_.n, w_.k, decode, call, cutter, [&](uint64_t row, uint64_t count, const void* w) {
    GroupsProduct product = groups_of(call, row, count, w_.k, w);
    product.x_scale = x_scale;
    product.x_row = w_.k / group;
    product.x_group = 1;
    product.w_scale = w_scale + row * (w_.k / group);
    product.group = group;
    check(groups_product(product), "product of groups");
  });
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
