// A build without CUDA: LibTorch's operators do everything.
#include "runtime/fused.hpp"

namespace loadstone::runtime::fused {

bool layer_norm_modulated(at::Tensor& /*out*/, const at::Tensor& /*x*/, const at::Tensor& /*scale*/,
                          const at::Tensor& /*shift*/, double /*eps*/) {
  return false;
}
bool add_gated(at::Tensor& /*x*/, const at::Tensor& /*gate*/, const at::Tensor& /*y*/,
               const at::Tensor& /*bias*/) {
  return false;
}
bool add_gated_then_norm(at::Tensor& /*out*/, at::Tensor& /*x*/, const at::Tensor& /*gate*/,
                         const at::Tensor& /*y*/, const at::Tensor& /*bias*/,
                         const at::Tensor& /*scale*/, const at::Tensor& /*shift*/, double /*eps*/) {
  return false;
}
bool gelu_tanh(at::Tensor& /*x*/, const at::Tensor& /*bias*/) { return false; }
bool place_heads(const Heads& /*heads*/) { return false; }

}  // namespace loadstone::runtime::fused
