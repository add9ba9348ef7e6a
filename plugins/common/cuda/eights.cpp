#include "common/cuda/eights.hpp"

#include "common/cuda/launch.hpp"
#include "common/numerics/floats.hpp"

namespace loadstone::common::cuda {

EightsProduct eights_of(const ls_apply& call, uint64_t begin, uint64_t n, uint64_t k) {
  EightsProduct out{};
  out.x = call.x;
  if (call.bias != nullptr) {
    out.bias = static_cast<const char*>(call.bias) + begin * float_nbytes(call.bias_dtype);
  }
  out.y = static_cast<char*>(call.y) + begin * float_nbytes(call.y_dtype);
  out.x_dtype = call.x_dtype;
  out.bias_dtype = call.bias_dtype;
  out.y_dtype = call.y_dtype;
  out.m = call.m;
  out.n = n;
  out.k = k;
  out.x_stride = call.x_stride;
  out.y_stride = call.y_stride;
  out.stream = stream_of(call);
  return out;
}

bool eights_fit(const EightsProduct& c) {
  const bool half = c.x_dtype == LS_DTYPE_F16 || c.x_dtype == LS_DTYPE_BF16;
  const uint64_t aligned = reinterpret_cast<uintptr_t>(c.x) | c.x_stride * 2;
  return half && c.m <= EightsProduct::kMost && aligned % 16 == 0 && c.k % 8 == 0 && c.k < 1u << 31;
}

}  // namespace loadstone::common::cuda
