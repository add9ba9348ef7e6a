// Products over the rows of several passes (one for each text), so that a scale of the whole input
// never sees another pass.
#pragma once

#include <vector>

#include "runtime/linear.hpp"

namespace loadstone::networks::qwen_image {

/// y, and what is still to be added to each of its rows, where it is defined.
struct Product {
  at::Tensor y, bias;
};

/// Of x, whose rows are those of the passes, `passes[p]` of pass p: at once where rows are
/// independent, else a call a pass.
at::Tensor apply(const runtime::Linear& layer, const at::Tensor& x,
                 const std::vector<int64_t>& passes);
Product apply_without_bias(const runtime::Linear& layer, const at::Tensor& x,
                           const std::vector<int64_t>& passes);
/// gelu of the product.
at::Tensor apply_gelu(const runtime::Linear& layer, const at::Tensor& x,
                      const std::vector<int64_t>& passes);
/// Of each pass's own matrix, side by side as above. On a GPU one call is not worth a copy of them
/// all.
Product apply_each(const runtime::Linear& layer, const std::vector<at::Tensor>& passes);

}  // namespace loadstone::networks::qwen_image
