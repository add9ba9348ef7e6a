// What one layer holds in the checkpoint and what is stored of it.
//
// Serialized, per part: "weight" I8 (rows, K) and "weight_scale" [rows] or [rows, 1], F32, BF16 or
// F16 (widened). No zero point. Source: numeric-definitions, section 3.
#pragma once

#include <optional>
#include <vector>

#include "common/layer/matrices.hpp"

namespace loadstone::int8 {

struct Config {
  bool serialized = false;  // the checkpoint says that it holds int8
  std::vector<std::string> ignored_layers;
};

struct PartForm : common::MatrixPart {
  std::optional<sdk::Tensor> scale;
};

struct Form {
  bool serialized = false;
  bool decodes = false;      // serialized, and wanted as plain floats
  bool weight_only = false;  // an embedding: rows are looked up
  uint64_t n = 0, k = 0;     // of one group's matrix
  uint32_t groups = 1;
  std::vector<PartForm> parts;
};

/// The form, or the verdict instead. Errors (thrown): LS_INVALID_CHECKPOINT for a scale that is
/// missing or of a wrong shape or dtype.
std::optional<Form> find_form(const Config& config, const sdk::Layer& layer,
                              common::NoForm& instead);

/// The form of a layer that plan_layer accepted.
Form form_of(const Config& config, const sdk::Layer& layer);

}  // namespace loadstone::int8
