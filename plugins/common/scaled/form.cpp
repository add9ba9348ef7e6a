#include "common/scaled/form.hpp"

#include <algorithm>

#include "common/product/rows.hpp"
#include "common/scaled/words.hpp"

namespace loadstone::common::scaled {
namespace {

using sdk::Layer;
using sdk::Tensor;

constexpr uint32_t kFloat8[] = {LS_DTYPE_F8_E4M3};
constexpr uint32_t kInt8[] = {LS_DTYPE_I8};
constexpr uint32_t kPacked[] = {LS_DTYPE_U8, LS_DTYPE_I8};
constexpr uint32_t kWords[] = {LS_DTYPE_I32, LS_DTYPE_U32};

[[noreturn]] void refuse(const char* what, const Layer& layer, const Tensor& tensor,
                         const std::string& found) {
  sdk::fail(LS_INVALID_CHECKPOINT,
            std::string(what) + ": " + full_name(layer, tensor) + ": " + found);
}

/// Finds one layer's form; holds what its steps share.
class Finder {
 public:
  Finder(const Spec& spec, const Layer& layer, NoForm& instead) : layer_(layer), instead_(instead) {
    form_.spec = spec;
  }

  std::optional<Form> run() {
    if (!find_weights()) return std::nullopt;
    form_.n = layer_.out();
    form_.groups = layer_.groups();
    form_.decodes = layer_.wants_decode() || !layer_.is_matrix();
    if (layer_.kind() == LS_KIND_GATHER) form_.spec.input = Input::none;
    for (size_t i = 0; i < form_.parts.size(); ++i) find_tensors(i);
    if (!find_width()) return std::nullopt;
    for (size_t i = 0; i < form_.parts.size(); ++i) {
      if (!check_tensors(i)) return std::nullopt;
    }
    if (layer_.kind() == LS_KIND_GATHER && form_.has(kPre)) {
      no("an embedding has no activation for \"" + std::string(form_.spec.names[kPre]) + "\"");
      return std::nullopt;
    }
    if (std::string why = why_unfit(form_); !why.empty()) {
      no(std::move(why));
      return std::nullopt;
    }
    if (!same_dtypes()) return std::nullopt;
    return std::move(form_);
  }

 private:
  bool no(std::string reason) {
    return instead_.set(LS_VERDICT_UNSUPPORTED, form_.spec.method + ": " + std::move(reason));
  }

  bool find_weights() {
    const Codes codes = form_.spec.codes;
    WeightRules rules{kFloat8, "F8_E4M3", true};
    if (codes == Codes::int8) rules = {kInt8, "I8", true};
    if (codes == Codes::e2m1 || codes == Codes::int4) rules = {kPacked, "U8", true};
    if (codes == Codes::words) rules = {kWords, "I32", true};
    rules.other_name = form_.spec.names[kWeight];
    std::vector<MatrixPart> found;
    if (!find_matrices(layer_, rules, found, instead_)) return false;
    for (const MatrixPart& part : found) {
      form_.parts.emplace_back();
      static_cast<MatrixPart&>(form_.parts.back()) = part;
      form_.parts.back().tensors[kWeight] = part.weight;
    }
    if (!found[0].weight.is_float()) return true;
    return instead_.set(LS_VERDICT_KEEP, "stored as " + dtype_name(found[0].weight.dtype) +
                                             " in a checkpoint of serialized " + form_.spec.method);
  }

  /// K, and the shape of each weight.
  bool find_width() {
    if (form_.spec.codes == Codes::words) return find_words();
    const bool rows_paired = form_.spec.codes == Codes::int4;
    const uint64_t columns = form_.parts[0].weight.columns();
    form_.k = form_.spec.codes == Codes::e2m1 ? 2 * columns : columns;
    const bool known = layer_.in() != 0 && layer_.in() != columns && layer_.in() != form_.k;
    for (PartForm& part : form_.parts) {
      const Tensor& weight = part.weight;
      if (weight.rank != 2) {
        return no("found a weight of shape " + dims(weight) + ", expected a matrix");
      }
      const uint64_t rows = rows_paired ? part.part.file_total / 2 : part.part.file_total;
      if (rows_paired && (part.part.file_total | part.part.file_begin | part.part.out_begin |
                          part.part.out_count) %
                                 2 !=
                             0) {
        return no("found rows that end inside a byte, expected pairs of rows");
      }
      if (weight.rows() != rows || weight.columns() != columns || known) {
        refuse("weight has a wrong shape", layer_, weight,
               "found " + dims(weight) + ", expected " +
                   dims(rows, known ? layer_.in() * columns / form_.k : columns));
      }
    }
    return true;
  }

  /// K of packed words, as the tensor beside them says it.
  bool find_words() {
    for (size_t i = 0; i < form_.parts.size(); ++i) {
      const PartForm& part = form_.parts[i];
      const auto [rows, k] = shape_of(layer_, i, form_.spec, part.weight);
      if (i == 0) form_.k = k;
      if (k != form_.k) return instead_.set(LS_VERDICT_SPLIT, "parts have different columns");
      const Tensor& weight = part.weight;
      if (weight.rank != 2) {
        return no("found a weight of shape " + dims(weight) + ", expected a matrix");
      }
      const uint64_t words = packed_words(k, form_.spec.bits);
      const bool other_k = layer_.in() != 0 && layer_.in() != k;
      if (k != 0 && rows == part.part.file_total && !other_k && weight.rows() == rows &&
          weight.columns() == words) {
        continue;
      }
      refuse("weight has a wrong shape", layer_, weight,
             "found " + dims(weight) + " for " + dims(rows, k) + " of " +
                 std::to_string(form_.spec.bits) + " bits, expected " +
                 dims(part.part.file_total,
                      other_k ? packed_words(layer_.in(), form_.spec.bits) : words));
    }
    return true;
  }

  /// What lies beside a part's weight, all that the form needs.
  void find_tensors(size_t index) {
    PartForm& part = form_.parts[index];
    for (uint32_t which = kScale; which < kWhichCount; ++which) {
      const char* name = form_.spec.names[which];
      if (name != nullptr) part.tensors[which] = layer_.find(index, name);
    }
    const std::string beside = found_beside(layer_, part.weight) + ", expected \"";
    for (const Which which : {kScale, kGlobal, kInput, kInputOffset, kConstant}) {
      const char* name = form_.spec.names[which];
      if (name == nullptr || part.tensors[which] || !is_wanted(which)) continue;
      refuse(which == kInput         ? "activations have no scale"
             : which == kInputOffset ? "activations have no offset"
             : which == kConstant    ? "sums have no constant"
                                     : "weight has no scale",
             layer_, part.weight, beside + name + "\"");
    }
    for (const Which which : {kZero, kOrder}) {
      const char* name = form_.spec.names[which];
      const bool wanted = which == kZero || form_.spec.needs_order;
      if (name == nullptr || part.tensors[which] || !wanted) continue;
      refuse(which == kZero ? "weight has no zero points" : "columns have no groups", layer_,
             part.weight, beside + name + "\"");
    }
  }

  bool check_tensors(size_t index) {
    PartForm& part = form_.parts[index];
    for (const Which which : {kInput, kInputOffset, kConstant}) {
      if (!is_wanted(which)) part.tensors[which].reset();
    }
    for (const Which which : {kGlobal, kInput, kInputOffset}) check_single(part.tensors[which]);
    check_pre(part);
    check_constant(index, part);
    return find_scale(part) && find_zero(part) && check_order(part);
  }

  bool is_wanted(Which which) const {
    const Input input = form_.spec.input;
    if (which == kInput) return input != Input::none || form_.spec.scale_holds_input;
    return (which != kInputOffset && which != kConstant) || input == Input::int8_affine;
  }

  void check_constant(size_t index, PartForm& part) const {
    const auto& constant = part.tensors[kConstant];
    if (!constant) return;
    part.bias = layer_.find(index, "bias");
    if (!part.bias) part.bias = layer_.find(index, "linear.bias");
    if (constant->dtype != LS_DTYPE_I32) {
      refuse("constant has a wrong dtype", layer_, *constant,
             "found " + dtype_name(constant->dtype) + ", expected I32");
    }
    if (constant->rank == 1 && constant->shape[0] == part.part.file_total) return;
    refuse("constant has a wrong shape", layer_, *constant,
           "found " + dims(*constant) + ", expected [" + std::to_string(part.part.file_total) +
               "] for a weight of " + dims(part.weight));
  }

  void check_float(const Tensor& tensor) const {
    if (tensor.is_float()) return;
    refuse("scale has a wrong dtype", layer_, tensor,
           "found " + dtype_name(tensor.dtype) + ", expected F32, BF16 or F16");
  }

  void check_single(const std::optional<Tensor>& tensor) const {
    if (!tensor) return;
    check_float(*tensor);
    if (tensor->rank <= 1 && tensor->columns() == 1) return;
    refuse("scale has a wrong shape", layer_, *tensor,
           "found " + dims(*tensor) + ", expected one value");
  }

  void check_pre(const PartForm& part) const {
    const auto& pre = part.tensors[kPre];
    if (pre && !pre->is_float()) check_float(*pre);
    if (!pre || (pre->rank == 1 && pre->shape[0] == form_.k)) return;
    refuse("smoothing scale has a wrong shape", layer_, *pre,
           "found " + dims(*pre) + ", expected [" + std::to_string(form_.k) + "]");
  }

  bool find_scale(PartForm& part) {
    const Tensor& scale = *part.tensors[kScale];
    const bool bits = form_.spec.scale_holds_input && scale.dtype == LS_DTYPE_I64;
    if (form_.spec.codes != Codes::e2m1) {
      if (!bits) check_float(scale);
    } else if (scale.dtype != LS_DTYPE_F8_E4M3) {
      refuse("scale has a wrong dtype", layer_, scale,
             "found " + dtype_name(scale.dtype) + ", expected F8_E4M3");
    }
    const uint64_t rows = part.part.file_total;
    uint64_t columns = 1;
    form_.scale_width = form_.k;
    switch (form_.spec.scale) {
      case Scale::tensor:
        check_single(scale);
        break;
      case Scale::channel:
        if (!is_grid(scale, rows, 1)) wrong_scale(part, rows, 1);
        break;
      case Scale::group: {
        const uint64_t group = form_.spec.group;
        columns = group == 0 ? scale.columns() : ceil_div(form_.k, group);
        if (columns == 0 || (group == 0 && form_.k % columns != 0) ||
            !is_grid(scale, rows, columns)) {
          wrong_scale(part, rows, std::max<uint64_t>(columns, 1));
        }
        form_.scale_width = group == 0 ? form_.k / columns : std::min(group, form_.k);
        break;
      }
      case Scale::block:
        return find_blocks(part, scale);
    }
    if (&part != &form_.parts[0] && columns != form_.scale_columns) {
      return instead_.set(LS_VERDICT_SPLIT, "parts have scales of different groups");
    }
    form_.scale_columns = columns;
    return true;
  }

  bool find_blocks(PartForm& part, const Tensor& scale) {
    const Spec& spec = form_.spec;
    const uint64_t rows = ceil_div(part.part.file_total, spec.block_rows);
    form_.scale_columns = ceil_div(form_.k, spec.block_columns);
    form_.scale_width = spec.block_columns;
    if (!is_grid(scale, rows, form_.scale_columns)) wrong_scale(part, rows, form_.scale_columns);
    if (part.part.file_begin % spec.block_rows != 0) {
      return no("a part begins inside a block of " + std::to_string(spec.block_rows) + " rows");
    }
    part.block_begin = form_.block_total;
    part.block_count = ceil_div(part.part.out_count, spec.block_rows);
    form_.block_total += part.block_count;
    return true;
  }

  bool find_zero(PartForm& part) {
    const auto& zero = part.tensors[kZero];
    if (!zero) return true;
    const bool words = form_.spec.codes == Codes::words;
    if (words ? zero->dtype != LS_DTYPE_I32 : zero->dtype != LS_DTYPE_I8 && !zero->is_float()) {
      refuse("zero points have a wrong dtype", layer_, *zero,
             "found " + dtype_name(zero->dtype) + ", expected " + (words ? "I32" : "I8 or F32"));
    }
    if (form_.spec.codes == Codes::e4m3 && !form_.spec.zeros_vanish) {
      return no("found zero points of float codes, expected none");
    }
    uint64_t rows = form_.spec.scale == Scale::tensor ? 1 : part.part.file_total;
    if (words) rows = packed_words(rows, form_.spec.bits);
    if (!is_grid(*zero, rows, form_.scale_columns)) {
      refuse("zero points have a wrong shape", layer_, *zero,
             "found " + dims(*zero) + ", expected " + dims(rows, form_.scale_columns) +
                 " for a weight of " + dims(part.weight));
    }
    if (!words) return true;
    if (part.part.file_begin * form_.spec.bits % 32 != 0) {
      return no("a part begins inside a word of zero points");
    }
    part.zero_begin = form_.zero_total;
    part.zero_count = packed_words(part.part.out_count, form_.spec.bits);
    form_.zero_total += part.zero_count;
    return true;
  }

  bool check_order(const PartForm& part) const {
    const auto& order = part.tensors[kOrder];
    if (!order) return true;
    if (order->dtype == LS_DTYPE_I32 && order->rank == 1 && order->shape[0] == form_.k) return true;
    refuse("groups of columns rejected", layer_, *order,
           "found " + dtype_name(order->dtype) + " " + dims(*order) + ", expected I32 [" +
               std::to_string(form_.k) + "]");
  }

  /// Shape [rows, columns] when axes of 1 aren't counted.
  static bool is_grid(const Tensor& tensor, uint64_t rows, uint64_t columns) {
    std::vector<uint64_t> found, wanted;
    for (uint32_t i = 0; i < tensor.rank; ++i) {
      if (tensor.shape[i] != 1) found.push_back(tensor.shape[i]);
    }
    for (const uint64_t extent : {rows, columns}) {
      if (extent != 1) wanted.push_back(extent);
    }
    return found == wanted;
  }

  [[noreturn]] void wrong_scale(const PartForm& part, uint64_t rows, uint64_t columns) const {
    refuse("scale has a wrong shape", layer_, *part.tensors[kScale],
           "found " + dims(*part.tensors[kScale]) + ", expected " + dims(rows, columns) +
               " for a weight of " + dims(part.weight));
  }

  bool same_dtypes() {
    const PartForm& first = form_.parts[0];
    for (const PartForm& part : form_.parts) {
      for (uint32_t which = kScale; which < kWhichCount; ++which) {
        const auto &a = part.tensors[which], &b = first.tensors[which];
        if (a.has_value() == b.has_value() && (!a || a->dtype == b->dtype)) continue;
        return instead_.set(LS_VERDICT_SPLIT, std::string("parts have different tensors \"") +
                                                  form_.spec.names[which] + "\"");
      }
    }
    return true;
  }

  const Layer& layer_;
  NoForm& instead_;
  Form form_;
};

}  // namespace

uint32_t Form::stored_index(Which which) const {
  uint32_t index = 0;
  for (uint32_t before = 0; before < which; ++before) index += parts[0].tensors[before] ? 1 : 0;
  return index;
}

std::optional<Form> find_form(const Spec& spec, const Layer& layer, NoForm& instead) {
  return Finder(spec, layer, instead).run();
}

}  // namespace loadstone::common::scaled
