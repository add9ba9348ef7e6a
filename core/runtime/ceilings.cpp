#include "runtime/ceilings.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "runtime/torch_setup.hpp"

namespace loadstone::runtime {
namespace {

/// Median seconds of `work` on `device`, after one round that doesn't count.
double median_seconds(c10::Device device, const std::function<void()>& work) {
  constexpr int kRounds = 5;
  std::vector<double> seconds;
  for (int round = 0; round <= kRounds; ++round) {
    wait_for(device);
    const auto start = std::chrono::steady_clock::now();
    work();
    wait_for(device);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    if (round > 0) seconds.push_back(taken.count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + kRounds / 2, seconds.end());
  return seconds[kRounds / 2];
}

}  // namespace

Result<Ceilings> measure_ceilings(int32_t gpu, Compute compute) {
  if (gpu >= 0) LS_CHECK(set_up_cuda(gpu));
  const c10::Device device = gpu >= 0 ? c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(gpu))
                                      : c10::Device(c10::kCPU);
  const at::ScalarType dtype = scalar_type_of(compute);
  Ceilings out;
  try {
    const c10::InferenceMode inference;
    const int64_t n = gpu >= 0 ? 8192 : 2048;
    const at::TensorOptions options = at::TensorOptions().device(device).dtype(dtype);
    const at::Tensor a = at::randn({n, n}, options), b = at::randn({n, n}, options);
    at::Tensor y = at::empty({n, n}, options);
    const auto size = static_cast<double>(n);
    out.flops = 2 * size * size * size / median_seconds(device, [&] { at::mm_out(y, a, b); });
    if (gpu >= 0) {
      constexpr int64_t kNbytes = int64_t{1} << 30;
      const auto bytes = at::TensorOptions().dtype(at::kByte);
      const at::Tensor host = at::empty({kNbytes}, bytes.pinned_memory(true));
      at::Tensor there = at::empty({kNbytes}, bytes.device(device));
      const double seconds = median_seconds(device, [&] { there.copy_(host, true); });
      out.copied_nbytes = static_cast<double>(kNbytes) / seconds;
    }
  } catch (const std::exception& error) {
    const std::string text = error.what();
    return Error{Code::unsupported,
                 "cannot measure",
                 "LibTorch",
                 "found " + text.substr(0, text.find('\n')),
                 "",
                 {}};
  }
  return out;
}

}  // namespace loadstone::runtime
