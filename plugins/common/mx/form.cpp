#include "common/mx/form.hpp"

#include <algorithm>
#include <cstring>

#include "common/numerics/dual.hpp"
#include "common/numerics/floats.hpp"

namespace loadstone::common::mx {
namespace {

/// The first number among the path's segments: "transformer_blocks.3.attn.to_q" is block 3; -1:
/// none.
int64_t block_index(std::string_view path) {
  for (size_t at = 0; at < path.size();) {
    const size_t end = std::min(path.find('.', at), path.size());
    const std::string_view segment = path.substr(at, end - at);
    const bool digits =
        !segment.empty() && segment.size() < 10 &&
        std::all_of(segment.begin(), segment.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (digits) return std::stoll(std::string(segment));
    at = end + 1;
  }
  return -1;
}

using sdk::Layer;
using sdk::Tensor;

constexpr uint32_t kCodes8[] = {LS_DTYPE_F8_E4M3};
constexpr uint32_t kCodes4[] = {LS_DTYPE_F8_E4M3, LS_DTYPE_U8, LS_DTYPE_I8};

/// Finds one layer's form; holds what its steps share.
class Finder {
 public:
  Finder(const Config& config, const Layer& layer, NoForm& instead)
      : config_(config), layer_(layer), instead_(instead) {}

  std::optional<Form> run() {
    form_.element = config_.element;
    form_.dual = config_.dual;
    if (!find_weights() || !find_source()) return std::nullopt;
    form_.n = layer_.out();
    form_.groups = layer_.groups();
    const bool fits = form_.serialized() ? find_serialized() : find_online();
    if (!fits) return std::nullopt;
    form_.w4a8 = is_w4a8();
    return std::move(form_);
  }

 private:
  bool no(uint32_t verdict, std::string reason) { return instead_.set(verdict, std::move(reason)); }
  bool e4m3() const { return config_.element == MxElement::e4m3; }

  bool find_weights() {
    const bool keep = config_.serialized || layer_.wants_decode();
    WeightRules rules{kCodes8, "F8_E4M3, BF16, F16 or F32", keep};
    if (!e4m3()) {
      rules = {kCodes4, "U8, F8_E4M3, BF16, F16 or F32", keep};
      rules.other_name = "weight_packed";
    }
    if (std::string_view(config_.names.weight) != "weight") rules.other_name = config_.names.weight;
    std::vector<MatrixPart> found;
    if (!find_matrices(layer_, rules, found, instead_)) return false;
    for (size_t i = 0; i < found.size(); ++i) {
      form_.parts.push_back(PartForm{found[i], layer_.find(i, config_.names.scale), {}, {}});
    }
    return true;
  }

  /// Floats with scales are values; without, they are quantized here. K follows from the packing.
  bool find_source() {
    const Tensor& first = form_.parts[0].weight;
    const bool packed = first.dtype == LS_DTYPE_U8 || first.dtype == LS_DTYPE_I8;
    const bool scaled = form_.parts[0].scale.has_value();
    for (const PartForm& part : form_.parts) {
      if (first.is_float() && part.scale.has_value() != scaled) {
        return no(LS_VERDICT_SPLIT, "parts are stored differently: with and without scales");
      }
    }
    form_.k = packed ? 2 * first.columns() : first.columns();
    if (first.is_float()) {
      form_.source = scaled ? Source::values : Source::floats;
    } else {
      form_.source = packed || e4m3() ? Source::codes : Source::values;
    }
    return true;
  }

  bool check_weights() {
    const bool packed = form_.source == Source::codes && !e4m3();
    // A graph may know the bytes of a packed row, its values, or nothing.
    uint64_t columns = packed ? form_.k / 2 : form_.k;
    const bool known = layer_.in() != 0 && layer_.in() != columns;
    if (known && !packed) columns = layer_.in();
    if (known && packed && layer_.in() != form_.k) columns = layer_.in() / 2;
    for (const PartForm& part : form_.parts) {
      if (!check_matrix(layer_, part, columns, instead_)) return false;
    }
    return true;
  }

  std::string why_width_unfit() const {
    if (!e4m3() && form_.k % 2 != 0) {
      return "found K = " + std::to_string(form_.k) + ", expected an even one (two values a byte)";
    }
    if (!form_.dual || form_.k % kDualGroup == 0) return "";
    return "found K = " + std::to_string(form_.k) +
           ", expected a multiple of 512; did you mean method: mxfp4?";
  }

  // ---- weights quantized here ----

  bool find_online() {
    const std::string stored = "stored as " + dtype_name(form_.parts[0].weight.dtype);
    if (layer_.wants_decode()) return no(LS_VERDICT_KEEP, stored);
    if (config_.serialized) {
      return no(LS_VERDICT_KEEP,
                stored + " in a checkpoint of serialized " + std::string(config_.method));
    }
    if (layer_.kind() != LS_KIND_LINEAR && layer_.kind() != LS_KIND_GROUPED) {
      return no(
          LS_VERDICT_UNSUPPORTED,
          std::string(config_.method) + " quantizes the activations of a product; this is none");
    }
    if (is_leading(config_, layer_)) {
      return no(LS_VERDICT_KEEP, "one of the leading " + std::to_string(config_.leading_blocks) +
                                     " blocks (num_bf16_fallback_layers)");
    }
    if (!check_weights()) return false;
    if (std::string why = why_width_unfit(); !why.empty()) {
      return no(LS_VERDICT_UNSUPPORTED, std::move(why));
    }
    return true;
  }

  // ---- serialized weights ----

  bool find_serialized() {
    if (!check_weights()) return false;
    if (const std::string why = why_width_unfit(); !why.empty()) {
      sdk::fail(LS_INVALID_CHECKPOINT, "weight has a wrong shape: " +
                                           full_name(layer_, form_.parts[0].weight) + ": " + why);
    }
    for (size_t i = 0; i < form_.parts.size(); ++i) {
      find_scale(form_.parts[i]);
      find_outer(i, form_.parts[i]);
      if (!e4m3() || config_.smooths) find_mul(i, form_.parts[i]);
    }
    form_.has_mul = form_.parts[0].mul.has_value();
    for (const PartForm& part : form_.parts) {
      if (part.mul.has_value() != form_.has_mul) {
        return no(LS_VERDICT_SPLIT, "parts have different smoothing scales: some have none");
      }
    }
    form_.decodes = layer_.wants_decode() || !layer_.is_matrix();
    form_.weight_only = config_.weights_only || layer_.kind() == LS_KIND_GATHER;
    return true;
  }

  [[noreturn]] void refuse(const char* what, const Tensor& tensor, std::string found) const {
    sdk::fail(LS_INVALID_CHECKPOINT,
              std::string(what) + ": " + full_name(layer_, tensor) + ": " + std::move(found));
  }

  void find_scale(const PartForm& part) const {
    const uint64_t rows = part.part.file_total, columns = form_.scale_columns();
    if (!part.scale) {
      refuse((std::string(config_.method) + " weight has no scale").c_str(), part.weight,
             found_beside(layer_, part.weight) + ", expected \"" + config_.names.scale +
                 "\" as U8 " + dims(rows, columns));
    }
    const Tensor& scale = *part.scale;
    if (scale.dtype != LS_DTYPE_U8 && scale.dtype != LS_DTYPE_F8_E8M0) {
      refuse("scale has a wrong dtype", scale,
             "found " + dtype_name(scale.dtype) + ", expected U8 or F8_E8M0");
    }
    if (scale.rank != 2 || scale.shape[0] != rows || scale.shape[1] != columns) {
      refuse("scale has a wrong shape", scale,
             "found " + dims(scale) + ", expected " + dims(rows, columns) + " for a weight of " +
                 dims(part.weight));
    }
  }

  void find_outer(size_t index, PartForm& part) const {
    part.outer = layer_.find(index, config_.names.outer);
    const uint64_t rows = part.part.file_total, columns = form_.k / kDualGroup;
    const std::string shape = "[" + std::to_string(rows) + ", " + std::to_string(columns) + ", 1]";
    if (!form_.dual) {
      if (!part.outer) return;
      refuse("scale of another method", *part.outer,
             std::string("found it beside a single scale") +
                 (std::string_view(config_.method) == "mxfp4"
                      ? "; did you mean method: mxfp4_dualscale?"
                      : ", expected none"));
    }
    if (!part.outer) {
      refuse((std::string(config_.method) + " weight has no outer scale").c_str(), part.weight,
             found_beside(layer_, part.weight) + ", expected \"" + config_.names.outer +
                 "\" as F32 " + shape);
    }
    const Tensor& outer = *part.outer;
    if (!outer.is_float()) {
      refuse("scale has a wrong dtype", outer,
             "found " + dtype_name(outer.dtype) + ", expected F32, BF16 or F16");
    }
    const bool ranked = outer.rank == 2 || (outer.rank == 3 && outer.shape[2] == 1);
    if (!ranked || outer.shape[0] != rows || outer.shape[1] != columns) {
      refuse(
          "scale has a wrong shape", outer,
          "found " + dims(outer) + ", expected " + shape + " for a weight of " + dims(part.weight));
    }
  }

  void find_mul(size_t index, PartForm& part) const {
    part.mul = layer_.find(index, config_.names.mul);
    if (!part.mul) {
      if (!config_.require_mul_scale) return;
      refuse("smoothing scale missing", part.weight,
             found_beside(layer_, part.weight) + ", expected \"" + config_.names.mul +
                 "\" as F32 [" + std::to_string(form_.k) + "] (require_smooth_scale)");
    }
    const Tensor& mul = *part.mul;
    if (!mul.is_float()) {
      refuse("smoothing scale has a wrong dtype", mul,
             "found " + dtype_name(mul.dtype) + ", expected F32, BF16 or F16");
    }
    if (mul.rank != 1 || mul.shape[0] != form_.k) {
      refuse("smoothing scale has a wrong shape", mul,
             "found " + dims(mul) + ", expected [" + std::to_string(form_.k) + "]");
    }
  }

  bool is_w4a8() const {
    const auto listed = [&](std::string_view name) {
      return std::find(config_.w4a8_layers.begin(), config_.w4a8_layers.end(), name) !=
             config_.w4a8_layers.end();
    };
    if (config_.w4a8 || listed(layer_.path())) return true;
    return std::all_of(form_.parts.begin(), form_.parts.end(),
                       [&](const PartForm& part) { return listed(part.part.path()); });
  }

  const Config& config_;
  const Layer& layer_;
  NoForm& instead_;
  Form form_;
};

}  // namespace

bool is_leading(const Config& config, const sdk::Layer& layer) {
  const int64_t block = block_index(layer.path());
  return block >= 0 && block < config.leading_blocks;
}

std::optional<Form> find_form(const Config& config, const Layer& layer, NoForm& instead) {
  return Finder(config, layer, instead).run();
}

bool agree_on_mul(const Form& form, sdk::Plan& out, NoForm& instead) {
  if (!form.has_mul || form.parts.size() == form.groups) return true;
  bool all_there = true;
  for (const PartForm& part : form.parts) all_there = out.needs_value(*part.mul) && all_there;
  if (!all_there) return true;  // the host asks again
  std::vector<const PartForm*> first(form.groups, nullptr);
  std::vector<float> values(form.k), wanted(form.k);
  for (const PartForm& part : form.parts) {
    const PartForm*& leader = first[part.part.group];
    if (leader == nullptr) leader = &part;
    widen(part.mul->dtype, part.mul->value, values.data(), form.k);
    widen(leader->mul->dtype, leader->mul->value, wanted.data(), form.k);
    if (std::memcmp(values.data(), wanted.data(), form.k * sizeof(float)) != 0) {
      return instead.set(LS_VERDICT_SPLIT, "parts have different smoothing scales");
    }
  }
  return true;
}

Form form_of(const Config& config, const Layer& layer) {
  NoForm instead;
  if (auto form = find_form(config, layer, instead)) return std::move(*form);
  sdk::fail(LS_INVALID_ARGUMENT, "layer was not planned by this method: " + instead.reason);
}

std::string kernel_name(const Config& config, const Form& form) {
  const std::string base = config.dual                       ? "mxfp4_dualscale"
                           : form.element == MxElement::e4m3 ? "mxfp8"
                                                             : "mxfp4";
  if (form.weight_only) return base + "_weight_only";
  if (form.element == MxElement::e4m3) return base + "_w8a8";
  if (form.w4a8) return base + "_w4a8";
  return base + (config.w4a8_steps.empty() ? "_w4a4" : "_w4a4_w4a8_by_step");
}

}  // namespace loadstone::common::mx
