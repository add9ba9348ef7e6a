// What one layer holds in the checkpoint and what is stored of it: found once from config and
// layer, the same answer in every call (plans are pure).
//
// Serialized, per part: "weight" (F8_E4M3 or F8_E5M2, rows × K) and one of
//   weight_scale | scale_weight       [] or [1]: per tensor; [rows] or [rows, 1]: per channel
//   weight_scale_inv | weight_scale   [ceil(rows/bn), ceil(K/bk)]: blocks, a multiplier as well
//   input_scale | scale_input         [] or [1]: static activations
// Scales are F32, BF16 or F16 and are widened. Source: numeric-definitions, section 2;
// tool-formats, sections 1, 3 and 9.
#pragma once

#include <optional>
#include <vector>

#include "common/layer/matrices.hpp"
#include "fp8/config.hpp"

namespace loadstone::fp8 {

struct PartForm : common::MatrixPart {
  std::optional<sdk::Tensor> scale, input_scale;
  // Blocks: the part's rows of scales are [block_begin, block_begin+block_count) of the stored
  // ones; file row r lies in block row r/bn - block_first, counted from the part's own.
  uint64_t grid_origin = 0, block_first = 0, block_count = 0, block_begin = 0;

  /// The scale row of the part's row `row`, from 0, in the stored block scales.
  uint64_t block_row(uint64_t row, uint64_t block_rows) const {
    return block_begin + (part.file_begin + row - grid_origin) / block_rows - block_first;
  }
};

enum class Source { floats, serialized };

struct Form {
  Source source = Source::floats;
  bool decodes = false;  // serialized, and wanted as plain floats
  Granularity granularity = Granularity::channel;
  Activation activation = Activation::token;
  uint32_t code_dtype = LS_DTYPE_F8_E4M3;
  uint64_t n = 0, k = 0;  // of one group's matrix
  uint32_t groups = 1;
  uint64_t block_rows = 0, block_columns = 0, scale_rows = 0, scale_columns = 0;
  std::vector<PartForm> parts;
  uint64_t parts_per_group = 1;

  bool serialized() const { return source == Source::serialized; }
  uint64_t rows() const { return n * groups; }
  /// Scales of row `row` in the stored scale tensor: one, or scale_columns of them.
  const float* row_scales(const float* stored, uint64_t row) const;
  /// Why apply leaves the activation as it is, or "": a lookup, activation groups that don't fit K,
  /// or a checkpoint that asks for it.
  std::string weight_only;
};

/// The form, or the verdict instead. Errors (thrown): LS_INVALID_CHECKPOINT for scales that are
/// missing or of a wrong shape or dtype; LS_INVALID_CONFIG for static activations without a scale.
std::optional<Form> find_form(const Config& config, const sdk::Layer& layer,
                              common::NoForm& instead);

/// The form of a layer that plan_layer accepted.
Form form_of(const Config& config, const sdk::Layer& layer);

}  // namespace loadstone::fp8
