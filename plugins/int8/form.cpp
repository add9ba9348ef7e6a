#include "int8/form.hpp"

#include "common/product/int8_product.hpp"

namespace loadstone::int8 {
namespace {

using common::dims;
using common::dtype_name;
using common::full_name;
using sdk::Layer;
using sdk::Tensor;

constexpr uint32_t kCodes[] = {LS_DTYPE_I8};

void find_scale(const Layer& layer, size_t index, PartForm& part) {
  part.scale = layer.find(index, "weight_scale");
  const std::string rows = std::to_string(part.part.file_total);
  if (!part.scale) {
    sdk::fail(LS_INVALID_CHECKPOINT, "int8 weight has no scale: " + full_name(layer, part.weight) +
                                         ": " + common::found_beside(layer, part.weight) +
                                         ", expected \"weight_scale\" as F32 [" + rows + ", 1]");
  }
  const Tensor& scale = *part.scale;
  if (!scale.is_float()) {
    sdk::fail(LS_INVALID_CHECKPOINT, "scale has a wrong dtype: " + full_name(layer, scale) +
                                         ": found " + dtype_name(scale.dtype) +
                                         ", expected F32, BF16 or F16");
  }
  const bool column = scale.rank == 1 || (scale.rank == 2 && scale.shape[1] == 1);
  if (column && scale.shape[0] == part.part.file_total) return;
  sdk::fail(LS_INVALID_CHECKPOINT, "scale has a wrong shape: " + full_name(layer, scale) +
                                       ": found " + dims(scale) + ", expected [" + rows + "] or [" +
                                       rows + ", 1] for a weight of " + dims(part.weight));
}

bool fits_online(const Config& config, const Layer& layer, const Form& form,
                 common::NoForm& instead) {
  const std::string stored = "stored as " + dtype_name(form.parts[0].weight.dtype);
  if (layer.wants_decode()) return instead.set(LS_VERDICT_KEEP, stored);
  if (config.serialized) {
    return instead.set(LS_VERDICT_KEEP, stored + " in a checkpoint of serialized int8");
  }
  if (layer.kind() == LS_KIND_LINEAR || layer.kind() == LS_KIND_GROUPED) return true;
  return instead.set(LS_VERDICT_UNSUPPORTED,
                     "int8 quantizes the activations of a product; this is none");
}

}  // namespace

std::optional<Form> find_form(const Config& config, const Layer& layer, common::NoForm& instead) {
  const bool keep = config.serialized || layer.wants_decode();
  std::vector<common::MatrixPart> found;
  if (!common::find_matrices(layer, {kCodes, "I8, BF16, F16 or F32", keep}, found, instead)) {
    return std::nullopt;
  }
  Form form;
  for (const common::MatrixPart& part : found) form.parts.push_back(PartForm{part, {}});
  form.serialized = found[0].weight.dtype == LS_DTYPE_I8;
  if (!form.serialized && !fits_online(config, layer, form, instead)) return std::nullopt;
  form.n = layer.out();
  form.k = found[0].weight.columns();
  form.groups = layer.groups();
  const uint64_t columns = layer.in() != 0 ? layer.in() : form.k;
  for (size_t i = 0; i < form.parts.size(); ++i) {
    if (!common::check_matrix(layer, form.parts[i], columns, instead)) return std::nullopt;
    if (form.serialized) find_scale(layer, i, form.parts[i]);
  }
  form.decodes = form.serialized && (layer.wants_decode() || !layer.is_matrix());
  form.weight_only = layer.kind() == LS_KIND_GATHER;
  if (form.k > common::Int8Product::kMaxColumns && !form.decodes && !form.weight_only) {
    instead.set(LS_VERDICT_UNSUPPORTED,
                "found K = " + std::to_string(form.k) + ", expected at most " +
                    std::to_string(common::Int8Product::kMaxColumns) + " (exact int32 sums)");
    return std::nullopt;
  }
  return form;
}

Form form_of(const Config& config, const Layer& layer) {
  common::NoForm instead;
  if (auto form = find_form(config, layer, instead)) return std::move(*form);
  sdk::fail(LS_INVALID_ARGUMENT, "layer was not planned by this method: " + instead.reason);
}

}  // namespace loadstone::int8
