#include "autoround/device.hpp"

namespace loadstone::autoround {
namespace {

namespace cuda = common::cuda;

std::string packing_of(const Form& form) {
  return (form.matrix.packing == int_packs::Packing::awq ? "awq_w" : "gptq_w") +
         std::to_string(form.matrix.bits);
}

}  // namespace

std::string device_kernel_name(const Form& form) { return packing_of(form) + "_mma_cublaslt"; }

std::string device_reason(const Form& form, bool shuffled) {
  const char* how = cuda::has_few_rows(form.matrix, shuffled)
                        ? " rows of float16 or bfloat16 are multiplied from the words"
                        : " rows of float16 or bfloat16 are multiplied as the words are decoded";
  return "up to " + std::to_string(cuda::FewRows::kMost) + how + ", more with the decoded weight";
}

PacksBound::PacksBound(const Config& config, const sdk::Binding& binding)
    : device_(cuda::device_of(binding.stored.raw(0).at)),
      layer_(bind_matrix(known_form(config, binding.layer), binding.stored, 0)) {}

void PacksBound::sizes(uint32_t, uint64_t m, ls_sizes& out) const {
  out.workspace_nbytes = layer_.workspace_nbytes(m);
}

void PacksBound::apply(const ls_apply& call) const {
  if (call.m == 0) return;
  const cuda::OnDevice guard(device_);
  layer_.run(call);
}

}  // namespace loadstone::autoround
