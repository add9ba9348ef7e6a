#include "runtime/gemm.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>

#include <exception>
#include <optional>

#include "plugin/registry.hpp"

namespace loadstone::runtime {
namespace {

std::optional<at::ScalarType> scalar_type(uint32_t dtype) {
  switch (dtype) {
    case LS_DTYPE_F32:
      return at::kFloat;
    case LS_DTYPE_BF16:
      return at::kBFloat16;
    case LS_DTYPE_F16:
      return at::kHalf;
    case LS_DTYPE_F8_E4M3:
      return at::kFloat8_e4m3fn;
    case LS_DTYPE_I8:
      return at::kChar;
    default:
      return std::nullopt;
  }
}

at::Tensor matrix(const void* at, uint64_t rows, uint64_t columns, at::ScalarType type) {
  return at::from_blob(const_cast<void*>(at),  // NOLINT: a view that is only read
                       {static_cast<int64_t>(rows), static_cast<int64_t>(columns)},
                       at::TensorOptions().dtype(type));
}

/// One scale, or one a row of x (a column of y for w).
void scale(at::Tensor& y, const float* scales, uint64_t count, bool columns) {
  if (scales == nullptr) return;
  y.mul_(columns ? matrix(scales, 1, count, at::kFloat) : matrix(scales, count, 1, at::kFloat));
}

void product(const ls_gemm& call, at::ScalarType type) {
  at::Tensor y = matrix(call.y, call.m, call.n, at::kFloat);
  at::Tensor x = matrix(call.x, call.m, call.k, type);
  at::Tensor w = matrix(call.w, call.n, call.k, type);
  if (type == at::kChar) {
    // Sums of int8 products are exact in float64 (below 2^53), whatever the order.
    y.copy_(at::mm(x.to(at::kDouble), w.to(at::kDouble).t()));
  } else {
    at::mm_out(y, x.to(at::kFloat), w.to(at::kFloat).t());
  }
  scale(y, call.w_scale, call.w_per_row != 0 ? call.n : 1, true);
  scale(y, call.x_scale, call.x_per_row != 0 ? call.m : 1, false);
}

int32_t fail(int32_t status, const char* text) { return plugin::host_table().fail(status, text); }

}  // namespace

int32_t torch_gemm(const ls_gemm* call) {
  const auto type = scalar_type(call->dtype);
  if (!type) return fail(LS_UNSUPPORTED, "gemm of this dtype");
  if (call->place != LS_PLACE_HOST) return fail(LS_UNSUPPORTED, "gemm on this place");
  try {
    product(*call, *type);
    return LS_OK;
  } catch (const std::exception& error) {
    return fail(LS_INTERNAL, error.what());
  }
}

}  // namespace loadstone::runtime
