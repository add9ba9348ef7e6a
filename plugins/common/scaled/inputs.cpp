// What a layer's codes and scales must be for its product, and its parts for one activation.
#include <cstring>

#include "common/product/int8_product.hpp"
#include "common/scaled/form.hpp"

namespace loadstone::common::scaled {

std::string why_unfit(const Form& form) {
  const Spec& spec = form.spec;
  if (spec.codes == Codes::e2m1 && form.scale_width % 16 != 0) {
    return "found groups of " + std::to_string(form.scale_width) +
           " columns, expected a multiple of 16";
  }
  if (spec.codes == Codes::e2m1 && form.k % 16 != 0) {
    return "found K = " + std::to_string(form.k) + ", expected a multiple of 16";
  }
  if (form.decodes || spec.input == Input::none) return "";
  if (spec.input == Input::fp8_group && form.k % spec.block_columns != 0) {
    return "found K = " + std::to_string(form.k) + ", expected a multiple of " +
           std::to_string(spec.block_columns);
  }
  if (form.has(kOrder)) {
    return "columns have groups of their own (\"" + std::string(spec.names[kOrder]) +
           "\"), which a product of quantized activations doesn't have";
  }
  if (spec.codes != Codes::e2m1 && form.scale_columns > 1 && form.scale_width % 32 != 0) {
    return "found groups of " + std::to_string(form.scale_width) +
           " columns, expected a multiple of 32";
  }
  if (form.has_zeros() && form.tensor(0, kZero).is_float()) {
    return "found zero points beside quantized activations, expected whole numbers as I8";
  }
  const bool exact =
      spec.codes == Codes::int8 || (spec.codes == Codes::int4 && is_integer(spec.input));
  if (exact && form.k > Int8Product::kMaxColumns) {
    return "found K = " + std::to_string(form.k) + ", expected at most " +
           std::to_string(Int8Product::kMaxColumns) + " (exact int32 sums)";
  }
  return "";
}

bool agree_on_input(const Form& form, sdk::Plan& out, NoForm& instead) {
  if (form.decodes || form.parts.size() == form.groups) return true;
  bool all_there = true;
  for (const Which which : {kInput, kInputOffset, kPre, kOrder}) {
    for (size_t i = 0; i < form.parts.size() && form.has(which); ++i) {
      all_there = out.needs_value(form.tensor(i, which)) && all_there;
    }
  }
  if (!all_there) return true;  // the host asks again
  for (const Which which : {kInput, kInputOffset, kPre, kOrder}) {
    if (!form.has(which)) continue;
    std::vector<const sdk::Tensor*> first(form.groups, nullptr);
    for (size_t i = 0; i < form.parts.size(); ++i) {
      const sdk::Tensor& own = form.tensor(i, which);
      const sdk::Tensor*& leader = first[form.parts[i].part.group];
      if (leader == nullptr) leader = &own;
      if (std::memcmp(own.value, leader->value, own.nbytes) == 0) continue;
      return instead.set(LS_VERDICT_SPLIT,
                         std::string("parts have different \"") + form.spec.names[which] + "\"");
    }
  }
  return true;
}

}  // namespace loadstone::common::scaled
