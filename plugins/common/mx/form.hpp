// MX layers: what a checkpoint holds of one and what is stored of it. Shared by mxfp8, mxfp4 and
// mxfp4_dualscale, which differ in element, scale rule and the outer scale.
//
// Serialized, per part (N rows, K columns, groups of 32 along K, the last may be shorter):
//   weight            e4m3: F8_E4M3 codes [N, K]
//                     e2m1: U8 or I8, two codes a byte, even column low [N, K/2]; or the values
//                     as F8_E4M3 [N, K]
//                     either: the elements' values held as BF16, F16 or F32 [N, K]
//   weight_packed     another name of packed e2m1 codes
//   weight_scale      U8 or F8_E8M0 [N, ceil(K/32)]
//   weight_dual_scale F32, BF16, F16 [N, K/512, 1] or [N, K/512]: dual scale only, required there
//   mul_scale         F32, BF16, F16 [K]: e2m1, or where the dialect has it; multiplies the
//                     activation
// Names are the dialect's.
// Stored: weight F8_E4M3 [N, K] or U8 [N, K/2]; weight_scale U8; weight_dual_scale F32 [N, K/512,
// 1]; mul_scale F32 [K]. Source: numeric-definitions, section 4; tool-formats, sections 1, 6 and 9.
#pragma once

#include <optional>
#include <vector>

#include "common/layer/matrices.hpp"
#include "common/numerics/mx.hpp"

namespace loadstone::common::mx {

/// Names of a part's tensors.
struct Names {
  const char* weight = "weight";
  const char* scale = "weight_scale";
  const char* outer = "weight_dual_scale";
  const char* mul = "mul_scale";
};

struct Config {
  const char* method = "";  // for words: "mxfp4"
  Names names;
  bool smooths = false;  // e4m3 weights may have a mul_scale too
  MxElement element = MxElement::e4m3;
  MxRule rule = MxRule::ocp;  // of weights quantized here and of activations of the same element
  bool dual = false;
  bool serialized = false;
  bool weights_only = false;          // serialized weights under activations that stay as they are
  const char* codes_name = "weight";  // under which packed codes are saved
  bool require_mul_scale = false;
  bool w4a8 = false;                     // e2m1 weights under e4m3 activations, all layers
  int64_t leading_blocks = 0;            // kept, when quantized here
  std::vector<std::string> w4a8_layers;  // sorted
  std::vector<int64_t> w4a8_steps;       // sorted
  std::vector<std::string> ignored_layers;
};

struct PartForm : MatrixPart {
  std::optional<sdk::Tensor> scale, outer, mul;
};

enum class Source {
  floats,  // quantized here
  codes,   // stored as they are
  values,  // the elements' values as e4m3 or as floats
};

struct Form {
  Source source = Source::floats;
  MxElement element = MxElement::e4m3;
  bool dual = false;
  bool decodes = false;      // serialized, and wanted as plain floats
  bool weight_only = false;  // an embedding: rows are looked up
  bool has_mul = false;
  bool w4a8 = false;      // this layer's activations are e4m3 at every step
  uint64_t n = 0, k = 0;  // of one group's matrix
  uint32_t groups = 1;
  std::vector<PartForm> parts;

  bool serialized() const { return source != Source::floats; }
  uint64_t rows() const { return n * groups; }
  uint64_t row_nbytes() const { return element == MxElement::e4m3 ? k : k / 2; }
  uint64_t scale_columns() const { return mx_groups(k); }
  uint64_t outer_columns() const { return dual ? k / 512 : 0; }
  /// Indices of stored tensors behind weight and weight_scale.
  uint32_t outer_index() const { return 2; }
  uint32_t mul_index() const { return dual ? 3 : 2; }
};

/// Whether the layer lies in one of the leading blocks that weights quantized here leave alone.
bool is_leading(const Config& config, const sdk::Layer& layer);

/// The form, or the verdict instead. Errors (thrown): LS_INVALID_CHECKPOINT for scales that are
/// missing, of a wrong shape or dtype, or of another method.
std::optional<Form> find_form(const Config& config, const sdk::Layer& layer, NoForm& instead);

/// Fused parts whose smoothing scales differ can't share an activation: false with a split, once
/// the scales' values are there; asks `out` for them before.
bool agree_on_mul(const Form& form, sdk::Plan& out, NoForm& instead);

/// The form of a layer that plan_layer accepted.
Form form_of(const Config& config, const sdk::Layer& layer);

/// "mxfp4_w4a4", "mxfp4_w4a8", "mxfp8_w8a8", "mxfp4_weight_only".
std::string kernel_name(const Config& config, const Form& form);

}  // namespace loadstone::common::mx
