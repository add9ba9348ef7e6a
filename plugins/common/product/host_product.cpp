#include "common/product/host_product.hpp"

#include <loadstone/plugin.hpp>

namespace loadstone::common {

void host_product(const float* x, const float* w, float* y, uint64_t m, uint64_t n, uint64_t k) {
  ls_gemm gemm = sdk::make<ls_gemm>();
  gemm.dtype = LS_DTYPE_F32;
  gemm.place = LS_PLACE_HOST;
  gemm.m = m;
  gemm.n = n;
  gemm.k = k;
  gemm.x = x;
  gemm.w = w;
  gemm.y = y;
  if (sdk::host().gemm == nullptr) sdk::fail(LS_UNSUPPORTED, "this host offers no product");
  sdk::check_host(sdk::host().gemm(&gemm), "gemm");
}

}  // namespace loadstone::common
