#include "common/mx/saving.hpp"

namespace loadstone::common::mx {
namespace {

struct Saved {
  ls_stored shape;
  uint32_t part = 0;
  uint32_t stored = 0;              // index of the stored tensor
  uint64_t offset = 0, nbytes = 0;  // of it
};

Saved saved(const char* name, uint32_t dtype, std::initializer_list<uint64_t> shape,
            uint32_t stored, uint64_t offset) {
  Saved out;
  out.shape = sdk::make<ls_stored>();
  out.shape.name = name;
  out.shape.dtype = dtype;
  out.shape.rank = static_cast<uint32_t>(shape.size());
  std::fill(out.shape.shape, out.shape.shape + LS_MAX_RANK, uint64_t{1});
  std::copy(shape.begin(), shape.end(), out.shape.shape);
  out.stored = stored;
  const uint64_t item = dtype == LS_DTYPE_F32 ? sizeof(float) : 1;
  out.offset = offset * item;
  out.nbytes = item;
  for (const uint64_t extent : shape) out.nbytes *= extent;
  return out;
}

std::vector<Saved> saved_tensors(const Config& config, const Form& form) {
  std::vector<Saved> out;
  const bool e4m3 = form.element == MxElement::e4m3;
  for (size_t i = 0; i < form.parts.size(); ++i) {
    const PartForm& part = form.parts[i];
    const uint64_t first = part.row_begin, rows = part.rows();
    std::vector<Saved> own = {saved(e4m3 ? "weight" : config.codes_name,
                                    e4m3 ? uint32_t{LS_DTYPE_F8_E4M3} : uint32_t{LS_DTYPE_U8},
                                    {rows, form.row_nbytes()}, 0, first * form.row_nbytes()),
                              saved("weight_scale", LS_DTYPE_U8, {rows, form.scale_columns()}, 1,
                                    first * form.scale_columns())};
    if (form.dual) {
      own.push_back(saved("weight_dual_scale", LS_DTYPE_F32, {rows, form.outer_columns(), 1},
                          form.outer_index(), first * form.outer_columns()));
    }
    if (form.has_mul) {
      own.push_back(
          saved("mul_scale", LS_DTYPE_F32, {form.k}, form.mul_index(), part.part.group * form.k));
    }
    for (Saved& one : own) {
      one.part = static_cast<uint32_t>(i);
      out.push_back(one);
    }
  }
  return out;
}

}  // namespace

void save_layer(const Config& config, const sdk::Layer& layer, ls_sink* sink) {
  for (const Saved& one : saved_tensors(config, form_of(config, layer))) {
    sdk::check_host(sdk::host().save_tensor(sink, &one.shape, one.part), "save_tensor");
  }
}

void save_read(const Config& config, const sdk::Layer& layer, const sdk::Buffers& stored,
               uint64_t index, uint64_t offset, uint64_t nbytes, void* out) {
  const auto all = saved_tensors(config, form_of(config, layer));
  if (index >= all.size() || offset > all[index].nbytes || nbytes > all[index].nbytes - offset) {
    sdk::fail(LS_INVALID_ARGUMENT, "saved tensor read out of range");
  }
  const auto* from = static_cast<const char*>(stored.raw(all[index].stored).at);
  std::memcpy(out, from + all[index].offset + offset, nbytes);
}

}  // namespace loadstone::common::mx
