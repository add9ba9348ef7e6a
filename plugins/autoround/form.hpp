// A layer's packed tensors: their shapes against each other and against the configuration.
#pragma once

#include <cstdint>
#include <loadstone/plugin.hpp>
#include <optional>
#include <string>
#include <vector>

#include "autoround/config.hpp"
#include "common/int_packs/int_packs.hpp"

namespace loadstone::autoround {

/// The tensors of one part. Rows [file_begin, file_begin+count) of the module's N are the layer's
/// rows [out_begin, …) of group `group`.
struct PackedPart {
  sdk::Tensor qweight, qzeros, scales;
  std::optional<sdk::Tensor> g_idx;
  uint64_t file_rows = 0;  // N of the module
  uint64_t file_begin = 0, out_begin = 0, count = 0;
  uint32_t group = 0;
};

/// A layer that can be read as one matrix a group. `matrix` has everything but pointers; its n is
/// the layer's.
struct Form {
  int_packs::Matrix matrix;
  std::vector<PackedPart> parts;
};

/// What the parts are before they are read.
struct Presence {
  uint64_t packed = 0, plain = 0;  // parts
};
Presence presence_of(const sdk::Layer& layer);

/// The form of a layer whose parts are all packed and have the setting `setting`.
/// Errors: LS_INVALID_CHECKPOINT naming the tensor that is missing or no matrix of words.
Form form_of(const sdk::Layer& layer, const Config& config, const Setting& setting);

/// "" or why N or K can't be done (not multiples of 32).
std::string unsupported_shape(const Form& form);

/// Holds every tensor's shape against the form: LS_INVALID_CHECKPOINT with both shapes.
void check_form(const Form& form, const Config& config, const Setting& setting);

/// Words of `rows` output rows in one row of qweight (row of codes) and of qzeros.
uint64_t weight_words(const int_packs::Matrix& matrix, uint64_t rows);
uint64_t zero_words(const int_packs::Matrix& matrix, uint64_t rows);
/// Rows of qweight.
uint64_t weight_rows(const int_packs::Matrix& matrix);
/// Bytes of one scale.
uint64_t scale_nbytes(const int_packs::Matrix& matrix);

}  // namespace loadstone::autoround
