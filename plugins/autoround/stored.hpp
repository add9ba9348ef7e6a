// The stored tensors of packed integers: the file's own, parts of a layer side by side along N; and
// how columns are grouped.
#pragma once

#include <optional>
#include <span>

#include "autoround/form.hpp"

namespace loadstone::autoround {

/// The setting of a layer: its parts', which must agree; else nothing.
std::optional<Setting> setting_of(const Config& config, const sdk::Layer& layer);

/// A layer as planned before: its parts agree and their shapes were checked.
Form known_form(const Config& config, const sdk::Layer& layer);

// ---- g_idx ----

std::span<const int32_t> values_of(const sdk::Tensor& g_idx);
/// Whether column k has group k / group_size.
bool is_trivial(const sdk::Tensor& g_idx, uint64_t group_size);

enum class Order { missing_values, plain, shuffled, differs };

/// How the parts' columns are grouped. Asks `plan` for values where there is a g_idx. Errors
/// (thrown): LS_INVALID_CHECKPOINT for groups out of range and a g_idx that desc_act promises.
Order order_of(const Config& config, const Form& form, sdk::Plan& plan);

// ---- tensors ----

/// One of the three tensors: rows of `words(n)` items of `item` bytes.
struct Column {
  uint64_t rows, item;
  uint64_t (*words)(const int_packs::Matrix&, uint64_t);
};

Column weight_column(const int_packs::Matrix& m);
Column zero_column(const int_packs::Matrix& m);
Column scale_column(const int_packs::Matrix& m);

/// Plans one of them as identities of the parts' tensors `which`.
void store(const sdk::Layer& layer, const Form& form, const char* name, uint32_t dtype,
           const Column& column, const sdk::Tensor PackedPart::*which, sdk::Plan& plan);

/// The matrix of group `group` over stored tensors in plan's order.
int_packs::Matrix bind_matrix(const Form& form, const sdk::Buffers& stored, uint32_t group);

}  // namespace loadstone::autoround
