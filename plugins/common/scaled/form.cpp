#include "common/scaled/form.hpp"

#include <algorithm>
#include <cstring>

#include "common/numerics/floats.hpp"
#include "common/product/int8_product.hpp"
#include "common/product/rows.hpp"

namespace loadstone::common::scaled {
namespace {

using sdk::Layer;
using sdk::Tensor;

constexpr uint32_t kFloat8[] = {LS_DTYPE_F8_E4M3};
constexpr uint32_t kInt8[] = {LS_DTYPE_I8};
constexpr uint32_t kPacked[] = {LS_DTYPE_U8, LS_DTYPE_I8};

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
    if (!find_width()) return std::nullopt;
    for (size_t i = 0; i < form_.parts.size(); ++i) {
      if (!find_tensors(i)) return std::nullopt;
    }
    if (layer_.kind() == LS_KIND_GATHER && form_.has(kPre)) {
      no("an embedding has no activation for \"" + std::string(form_.spec.names[kPre]) + "\"");
      return std::nullopt;
    }
    if (!fits_input() || !same_dtypes()) return std::nullopt;
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
    rules.other_name = form_.spec.names[kWeight];
    std::vector<MatrixPart> found;
    if (!find_matrices(layer_, rules, found, instead_)) return false;
    for (const MatrixPart& part : found) {
      form_.parts.push_back(PartForm{part, {}});
      form_.parts.back().tensors[kWeight] = part.weight;
    }
    if (!found[0].weight.is_float()) return true;
    return instead_.set(LS_VERDICT_KEEP, "stored as " + dtype_name(found[0].weight.dtype) +
                                             " in a checkpoint of serialized " + form_.spec.method);
  }

  /// K, and the shape of each weight.
  bool find_width() {
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

  bool find_tensors(size_t index) {
    PartForm& part = form_.parts[index];
    for (uint32_t which = kScale; which < kWhichCount; ++which) {
      const char* name = form_.spec.names[which];
      if (name != nullptr) part.tensors[which] = layer_.find(index, name);
    }
    const std::string beside = found_beside(layer_, part.weight) + ", expected \"";
    for (const Which which : {kScale, kGlobal, kInput}) {
      const char* name = form_.spec.names[which];
      const bool wanted = which != kInput || form_.spec.input != Input::none;
      if (name == nullptr || part.tensors[which] || !wanted) continue;
      refuse(which == kInput ? "activations have no scale" : "weight has no scale", layer_,
             part.weight, beside + name + "\"");
    }
    if (form_.spec.input == Input::none) part.tensors[kInput].reset();
    for (const Which which : {kGlobal, kInput}) check_single(part.tensors[which]);
    check_pre(part);
    return find_scale(part);
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
    if (form_.spec.codes != Codes::e2m1) {
      check_float(scale);
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
      case Scale::group:
        columns = form_.spec.group == 0 ? scale.columns() : ceil_div(form_.k, form_.spec.group);
        if (columns == 0 || form_.k % columns != 0 || !is_grid(scale, rows, columns)) {
          wrong_scale(part, rows, std::max<uint64_t>(columns, 1));
        }
        form_.scale_width = form_.k / columns;
        break;
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

  bool fits_input() {
    const Spec& spec = form_.spec;
    if (spec.codes == Codes::e2m1 && form_.scale_width % 16 != 0) {
      return no("found groups of " + std::to_string(form_.scale_width) +
                " columns, expected a multiple of 16");
    }
    if (form_.decodes || spec.input == Input::none) return true;
    if (spec.input == Input::fp8_group && form_.k % spec.block_columns != 0) {
      return no("found K = " + std::to_string(form_.k) + ", expected a multiple of " +
                std::to_string(spec.block_columns));
    }
    if (spec.codes == Codes::int4 && form_.scale_columns > 1 && form_.scale_width % 32 != 0) {
      return no("found groups of " + std::to_string(form_.scale_width) +
                " columns, expected a multiple of 32");
    }
    if (spec.codes == Codes::int8 && form_.k > Int8Product::kMaxColumns) {
      return no("found K = " + std::to_string(form_.k) + ", expected at most " +
                std::to_string(Int8Product::kMaxColumns) + " (exact int32 sums)");
    }
    return true;
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

const char* name_of(Codes codes) {
  return codes == Codes::e4m3   ? "fp8"
         : codes == Codes::int8 ? "int8"
         : codes == Codes::e2m1 ? "nvfp4"
                                : "int4";
}

const char* name_of(Scale scale) {
  return scale == Scale::tensor    ? "tensor"
         : scale == Scale::channel ? "channel"
         : scale == Scale::block   ? "block"
                                   : "group";
}

const char* name_of(Input input) {
  switch (input) {
    case Input::none:
      return "weight_only";
    case Input::fp8_token:
      return "fp8_token";
    case Input::fp8_fixed:
      return "fp8_static";
    case Input::fp8_group:
      return "fp8_group";
    case Input::int8_token:
      return "int8_token";
    case Input::int8_fixed:
      return "int8_static";
    case Input::nvfp4:
      return "nvfp4";
  }
  return "";
}

}  // namespace

uint32_t Form::stored_index(Which which) const {
  uint32_t index = 0;
  for (uint32_t before = 0; before < which; ++before) index += parts[0].tensors[before] ? 1 : 0;
  return index;
}

std::optional<Form> find_form(const Spec& spec, const Layer& layer, NoForm& instead) {
  return Finder(spec, layer, instead).run();
}

bool agree_on_input(const Form& form, sdk::Plan& out, NoForm& instead) {
  if (form.decodes || form.parts.size() == form.groups) return true;
  bool all_there = true;
  for (const Which which : {kInput, kPre}) {
    for (size_t i = 0; i < form.parts.size() && form.has(which); ++i) {
      all_there = out.needs_value(form.tensor(i, which)) && all_there;
    }
  }
  if (!all_there) return true;  // the host asks again
  for (const Which which : {kInput, kPre}) {
    if (!form.has(which)) continue;
    std::vector<const Tensor*> first(form.groups, nullptr);
    for (size_t i = 0; i < form.parts.size(); ++i) {
      const Tensor& own = form.tensor(i, which);
      const Tensor*& leader = first[form.parts[i].part.group];
      if (leader == nullptr) leader = &own;
      if (std::memcmp(own.value, leader->value, own.nbytes) == 0) continue;
      return instead.set(LS_VERDICT_SPLIT,
                         std::string("parts have different \"") + form.spec.names[which] + "\"");
    }
  }
  return true;
}

std::string kernel_name(const Form& form) {
  return std::string(name_of(form.spec.codes)) + "_" + name_of(form.spec.scale) + "_" +
         name_of(form.spec.input);
}

}  // namespace loadstone::common::scaled
