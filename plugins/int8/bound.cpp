#include "int8/bound.hpp"

#include "common/digest.hpp"
#include "common/numerics/floats.hpp"
#include "common/numerics/int8.hpp"
#include "common/product/rows.hpp"

namespace loadstone::int8 {

Bound::Bound(const Config& config, const sdk::Binding& binding)
    : form_(form_of(config, binding.layer)),
      codes_(binding.stored.as<const int8_t>(0).data()),
      scales_(binding.stored.as<const float>(1).data()),
      product_({form_.n, form_.k}),
      blockwise_(binding.layer.kind(), form_.groups, form_.n, form_.k) {}

void Bound::sizes(uint32_t, uint64_t m, ls_sizes& out) const {
  if (form_.weight_only) {
    out.workspace_nbytes = blockwise_.workspace_nbytes(m);
    return;
  }
  out.workspace_nbytes = common::round_up(product_.workspace_nbytes(m), 64);
  if (form_.groups > 1) {
    out.workspace_nbytes += product_.activation_nbytes(m);
    return;
  }
  out.activation_nbytes = product_.activation_nbytes(m);
  out.key_nbytes = sizeof out.key;
  const std::string numeric = "int8 token " + std::to_string(form_.k) + " " + product_.path();
  common::digest(numeric, out.key);
}

void Bound::quantize(const ls_apply& call, void* activation) const {
  const uint64_t k = form_.k;
  product_.prepare(
      call, [k](const float* x, int8_t* codes) { return common::int8_quantize_row(x, codes, k); },
      activation);
}

void Bound::prepare(const ls_apply& call) const {
  if (call.m == 0 || form_.weight_only || form_.groups > 1) return;
  quantize(call, call.activation);
}

void Bound::apply(const ls_apply& call) const {
  if (call.m == 0) return;
  if (form_.weight_only) {
    return blockwise_.run(call, [this](uint32_t group, uint64_t begin, uint64_t count, float* out) {
      for (uint64_t r = 0; r < count; ++r) {
        const uint64_t row = group * form_.n + begin + r;
        common::int8_dequantize(codes_ + row * form_.k, scales_[row], out + r * form_.k, form_.k);
      }
    });
  }
  if (form_.groups > 1) return apply_groups(call);
  product_.apply(call, {codes_, scales_}, call.activation);
}

void Bound::apply_groups(const ls_apply& call) const {
  const uint64_t workspace = common::round_up(product_.workspace_nbytes(call.m), 64);
  char* activation = static_cast<char*>(call.workspace) + workspace;
  common::for_groups(call, form_.groups, [&](uint32_t group, const ls_apply& one) {
    quantize(one, activation);
    const uint64_t first = group * form_.n;
    product_.apply(one, {codes_ + first * form_.k, scales_ + first}, activation);
  });
}

}  // namespace loadstone::int8
