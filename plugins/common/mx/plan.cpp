#include "common/mx/session.hpp"

namespace loadstone::common::mx {
namespace {

std::vector<uint64_t> shape_of(const Form& form, std::initializer_list<uint64_t> tail) {
  std::vector<uint64_t> out;
  if (form.groups > 1) out.push_back(form.groups);
  out.insert(out.end(), tail);
  return out;
}

void plan_stored(const Form& form, sdk::Plan& out) {
  const bool e4m3 = form.element == MxElement::e4m3;
  out.stored("weight", e4m3 ? uint32_t{LS_DTYPE_F8_E4M3} : uint32_t{LS_DTYPE_U8},
             shape_of(form, {form.n, form.row_nbytes()}));
  out.stored("weight_scale", LS_DTYPE_U8, shape_of(form, {form.n, form.scale_columns()}));
  if (form.dual) {
    out.stored("weight_dual_scale", LS_DTYPE_F32,
               shape_of(form, {form.n, form.outer_columns(), 1}));
  }
  if (form.has_mul) out.stored("mul_scale", LS_DTYPE_F32, shape_of(form, {form.k}));
}

/// Largest error of one value over the largest magnitude of its group: saturation, or half a step.
double rounding_error(MxElement element, MxRule rule, bool dual) {
  if (dual) return 0.175;                               // 1 of 6, and the bf16 step between
  if (rule == MxRule::uos) return 0.201;                // 5 rounds to 4: 1 of 5
  if (rule == MxRule::rceil) return 0.0626;             // half a step of 32 over 256
  return element == MxElement::e4m3 ? 0.1251 : 0.2501;  // 511 becomes 448; 7.9 becomes 6
}

}  // namespace

void plan(const Config& config, const Form& form, const sdk::Layer& layer, sdk::Plan& out) {
  const size_t parts = form.parts.size();
  if (form.decodes) {
    out.stored("weight", layer.load_dtype(), shape_of(form, {form.n, form.k}));
  } else {
    plan_stored(form, out);
  }
  for (size_t i = 0; i < parts; ++i) {
    const PartForm& part = form.parts[i];
    if (form.decodes) out.resident(*part.scale, i);
    if (part.outer) out.resident(*part.outer, i);
    if (part.mul) out.resident(*part.mul, i);
    if (form.serialized() && !form.decodes) {
      out.identity(identity_of(part, *part.scale, form.scale_columns(), 1, i + parts));
    }
    if (form.source == Source::codes && !form.decodes) {
      out.identity(identity_of(part, part.weight, form.row_nbytes(), 0, i));
    } else {
      out.streamed_part(layer, part.weight, 1, i);
    }
  }
  ls_work& work = form.decodes ? out.decode(std::string(config.method) + " weights as plain floats")
                               : out.quantize(kernel_name(config, form));
  work.feed_scratch = scratch_nbytes(form);
  work.in = form.k;
  if (form.decodes) return;
  const double error = rounding_error(config.element, config.rule, config.dual);
  if (!form.serialized()) work.weight_error = error;
  if (!form.weight_only) work.activation_error = error;
}

}  // namespace loadstone::common::mx
