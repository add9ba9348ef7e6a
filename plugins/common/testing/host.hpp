// Test side only: a host table for code that runs inside plugins, with threads and a plain product.
#pragma once

#include <loadstone/plugin.hpp>
#include <string>
#include <thread>
#include <vector>

namespace loadstone::common::testing {

inline std::string& last_failure() {
  static thread_local std::string text;
  return text;
}

/// float32 y = x·wᵀ with float64 sums.
inline int32_t plain_gemm(const ls_gemm* g) {
  if (g->dtype != LS_DTYPE_F32) return LS_UNSUPPORTED;
  const auto* x = static_cast<const float*>(g->x);
  const auto* w = static_cast<const float*>(g->w);
  for (uint64_t i = 0; i < g->m; ++i) {
    for (uint64_t j = 0; j < g->n; ++j) {
      double sum = 0;
      for (uint64_t k = 0; k < g->k; ++k) {
        sum += static_cast<double>(x[i * g->k + k]) * w[j * g->k + k];
      }
      g->y[i * g->n + j] = static_cast<float>(sum);
    }
  }
  return LS_OK;
}

inline void run_on_two_threads(uint64_t count, void (*body)(void*, uint64_t), void* context) {
  std::thread other([&] {
    for (uint64_t i = 1; i < count; i += 2) body(context, i);
  });
  for (uint64_t i = 0; i < count; i += 2) body(context, i);
  other.join();
}

/// Lends this process's plugin code a host. Call once per test program or fixture.
inline void use_host() {
  ls_host& host = sdk::detail::host_copy;
  host = sdk::make<ls_host>();
  host.abi_major = LS_ABI_MAJOR;
  host.fail = [](int32_t status, const char* text) {
    last_failure() = text;
    return status;
  };
  host.parallel_for = run_on_two_threads;
  host.gemm = plain_gemm;
}

}  // namespace loadstone::common::testing
