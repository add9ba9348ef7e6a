#include "autoround/stored.hpp"

#include <algorithm>

namespace loadstone::autoround {
namespace {

void require_groups(const sdk::Tensor& g_idx, uint64_t groups) {
  const auto values = values_of(g_idx);
  for (size_t k = 0; k < values.size(); ++k) {
    if (values[k] >= 0 && static_cast<uint64_t>(values[k]) < groups) continue;
    sdk::fail(LS_INVALID_CHECKPOINT, "group index out of range: " + g_idx.label() + ": found " +
                                         std::to_string(values[k]) + " at column " +
                                         std::to_string(k) + ", expected 0 to " +
                                         std::to_string(groups - 1));
  }
}

}  // namespace

std::optional<Setting> setting_of(const Config& config, const sdk::Layer& layer) {
  std::optional<Setting> out;
  for (uint64_t part = 0; part < layer.part_count(); ++part) {
    const Setting own = config.of(layer.part(part).path());
    if (out && !(*out == own)) return std::nullopt;
    out = own;
  }
  return out;
}

Form known_form(const Config& config, const sdk::Layer& layer) {
  return form_of(layer, config, config.of(layer.part(0).path()));
}

std::span<const int32_t> values_of(const sdk::Tensor& g_idx) {
  return {static_cast<const int32_t*>(g_idx.value), g_idx.nbytes / sizeof(int32_t)};
}

bool is_trivial(const sdk::Tensor& g_idx, uint64_t group_size) {
  const auto values = values_of(g_idx);
  for (size_t k = 0; k < values.size(); ++k) {
    if (static_cast<uint64_t>(values[k]) != k / group_size) return false;
  }
  return true;
}

Order order_of(const Config& config, const Form& form, sdk::Plan& plan) {
  uint64_t with = 0;
  bool known = true;
  for (const PackedPart& part : form.parts) {
    if (!part.g_idx) continue;
    ++with;
    known = plan.needs_value(*part.g_idx) && known;
  }
  if (!known) return Order::missing_values;
  if (with < form.parts.size() && config.desc_act) {
    sdk::fail(LS_INVALID_CHECKPOINT,
              "tensor missing: expected \"g_idx\" beside \"qweight\", as desc_act declares");
  }
  uint64_t trivial = form.parts.size() - with;
  for (const PackedPart& part : form.parts) {
    if (!part.g_idx) continue;
    require_groups(*part.g_idx, form.matrix.groups);
    if (is_trivial(*part.g_idx, form.matrix.group_size)) ++trivial;
  }
  if (trivial == form.parts.size()) return Order::plain;
  if (trivial != 0) return Order::differs;
  for (const PackedPart& part : form.parts) {
    const auto first = values_of(*form.parts[0].g_idx), own = values_of(*part.g_idx);
    if (!std::equal(first.begin(), first.end(), own.begin())) return Order::differs;
  }
  return Order::shuffled;
}

Column weight_column(const int_packs::Matrix& m) { return {weight_rows(m), 4, weight_words}; }
Column zero_column(const int_packs::Matrix& m) { return {m.groups, 4, zero_words}; }
Column scale_column(const int_packs::Matrix& m) {
  return {m.groups, scale_nbytes(m), [](const int_packs::Matrix&, uint64_t n) { return n; }};
}

void store(const sdk::Layer& layer, const Form& form, const char* name, uint32_t dtype,
           const Column& column, const sdk::Tensor PackedPart::*which, sdk::Plan& plan) {
  const int_packs::Matrix& m = form.matrix;
  const uint64_t row_items = column.words(m, m.n);
  const uint32_t stored = layer.groups() > 1
                              ? plan.stored(name, dtype, {layer.groups(), column.rows, row_items})
                              : plan.stored(name, dtype, {column.rows, row_items});
  for (const PackedPart& part : form.parts) {
    ls_identity out = sdk::make<ls_identity>();
    out.stored = stored;
    out.tensor = (part.*which).index;
    out.checked = 1;
    out.rows = column.rows;
    out.row_nbytes = column.words(m, part.count) * column.item;
    out.src_offset = column.words(m, part.file_begin) * column.item;
    out.src_stride = column.words(m, part.file_rows) * column.item;
    out.dst_stride = row_items * column.item;
    out.dst_offset =
        part.group * column.rows * out.dst_stride + column.words(m, part.out_begin) * column.item;
    plan.identity(out);
  }
}

int_packs::Matrix bind_matrix(const Form& form, const sdk::Buffers& stored, uint32_t group) {
  int_packs::Matrix out = form.matrix;
  const auto at = [&](uint64_t index, const Column& column) {
    return static_cast<const char*>(stored.raw(index).at) +
           group * column.rows * column.words(out, out.n) * column.item;
  };
  out.qweight = reinterpret_cast<const uint32_t*>(at(0, weight_column(out)));
  out.qzeros = reinterpret_cast<const uint32_t*>(at(1, zero_column(out)));
  out.scales = at(2, scale_column(out));
  if (stored.count() > 3) out.g_idx = static_cast<const int32_t*>(stored.raw(3).at);
  return out;
}

}  // namespace loadstone::autoround
