// A build without CUDA: the plan refuses GPUs before this is asked.
#include <c10/util/Exception.h>

#include "runtime/attention/on_cuda.hpp"

namespace loadstone::runtime::fp8_attention {

at::Tensor on_cuda(const AttentionCall& /*call*/) {
  TORCH_CHECK(false, "quantized attention has no CUDA kernel in this build");
}

}  // namespace loadstone::runtime::fp8_attention
