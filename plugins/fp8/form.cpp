#include "fp8/form.hpp"

#include <algorithm>

namespace loadstone::fp8 {
namespace {

using common::dims;
using common::dtype_name;
using common::full_name;
using common::NoForm;
using sdk::Layer;
using sdk::Tensor;

constexpr uint64_t ceil_div(uint64_t value, uint64_t by) { return (value + by - 1) / by; }

constexpr const char* kScaleNames[] = {"weight_scale", "weight_scale_inv", "scale_weight"};
constexpr const char* kInputNames[] = {"input_scale", "scale_input"};

bool is_fp8(uint32_t dtype) { return dtype == LS_DTYPE_F8_E4M3 || dtype == LS_DTYPE_F8_E5M2; }

template <size_t N>
std::optional<Tensor> first_of(const Layer& layer, uint64_t part, const char* const (&names)[N]) {
  for (const char* name : names) {
    if (auto found = layer.find(part, name)) return found;
  }
  return std::nullopt;
}

/// Finds one layer's form; holds what its steps share.
class Finder {
 public:
  Finder(const Config& config, const Layer& layer, NoForm& instead)
      : config_(config), layer_(layer), instead_(instead) {}

  std::optional<Form> run() {
    if (!find_weights()) return std::nullopt;
    form_.n = layer_.out();
    form_.groups = layer_.groups();
    form_.k = form_.parts[0].weight.columns();
    form_.block_rows = config_.block_rows;
    form_.block_columns = config_.block_columns;
    form_.parts_per_group = std::max<uint64_t>(form_.parts.size() / form_.groups, 1);
    const bool fits = form_.serialized() ? find_serialized() : find_online();
    if (!fits) return std::nullopt;
    lay_out_blocks();
    return std::move(form_);
  }

 private:
  bool no(uint32_t verdict, std::string reason) { return instead_.set(verdict, std::move(reason)); }

  bool find_weights() {
    static constexpr uint32_t kCodes[] = {LS_DTYPE_F8_E4M3, LS_DTYPE_F8_E5M2};
    const bool keep = config_.serialized || layer_.wants_decode();
    const common::WeightRules rules{kCodes, "F8_E4M3, BF16, F16 or F32", keep};
    std::vector<common::MatrixPart> parts;
    if (!common::find_matrices(layer_, rules, parts, instead_)) return false;
    for (const common::MatrixPart& part : parts) form_.parts.push_back(PartForm{part, {}, {}});
    const uint32_t dtype = parts[0].weight.dtype;
    form_.source = is_fp8(dtype) ? Source::serialized : Source::floats;
    if (form_.serialized()) form_.code_dtype = dtype;
    return true;
  }

  bool check_matrices() {
    const uint64_t k = layer_.in() != 0 ? layer_.in() : form_.k;
    for (const PartForm& part : form_.parts) {
      if (!common::check_matrix(layer_, part, k, instead_)) return false;
    }
    return true;
  }

  // ---- weights quantized here ----

  bool find_online() {
    if (layer_.wants_decode()) {
      return no(LS_VERDICT_KEEP, "stored as " + dtype_name(form_.parts[0].weight.dtype));
    }
    if (config_.serialized) {
      return no(LS_VERDICT_KEEP, "stored as " + dtype_name(form_.parts[0].weight.dtype) +
                                     " in a checkpoint of serialized fp8");
    }
    if (layer_.kind() != LS_KIND_LINEAR && layer_.kind() != LS_KIND_GROUPED) {
      return no(LS_VERDICT_UNSUPPORTED, "fp8 quantizes the activations of a product; this is none");
    }
    if (!check_matrices()) return false;
    form_.granularity = config_.weight;
    form_.activation = config_.activation;
    if (form_.granularity == Granularity::block && form_.k % form_.block_columns != 0) {
      return no(LS_VERDICT_UNSUPPORTED,
                "found K = " + std::to_string(form_.k) + ", expected a multiple of " +
                    std::to_string(form_.block_columns) + " (activation groups)");
    }
    if (form_.granularity == Granularity::block && form_.block_columns % 32 != 0) {
      return no(LS_VERDICT_UNSUPPORTED, "found blocks of " + std::to_string(form_.block_columns) +
                                            " columns, expected a multiple of 32");
    }
    if (form_.activation == Activation::fixed) find_input_scales(true);
    return true;
  }

  // ---- serialized weights ----

  bool find_serialized() {
    if (!check_matrices()) return false;
    for (size_t i = 0; i < form_.parts.size(); ++i) {
      PartForm& part = form_.parts[i];
      part.scale = first_of(layer_, i, kScaleNames);
      if (!part.scale) report_missing_scale(part);
      const Granularity found = granularity_of(part);
      if (i != 0 && found != form_.granularity) {
        return no(LS_VERDICT_SPLIT, "parts have scales of different granularity");
      }
      form_.granularity = found;
    }
    form_.decodes = layer_.wants_decode() || !layer_.is_matrix();
    if (form_.decodes) return true;
    form_.weight_only = why_weight_only();
    if (!form_.weight_only.empty()) return true;
    const bool fixed = config_.activation == Activation::fixed;
    form_.activation = config_.activation;
    if (fixed || config_.fixed_where_stored) find_input_scales(fixed);
    return true;
  }

  std::string why_weight_only() const {
    if (layer_.kind() == LS_KIND_GATHER) return "rows are looked up, not multiplied";
    if (config_.full_precision_matmul) return "the checkpoint asks for a full-precision product";
    const uint64_t columns = form_.block_columns;
    if (form_.granularity != Granularity::block || (form_.k % columns == 0 && columns % 32 == 0)) {
      return "";
    }
    return "K = " + std::to_string(form_.k) + " is not whole activation groups of " +
           std::to_string(columns) + " (a multiple of 32): the activation stays as it is";
  }

  void report_missing_scale(const PartForm& part) const {
    const std::string rows = std::to_string(part.part.file_total);
    sdk::fail(LS_INVALID_CHECKPOINT, "fp8 weight has no scale: " + full_name(layer_, part.weight) +
                                         ": " + common::found_beside(layer_, part.weight) +
                                         ", expected \"weight_scale\" as F32 [], [" + rows +
                                         "] or [" + rows + ", 1], or \"weight_scale_inv\" as F32 " +
                                         dims(grid_rows(part), grid_columns()));
  }

  uint64_t grid_rows(const PartForm& part) const {
    return ceil_div(part.part.file_total, form_.block_rows);
  }
  uint64_t grid_columns() const { return ceil_div(form_.k, form_.block_columns); }

  Granularity granularity_of(const PartForm& part) const {
    const Tensor& scale = *part.scale;
    const uint64_t rows = part.part.file_total;
    check_scale_dtype(scale);
    if (scale.suffix() != "weight_scale_inv") {
      if (scale.rank == 0 || (scale.rank == 1 && scale.shape[0] == 1)) return Granularity::tensor;
      const bool column = scale.rank == 1 || (scale.rank == 2 && scale.shape[1] == 1);
      if (column && scale.shape[0] == rows) return Granularity::channel;
    }
    if (scale.rank == 2 && scale.shape[0] == grid_rows(part) && scale.shape[1] == grid_columns()) {
      return Granularity::block;
    }
    const std::string grid = dims(grid_rows(part), grid_columns());
    const std::string text = std::to_string(rows);
    sdk::fail(LS_INVALID_CHECKPOINT,
              "scale has a wrong shape: " + full_name(layer_, scale) + ": found " + dims(scale) +
                  ", expected " +
                  (scale.suffix() == "weight_scale_inv"
                       ? grid
                       : "[], [1], [" + text + "], [" + text + ", 1] or " + grid) +
                  " for a weight of " + dims(part.weight));
  }

  void check_scale_dtype(const Tensor& scale) const {
    if (scale.is_float()) return;
    sdk::fail(LS_INVALID_CHECKPOINT, "scale has a wrong dtype: " + full_name(layer_, scale) +
                                         ": found " + dtype_name(scale.dtype) +
                                         ", expected F32, BF16 or F16");
  }

  /// Static activations: every part needs its scale when `required`, else all or none use it.
  void find_input_scales(bool required) {
    size_t found = 0;
    for (size_t i = 0; i < form_.parts.size(); ++i) {
      PartForm& part = form_.parts[i];
      part.input_scale = first_of(layer_, i, kInputNames);
      if (!part.input_scale) {
        if (required) report_missing_input_scale(part);
        continue;
      }
      const Tensor& scale = *part.input_scale;
      check_scale_dtype(scale);
      if (scale.rank > 1 || (scale.rank == 1 && scale.shape[0] != 1)) {
        sdk::fail(LS_INVALID_CHECKPOINT, "scale has a wrong shape: " + full_name(layer_, scale) +
                                             ": found " + dims(scale) + ", expected [] or [1]");
      }
      ++found;
    }
    if (found == form_.parts.size()) {
      form_.activation = Activation::fixed;
    } else {
      for (PartForm& part : form_.parts) part.input_scale.reset();
    }
  }

  void report_missing_input_scale(const PartForm& part) const {
    sdk::fail(LS_INVALID_CONFIG,
              "static activations have no scale: " + std::string(part.part.path()) +
                  ": found no \"input_scale\", expected one as F32 [] or [1] in the checkpoint, "
                  "where a calibrating tool writes it; did you mean activation_scheme: dynamic?");
  }

  void lay_out_blocks() {
    form_.scale_columns = form_.granularity == Granularity::block ? grid_columns() : 1;
    form_.scale_rows = form_.granularity == Granularity::channel  ? form_.rows()
                       : form_.granularity == Granularity::tensor ? form_.parts.size()
                                                                  : 0;
    if (form_.granularity != Granularity::block) return;
    for (PartForm& part : form_.parts) {
      const uint64_t begin = part.part.file_begin, count = part.rows();
      part.grid_origin = form_.serialized() ? 0 : begin;
      part.block_first = (begin - part.grid_origin) / form_.block_rows;
      const uint64_t end = ceil_div(begin + count - part.grid_origin, form_.block_rows);
      part.block_count = count == 0 ? 0 : end - part.block_first;
      part.block_begin = form_.scale_rows;
      form_.scale_rows += part.block_count;
    }
  }

  const Config& config_;
  const Layer& layer_;
  NoForm& instead_;
  Form form_;
};

}  // namespace

const float* Form::row_scales(const float* stored, uint64_t row) const {
  if (granularity == Granularity::channel) return stored + row;
  const size_t index = common::part_of_row(parts, row);
  if (granularity == Granularity::tensor) return stored + index;
  const PartForm& part = parts[index];
  return stored + part.block_row(row - part.row_begin, block_rows) * scale_columns;
}

std::optional<Form> find_form(const Config& config, const sdk::Layer& layer, NoForm& instead) {
  return Finder(config, layer, instead).run();
}

Form form_of(const Config& config, const sdk::Layer& layer) {
  NoForm instead;
  if (auto form = find_form(config, layer, instead)) return std::move(*form);
  sdk::fail(LS_INVALID_ARGUMENT, "layer was not planned by this method: " + instead.reason);
}

}  // namespace loadstone::fp8
