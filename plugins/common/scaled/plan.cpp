// What plan_layer answers for a form, and its serialized tensors.
#include <cstring>
#include <limits>

#include "common/numerics/floats.hpp"
#include "common/scaled/form.hpp"
#include "common/scaled/session.hpp"

namespace loadstone::common::scaled {
namespace {

/// What lies beside every scale, one by one.
bool as_scale(const Form& form, Which which) {
  return which == kScale || (which == kZero && form.spec.codes != Codes::words);
}

/// What all columns of a group's matrix have one value of.
bool of_columns(Which which) { return which == kPre || which == kOrder; }

Cut rows_cut(uint64_t row_nbytes, uint64_t src, uint64_t dst, uint64_t rows) {
  return {src * row_nbytes, dst * row_nbytes, rows * row_nbytes, row_nbytes, rows};
}

Cut whole_cut(uint64_t nbytes, uint64_t index) { return {0, index * nbytes, nbytes, nbytes, 0}; }

std::vector<uint64_t> stored_shape(const Form& form, Which which) {
  std::vector<uint64_t> out;
  const bool by_part = which == kGlobal || which == kInput || which == kInputOffset ||
                       (as_scale(form, which) && form.spec.scale == Scale::tensor);
  if (by_part) return {form.parts.size()};
  if (as_scale(form, which) && form.spec.scale == Scale::block) {
    return {form.block_total, form.scale_columns};
  }
  if (which == kZero && !as_scale(form, which)) return {form.zero_total, form.scale_columns};
  if (form.groups > 1) out.push_back(form.groups);
  if (of_columns(which)) {
    out.push_back(form.k);
  } else if (which == kConstant) {
    out.push_back(form.n);
  } else if (as_scale(form, which)) {
    out.insert(out.end(), {form.n, form.scale_columns});
  } else {
    const uint64_t item = form.spec.codes == Codes::words ? sizeof(uint32_t) : 1;
    out.insert(out.end(), {form.n / form.rows_a_row(), form.row_nbytes() / item});
  }
  return out;
}

/// The first part of a group carries what the group's columns have.
bool carries(const Form& form, size_t index, Which which) {
  if (!of_columns(which)) return true;
  for (size_t i = 0; i < index; ++i) {
    if (form.parts[i].part.group == form.parts[index].part.group) return false;
  }
  return true;
}

void plan_stored(const Form& form, sdk::Plan& out) {
  for (uint32_t i = 0; i < kWhichCount; ++i) {
    const auto which = static_cast<Which>(i);
    if (!form.has(which)) continue;
    out.stored(form.spec.names[which], form.tensor(0, which).dtype, stored_shape(form, which));
    for (size_t part = 0; part < form.parts.size(); ++part) {
      const sdk::Tensor& tensor = form.tensor(part, which);
      if (!carries(form, part, which)) {
        out.unused(tensor, "equal to the first part's");
        continue;
      }
      const Cut cut = cut_of(form, part, which);
      ls_identity identity = sdk::make<ls_identity>();
      identity.stored = form.stored_index(which);
      identity.tensor = tensor.index;
      identity.checked = which == kZero && any_zero_fits(form.spec, tensor) ? 0 : 1;
      identity.rows = cut.rows == 0 ? 1 : cut.rows;
      identity.row_nbytes = identity.src_stride = identity.dst_stride = cut.row_nbytes;
      identity.src_offset = cut.src_offset;
      identity.dst_offset = cut.dst_offset;
      identity.tag = which * form.parts.size() + part;
      out.identity(identity);
    }
  }
}

/// A constant alone is read to see that no bias is lost.
bool is_read_to_decode(const Form& form, const PartForm& part, Which which) {
  if (which == kInput) return form.spec.scale_holds_input;
  return (which != kInputOffset && which != kConstant) || !part.bias;
}

void plan_decode(const Form& form, const sdk::Layer& layer, sdk::Plan& out) {
  if (form.groups > 1) {
    out.stored("weight", layer.load_dtype(), {form.groups, form.n, form.k});
  } else {
    out.stored("weight", layer.load_dtype(), {form.n, form.k});
  }
  for (size_t part = 0; part < form.parts.size(); ++part) {
    const PartForm& own = form.parts[part];
    ls_source source = sdk::make<ls_source>();
    source.tensor = own.weight.index;
    source.mode = LS_SOURCE_STREAMED;
    source.tag = part;
    source.row_begin = own.part.file_begin / form.rows_a_row();
    source.row_count = own.rows() / form.rows_a_row();
    source.granule = 1;
    for (uint32_t i = kScale; i < kWhichCount; ++i) {
      const auto which = static_cast<Which>(i);
      if (!form.has(which)) continue;
      if (is_read_to_decode(form, own, which)) {
        out.resident(form.tensor(part, which), which * form.parts.size() + part);
      } else {
        out.unused(form.tensor(part, which), which == kConstant ? "the bias stands beside it"
                                                                : "activations are not quantized");
      }
    }
    out.source(source);
  }
  out.decode(form.spec.method + " weights as plain floats").feed_scratch =
      decode_scratch_nbytes(form);
}

constexpr uint32_t kShapeAlone = UINT32_MAX;  // N and K of packed words: nothing stored holds them

struct Saved {
  ls_stored shape;
  uint32_t part = 0, stored = 0;
  Cut cut;
};

Saved saved_shape(const Form& form, size_t part) {
  Saved out;
  out.shape = sdk::make<ls_stored>();
  out.shape.name = form.spec.shape_name;
  out.shape.dtype = LS_DTYPE_I64;
  out.shape.rank = 1;
  std::fill(out.shape.shape, out.shape.shape + LS_MAX_RANK, uint64_t{1});
  out.shape.shape[0] = 2;
  out.part = static_cast<uint32_t>(part);
  out.stored = kShapeAlone;
  out.cut.nbytes = 2 * sizeof(uint64_t);
  return out;
}

std::vector<Saved> saved_tensors(const Form& form) {
  std::vector<Saved> out;
  for (size_t part = 0; part < form.parts.size(); ++part) {
    for (uint32_t i = 0; i < kWhichCount; ++i) {
      const auto which = static_cast<Which>(i);
      if (!form.has(which)) continue;
      const sdk::Tensor& tensor = form.tensor(part, which);
      Saved saved;
      saved.shape = sdk::make<ls_stored>();
      saved.shape.name = form.spec.names[which];
      saved.shape.dtype = tensor.dtype;
      saved.shape.rank = tensor.rank;
      std::copy(tensor.shape, tensor.shape + LS_MAX_RANK, saved.shape.shape);
      saved.cut = cut_of(form, part, which);
      if (saved.cut.rows != 0) saved.shape.shape[0] = saved.cut.rows;
      saved.part = static_cast<uint32_t>(part);
      saved.stored = form.stored_index(which);
      out.push_back(saved);
    }
    if (form.spec.codes == Codes::words) out.push_back(saved_shape(form, part));
  }
  return out;
}

/// What x·pre_scale loses where x is bf16: half a step.
constexpr double kSmoothError = 0.00196;

double input_error(const Form& form) {
  switch (form.spec.input) {
    case Input::none:
      return 0;
    case Input::fp8_token:
    case Input::fp8_group:
      return 0.036;  // half a step of the largest binade: 16/448, and a little for the floors
    case Input::int8_token:
      return 0.51 / 127.0;
    case Input::int4_token:
      return 0.51 / 7.0;
    case Input::fp8_fixed:
    case Input::int8_fixed:
    case Input::int8_affine:
    case Input::nvfp4:
      break;
  }
  return std::numeric_limits<double>::infinity();  // a fixed scale may cut anything
}

const char* name_of(const Spec& spec) {
  const Codes codes = spec.codes;
  return codes == Codes::e4m3   ? "fp8"
         : codes == Codes::int8 ? (spec.bits == 4 ? "int4" : "int8")
         : codes == Codes::e2m1 ? "nvfp4"
         : codes == Codes::int4 ? "int4"
                                : "packed_int";
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
    case Input::int8_affine:
      return "int8_static";
    case Input::int4_token:
      return "int4_token";
    case Input::nvfp4:
      return "nvfp4";
  }
  return "";
}

}  // namespace

Cut cut_of(const Form& form, size_t index, Which which) {
  const PartForm& part = form.parts[index];
  const uint64_t begin = part.part.file_begin;
  if (which == kWeight) {
    const uint64_t pair = form.rows_a_row();
    return rows_cut(form.row_nbytes(), begin / pair, part.row_begin / pair, part.rows() / pair);
  }
  const uint64_t item = item_nbytes(form.tensor(index, which));
  if (which == kConstant) return rows_cut(item, begin, part.row_begin, part.rows());
  if (of_columns(which)) return whole_cut(form.k * item, part.part.group);
  const uint64_t row = form.scale_columns * item;
  if (which == kZero && !as_scale(form, which)) {
    return rows_cut(row, begin * form.spec.bits / 32, part.zero_begin, part.zero_count);
  }
  if (!as_scale(form, which) || form.spec.scale == Scale::tensor) return whole_cut(item, index);
  if (form.spec.scale == Scale::block) {
    return rows_cut(row, begin / form.spec.block_rows, part.block_begin, part.block_count);
  }
  return rows_cut(row, begin, part.row_begin, part.rows());
}

void plan(const Form& form, const sdk::Layer& layer, sdk::Plan& out) {
  if (form.decodes) {
    plan_decode(form, layer, out);
  } else {
    plan_stored(form, out);
    ls_work& work = out.quantize(kernel_name(form));
    work.activation_error = input_error(form) + (form.has(kPre) ? kSmoothError : 0.0);
    if (form.has(kConstant)) work.bias = LS_BIAS_BY_METHOD;
    for (const PartForm& part : form.parts) {
      if (part.bias) out.unused(*part.bias, std::string(form.spec.names[kConstant]) + " holds it");
    }
  }
  out.work().in = form.k;
}

std::string kernel_name(const Form& form) {
  std::string codes = name_of(form.spec);
  if (form.spec.codes == Codes::words) codes += std::to_string(form.spec.bits);
  return codes + "_" + name_of(form.spec.scale) + "_" + name_of(form.spec.input);
}

void save_layer(const Form& form, ls_sink* sink) {
  for (const Saved& one : saved_tensors(form)) {
    sdk::check_host(sdk::host().save_tensor(sink, &one.shape, one.part), "save_tensor");
  }
}

void save_read(const Form& form, const sdk::Buffers& stored, uint64_t index, uint64_t offset,
               uint64_t nbytes, void* out) {
  const auto all = saved_tensors(form);
  if (index >= all.size() || offset > all[index].cut.nbytes ||
      nbytes > all[index].cut.nbytes - offset) {
    sdk::fail(LS_INVALID_ARGUMENT, "saved tensor read out of range");
  }
  const Saved& one = all[index];
  if (one.stored == kShapeAlone) {
    const uint64_t shape[] = {form.parts[one.part].rows(), form.k};
    std::memcpy(out, reinterpret_cast<const char*>(shape) + offset, nbytes);
    return;
  }
  const auto* from = static_cast<const char*>(stored.raw(one.stored).at);
  std::memcpy(out, from + one.cut.dst_offset + offset, nbytes);
}

}  // namespace loadstone::common::scaled
