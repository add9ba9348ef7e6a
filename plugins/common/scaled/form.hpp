// Serialized matrices of scaled codes, as dialects write them: what a dialect says of a layer
// (Spec), what the checkpoint holds of it, and what is stored (Form). Nothing is requantized: every
// stored tensor is the file's bytes, fused parts one after the other.
//
// Per part (N rows, K columns; names are the dialect's):
//   weight        e4m3: F8_E4M3 [N, K]   int8: I8 [N, K]   e2m1: U8 [N, K/2], even column low
//                 int4: U8 or I8 [N/2, K], row 2i low, row 2i+1 high, two's complement
//                 words: I32 [N, ceil(K·bits/32)], unsigned codes along K, see
//                 numerics/packed_ints.hpp; K is the second value of "weight_shape" (I64 [2])
//   weight_scale  tensor: one value      channel: [N] or [N, 1]
//                 block: [ceil(N/bn), ceil(K/bk)], axes of 1 between them allowed
//                 group: [N, K/group]; F8_E4M3 for e2m1
//   global        one value: e2m1 alone, see numerics/nvfp4.hpp
//   input_scale   one value: activations with a fixed scale
//   pre_scale     [K]: multiplies the activation; cast to its dtype, as the product is
//   input_offset  one value: x·(1/input_scale) + input_offset is rounded
//   constant      I32 [N]: added to each row's integer sum; it holds the bias
//   zero_point    z of (q - z)·scale, one a scale.  int8: I8, or F32, BF16, F16    words: I32
//                 [ceil(N·bits/32), columns], codes along N; without one z = 2^(bits-1)
//   g_idx         I32 [K]: the group of each column; without one column / group
// Scales but e2m1's are F32, BF16 or F16. Source: numeric-definitions, sections 5, 6, 9, 10.
#pragma once

#include <optional>
#include <vector>

#include "common/layer/matrices.hpp"
#include "common/numerics/nvfp4.hpp"
#include "common/numerics/packed_ints.hpp"

namespace loadstone::common::scaled {

enum class Codes { e4m3, int8, e2m1, int4, words };
enum class Scale { tensor, channel, block, group };
enum class Input {
  none,
  fp8_token,
  fp8_fixed,
  fp8_group,
  int8_token,
  int8_fixed,
  int8_affine,  // with input_offset and constant; over int8 codes, one scale a row
  int4_token,
  nvfp4
};

/// Whether activations are integers.
constexpr bool is_integer(Input input) {
  return input >= Input::int8_token && input <= Input::int4_token;
}

/// Indices of what a part holds.
enum Which : uint32_t {
  kWeight,
  kScale,
  kGlobal,
  kInput,
  kPre,
  kZero,
  kOrder,
  kInputOffset,
  kConstant,
  kWhichCount
};

struct Spec {
  std::string method;  // for words: "modelopt"
  Codes codes = Codes::e4m3;
  Scale scale = Scale::tensor;
  Input input = Input::none;
  uint64_t block_rows = 0, block_columns = 0;  // block
  uint64_t group = 0;                          // group: columns as declared; 0: as stored
  uint32_t bits = 8;                           // of int8's and words' codes: 1 to 8
  bool signed_scales = false;                  // integers whose scales may be negative
  Nvfp4Order order = Nvfp4Order::multiplied;   // of the global scale, and of the input's
  bool needs_order = false;                    // g_idx must be there
  bool zeros_vanish = false;                   // zero points must be 0
  // The scale is input_scale·weight_scale: a float, or I64 that holds the bits of a float32.
  bool scale_holds_input = false;
  // Names in the file; null: there is none. pre_scale and g_idx may be absent where named.
  const char* names[kWhichCount] = {"weight", "weight_scale"};
  const char* shape_name = nullptr;  // words: of the tensor with N and K
};

struct PartForm : MatrixPart {
  std::optional<sdk::Tensor> tensors[kWhichCount];
  uint64_t block_begin = 0, block_count = 0;  // block: rows of scales among the stored ones
  uint64_t zero_begin = 0, zero_count = 0;    // words: rows of zero points likewise
  std::optional<sdk::Tensor> bias;            // beside a constant, which holds it
};

struct Form {
  Spec spec;
  bool decodes = false;         // wanted as plain floats
  uint64_t n = 0, k = 0;        // of one group's matrix
  uint32_t groups = 1;          // of matrices
  uint64_t scale_columns = 1;   // scales of a row
  uint64_t scale_width = 0;     // columns that share one: K, the block's or the group's
  uint64_t block_total = 0;     // block: stored rows of scales
  uint64_t zero_total = 0;      // words: stored rows of zero points
  std::vector<PartForm> parts;  // sorted as the layer's

  uint64_t rows() const { return n * groups; }
  bool has(Which which) const { return parts[0].tensors[which].has_value(); }
  /// Bytes of one row of the file's weight tensor, and how many rows of the matrix it holds.
  uint64_t row_nbytes() const {
    if (spec.codes == Codes::words) return packed_words(k, spec.bits) * sizeof(uint32_t);
    return spec.codes == Codes::e2m1 ? k / 2 : k;
  }
  uint64_t rows_a_row() const { return spec.codes == Codes::int4 ? 2 : 1; }
  /// Index of a stored tensor.
  uint32_t stored_index(Which which) const;
  const sdk::Tensor& tensor(size_t part, Which which) const { return *parts[part].tensors[which]; }
  bool weight_only() const { return spec.input == Input::none; }
  bool has_zeros() const { return has(kZero) && !spec.zeros_vanish; }
  /// Row of scales (and of int8's zero points) that row `row` of a part uses.
  uint64_t scale_row(uint64_t row) const {
    if (spec.scale == Scale::tensor) return 0;
    return spec.scale == Scale::block ? row / spec.block_rows : row;
  }
};

/// Whether the values that say K are there; asks `out` for them otherwise.
bool knows_width(const Spec& spec, const sdk::Layer& layer, sdk::Plan& out);

/// The form, or the verdict instead. Errors (thrown): LS_INVALID_CHECKPOINT for scales that are
/// missing, of a wrong shape or dtype.
std::optional<Form> find_form(const Spec& spec, const sdk::Layer& layer, NoForm& instead);

/// Why no product reads such codes, scales and groups beside its activations; "" where one does.
std::string why_unfit(const Form& form);

/// Parts of one group that have different input scales can't share an activation, nor parts of
/// different column orders a layer: false with a split, once the values are there; asks `out` for
/// them before.
bool agree_on_input(const Form& form, sdk::Plan& out, NoForm& instead);

/// Where one part's bytes of one tensor lie, in the file's tensor and in the stored one.
struct Cut {
  uint64_t src_offset = 0, dst_offset = 0, nbytes = 0, row_nbytes = 0;
  uint64_t rows = 0;  // of the file's tensor; 0: no axis of rows
};

Cut cut_of(const Form& form, size_t part, Which which);

/// Adds sources, stored tensors, identities, verdict and sizes.
void plan(const Form& form, const sdk::Layer& layer, sdk::Plan& out);

/// The serialized form, as it was read.
void save_layer(const Form& form, ls_sink* sink);
void save_read(const Form& form, const sdk::Buffers& stored, uint64_t index, uint64_t offset,
               uint64_t nbytes, void* out);

std::string kernel_name(const Form& form);

}  // namespace loadstone::common::scaled
