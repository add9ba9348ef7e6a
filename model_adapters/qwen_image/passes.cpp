#include "qwen_image/passes.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

namespace loadstone::networks::qwen_image {
namespace {

using runtime::Linear;
using runtime::SharedActivation;

at::Tensor empty_y(const Linear& layer, const at::Tensor& like, int64_t rows) {
  return at::empty({rows, layer.out()}, like.options());
}

/// run(x, y, shared) for the rows of each pass, or for all at once.
template <typename Run>
at::Tensor over_passes(const Linear& layer, const at::Tensor& x, const std::vector<int64_t>& passes,
                       const Run& run) {
  at::Tensor y = empty_y(layer, x, x.size(0));
  if (passes.size() == 1 || layer.rows_are_independent()) {
    SharedActivation shared;
    run(x, y, shared);
    return y;
  }
  int64_t at = 0;
  for (int64_t count : passes) {
    SharedActivation shared;
    at::Tensor part = y.narrow(0, at, count);
    run(x.narrow(0, at, count), part, shared);
    at += count;
  }
  return y;
}

}  // namespace

at::Tensor apply(const Linear& layer, const at::Tensor& x, const std::vector<int64_t>& passes) {
  return over_passes(layer, x, passes,
                     [&](const at::Tensor& from, at::Tensor& to, SharedActivation& shared) {
                       layer.into(from, to, shared);
                     });
}

Product apply_without_bias(const Linear& layer, const at::Tensor& x,
                           const std::vector<int64_t>& passes) {
  Product out;
  out.y = over_passes(layer, x, passes,
                      [&](const at::Tensor& from, at::Tensor& to, SharedActivation& shared) {
                        out.bias = layer.into_without_bias(from, to, shared);
                      });
  return out;
}

at::Tensor apply_gelu(const Linear& layer, const at::Tensor& x,
                      const std::vector<int64_t>& passes) {
  return over_passes(layer, x, passes,
                     [&](const at::Tensor& from, at::Tensor& to, SharedActivation& shared) {
                       layer.gelu_into(from, to, shared);
                     });
}

Product apply_each(const Linear& layer, const std::vector<at::Tensor>& passes) {
  if (passes[0].is_cpu() && layer.rows_are_independent()) {
    return {layer(passes.size() == 1 ? passes[0] : at::cat(passes, 0)), {}};
  }
  int64_t rows = 0;
  for (const at::Tensor& x : passes) rows += x.size(0);
  Product out{empty_y(layer, passes[0], rows), {}};
  int64_t at = 0;
  for (const at::Tensor& x : passes) {
    SharedActivation shared;
    at::Tensor part = out.y.narrow(0, at, x.size(0));
    out.bias = layer.into_without_bias(x, part, shared);
    at += x.size(0);
  }
  return out;
}

}  // namespace loadstone::networks::qwen_image
