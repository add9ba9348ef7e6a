#include "runtime/attention.hpp"

#include <ATen/Context.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include <atomic>
#include <map>
#include <mutex>

#include "device/cuda.hpp"
#include "runtime/attention/fp8.hpp"
#include "runtime/attention/on_cuda.hpp"
#include "runtime/attention/on_host.hpp"
#include "runtime/attention_calls.hpp"

namespace loadstone::runtime {
namespace {

std::atomic<uint64_t> cudnn_calls{0}, torch_calls{0};

/// 0 where there is none. Asked once a GPU.
uint32_t sm_of(const at::Device& device) {
  static std::mutex mutex;
  static std::map<int, uint32_t> known;
  const std::lock_guard lock(mutex);
  const auto [entry, is_new] = known.try_emplace(device.index(), 0);
  if (is_new) {
    const auto found = device::properties(static_cast<uint32_t>(device.index()));
    if (found.ok()) entry->second = found->sm;
  }
  return entry->second;
}

}  // namespace

bool takes_cudnn(const AttentionCall& call) {
  constexpr int64_t kFewest = 1024;  // queries: below, flash is as fast and has no plan to build
  constexpr int64_t kWidest = 128;
  constexpr uint32_t kOldest = 90;
  const bool fits = call.q.is_cuda() && at::isReducedFloatingType(call.q.scalar_type()) &&
                    call.q.size(2) >= kFewest && call.q.size(1) == call.k.size(1) &&
                    call.q.size(3) % 8 == 0 && call.q.size(3) <= kWidest && !call.causal;
  return fits && at::Context::hasCuDNN() && sm_of(call.q.device()) >= kOldest;
}

AttentionCalls attention_calls() { return {cudnn_calls, torch_calls}; }

bool takes_fp8(int64_t dim) { return fp8_attention::takes_head(dim); }

at::Tensor attention(const AttentionCall& call) {
  if (call.fp8) {
    return call.q.is_cpu() ? fp8_attention::on_host(call) : fp8_attention::on_cuda(call);
  }
  at::Tensor out;
  if (takes_cudnn(call)) {
    ++cudnn_calls;
    out = std::get<0>(at::_scaled_dot_product_cudnn_attention(
        call.q, call.k, call.v, std::nullopt, false, 0.0, false, false, call.scale));
  } else {
    ++torch_calls;
    const bool grouped = call.q.size(1) != call.k.size(1);
    out = at::scaled_dot_product_attention(call.q, call.k, call.v, std::nullopt, 0.0, call.causal,
                                           call.scale, grouped);
  }
  // The kernels' output is [B, Lq, H, D] in memory: no copy.
  return out.transpose(1, 2).reshape({call.q.size(0), call.q.size(2), -1});
}

}  // namespace loadstone::runtime
