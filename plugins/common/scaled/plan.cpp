// What plan_layer answers for a form, and its serialized tensors.
#include <cstring>
#include <limits>

#include "common/numerics/floats.hpp"
#include "common/scaled/form.hpp"
#include "common/scaled/session.hpp"

namespace loadstone::common::scaled {
namespace {

uint64_t item_of(const sdk::Tensor& tensor) {
  return tensor.dtype == LS_DTYPE_F8_E4M3 ? 1 : float_nbytes(tensor.dtype);
}

Cut rows_cut(uint64_t row_nbytes, uint64_t src, uint64_t dst, uint64_t rows) {
  return {src * row_nbytes, dst * row_nbytes, rows * row_nbytes, row_nbytes, rows};
}

Cut whole_cut(uint64_t nbytes, uint64_t index) { return {0, index * nbytes, nbytes, nbytes, 0}; }

std::vector<uint64_t> stored_shape(const Form& form, Which which) {
  std::vector<uint64_t> out;
  const bool by_part =
      which == kGlobal || which == kInput || (which == kScale && form.spec.scale == Scale::tensor);
  if (by_part) return {form.parts.size()};
  if (which == kScale && form.spec.scale == Scale::block) {
    return {form.block_total, form.scale_columns};
  }
  if (form.groups > 1) out.push_back(form.groups);
  if (which == kPre) {
    out.push_back(form.k);
  } else if (which == kScale) {
    out.insert(out.end(), {form.n, form.scale_columns});
  } else {
    out.insert(out.end(), {form.n / form.rows_a_row(), form.row_nbytes()});
  }
  return out;
}

/// The first part of a group carries the group's smoothing scale.
bool carries(const Form& form, size_t index, Which which) {
  if (which != kPre) return true;
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
      identity.checked = 1;
      identity.rows = cut.rows == 0 ? 1 : cut.rows;
      identity.row_nbytes = identity.src_stride = identity.dst_stride = cut.row_nbytes;
      identity.src_offset = cut.src_offset;
      identity.dst_offset = cut.dst_offset;
      identity.tag = which * form.parts.size() + part;
      out.identity(identity);
    }
  }
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
    for (const Which which : {kScale, kGlobal, kPre}) {
      if (form.has(which)) out.resident(form.tensor(part, which), which * form.parts.size() + part);
    }
    if (form.has(kInput)) out.unused(form.tensor(part, kInput), "activations are not quantized");
    out.source(source);
  }
  out.decode(form.spec.method + " weights as plain floats").feed_scratch =
      decode_scratch_nbytes(form);
}

struct Saved {
  ls_stored shape;
  uint32_t part = 0, stored = 0;
  Cut cut;
};

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
    case Input::fp8_fixed:
    case Input::int8_fixed:
    case Input::nvfp4:
      break;
  }
  return std::numeric_limits<double>::infinity();  // a fixed scale may cut anything
}

}  // namespace

Cut cut_of(const Form& form, size_t index, Which which) {
  const PartForm& part = form.parts[index];
  const uint64_t begin = part.part.file_begin;
  if (which == kWeight) {
    const uint64_t pair = form.rows_a_row();
    return rows_cut(form.row_nbytes(), begin / pair, part.row_begin / pair, part.rows() / pair);
  }
  const uint64_t item = item_of(form.tensor(index, which));
  if (which == kPre) return whole_cut(form.k * item, part.part.group);
  if (which != kScale || form.spec.scale == Scale::tensor) return whole_cut(item, index);
  const uint64_t row = form.scale_columns * item;
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
    out.quantize(kernel_name(form)).activation_error =
        input_error(form) + (form.has(kPre) ? kSmoothError : 0.0);
  }
  out.work().in = form.k;
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
  const auto* from = static_cast<const char*>(stored.raw(all[index].stored).at);
  std::memcpy(out, from + all[index].cut.dst_offset + offset, nbytes);
}

}  // namespace loadstone::common::scaled
