// The weights of a layer's parts, as plugins of matrix formats look at them, and the words in which
// they refuse what isn't one.
#pragma once

#include <loadstone/plugin.hpp>
#include <span>
#include <string>
#include <vector>

namespace loadstone::common {

/// What plan_layer answers when a method has nothing to do on a layer, or can't.
struct NoForm {
  uint32_t verdict = LS_VERDICT_UNSUPPORTED;  // or KEEP, or SPLIT
  std::string reason;

  /// Sets both; false, so that a step can end with it.
  bool set(uint32_t value, std::string text);
  void answer(sdk::Plan& out) const;
};

/// One checkpoint module of the layer. Rows are numbered over all groups: group·out + row.
struct MatrixPart {
  sdk::Part part;
  sdk::Tensor weight;
  uint64_t row_begin = 0;  // the part's first row

  uint64_t rows() const { return part.out_count; }
};

/// What a method takes a "weight" for.
struct WeightRules {
  std::span<const uint32_t> codes;   // dtypes of serialized weights
  const char* expected;              // for errors: "I8, BF16, F16 or F32"
  bool keep_missing = false;         // a part without "weight" is kept, not unsupported
  const char* other_name = nullptr;  // looked for where there is no "weight"
};

/// Every part's "weight", all of one code dtype or all plain floats. False, with the verdict, when
/// one is missing or of another dtype, or when parts are stored differently.
bool find_matrices(const sdk::Layer& layer, const WeightRules& rules, std::vector<MatrixPart>& out,
                   NoForm& instead);

/// Whether the weight is a matrix of the module's rows and `columns` columns. False, with the
/// verdict, for other ranks; LS_INVALID_CHECKPOINT (thrown) for other extents.
bool check_matrix(const sdk::Layer& layer, const MatrixPart& part, uint64_t columns,
                  NoForm& instead);

/// Index of the part that holds row `row`, counted over all groups.
template <typename Part>
size_t part_of_row(const std::vector<Part>& parts, uint64_t row) {
  for (size_t i = 0; i < parts.size(); ++i) {
    if (row >= parts[i].row_begin && row - parts[i].row_begin < parts[i].rows()) return i;
  }
  sdk::fail(LS_INTERNAL, "row " + std::to_string(row) + " belongs to no part");
}

/// The part's codes as they are: one block of rows, fed read-only to be checked, tag `index`.
ls_identity identity_of(const MatrixPart& part, const sdk::Tensor& tensor, uint64_t row_nbytes,
                        uint32_t stored, size_t index);

// ---- words ----

std::string dims(const sdk::Tensor& tensor);        // "[6, 8]"
std::string dims(uint64_t rows, uint64_t columns);  // the same
std::string dtype_name(uint32_t dtype);             // "F8_E4M3"
/// "blocks.0.linear.weight_scale".
std::string full_name(const sdk::Part& part, const sdk::Tensor& tensor);
std::string full_name(const sdk::Layer& layer, const sdk::Tensor& tensor);
/// `found only "a" and "b"`, the part's tensors but `tensor`; or "found nothing beside it".
std::string found_beside(const sdk::Layer& layer, const sdk::Tensor& tensor);

}  // namespace loadstone::common
