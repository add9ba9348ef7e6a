// Scaled layers on a GPU: activations quantized there as the CPU does; products of 8-bit codes by
// cublasLt (or plain units where a shape doesn't fit them), scales, constants and bias while
// finishing; weights alone are decoded layer by layer. Codes that no tensor core takes beside the
// activation's (packed ones, NVFP4, those with zero points or scales of their own for groups of
// columns) are levels that are exact in bf16: both sides are multiplied as such.
#pragma once

#include "common/cuda/coded_layer.hpp"
#include "common/cuda/decoded_layer.hpp"
#include "common/cuda/levels.hpp"
#include "common/cuda/quantize.hpp"
#include "common/scaled/form.hpp"

namespace loadstone::common::scaled {

/// False, with the verdict, for what no kernel does: experts, groups of a width that none takes.
/// GPUs without fp8 units take fp8 weights alone: `form` becomes that.
bool fit_device(const sdk::Target& target, Form& form, NoForm& instead);

/// "int8_channel_int8_token_int8_tiles" (sm 90), "…_cublaslt", "fp8_channel_fp8_token_simt",
/// "int8_group_weight_only_lookup", "nvfp4_group_nvfp4_cublaslt_bf16",
/// "int4_group_int8_token_mma_bf16".
std::string device_kernel_name(const sdk::Target& target, const Form& form,
                               const sdk::Layer& layer);
/// What a plan says beside the kernel's name; "" if there is nothing to say. `asked`: the form
/// before fit_device.
std::string device_reason(const sdk::Target& target, const Form& asked, const Form& form);

/// Bound's calls on the device (bound.hpp).
class DeviceBound {
 public:
  DeviceBound(Form form, const sdk::Binding& binding);
  void sizes(uint64_t m, ls_sizes& out) const;
  void prepare(const ls_apply& call) const;
  void apply(const ls_apply& call) const;

 private:
  /// What prepare fills: codes and scales, and behind them what isn't float32 in the file.
  struct Quantized {
    uint8_t* codes;
    float *scales, *input_scale, *input_offset, *mul;
    void* values;  // as levels: the codes again as bf16
  };
  /// A stored tensor that activations are quantized with.
  struct Factor {
    cuda::ScaleKind kind = cuda::ScaleKind::f32;
    const void* at = nullptr;
    uint64_t count = 0;
  };
  Factor factor_of(Which which, uint64_t count, const sdk::Binding& binding) const;
  const float* widened(const Factor& factor, float* room, const ls_apply& call) const;
  Quantized cut(cuda::Cutter& cutter, uint64_t m) const;
  void set_key();
  cuda::RowsCall rows_of(const ls_apply& call, const Quantized& to) const;
  void quantize(const cuda::RowsCall& rows) const;

  uint64_t levels_workspace_nbytes(uint64_t m) const;
  void prepare_levels(const ls_apply& call, const Quantized& to) const;
  void apply_levels(const ls_apply& call) const;
  void apply_values(const ls_apply& call) const;
  void apply_rows(const ls_apply& call, const Quantized& from) const;
  void apply_groups(const ls_apply& call, const Quantized& from) const;

  Form form_;
  bool gathers_;
  int device_ = 0;
  Factor input_scale_, input_offset_, mul_;
  cuda::CodedLayer coded_;
  cuda::DecodedLayer decoded_;
  std::optional<cuda::Levels> levels_;  // what the two above don't do
  uint8_t key_[32] = {};
};

/// Whether only the kernels of levels do it.
bool by_levels(const Form& form);
/// What they don't, or "".
std::string why_no_levels(const Form& form);
/// Columns of a group whose scales both sides of a product of levels have, or 0: one scale a row.
uint64_t levels_group(const Form& form);
cuda::Levels levels_of(const Form& form, const sdk::Binding& binding);

}  // namespace loadstone::common::scaled
