#include "runtime/attention/on_host.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <numbers>

#include "runtime/attention/fp8.hpp"

namespace loadstone::runtime::fp8_attention {
namespace {

constexpr int64_t kScratchElems = 8 << 20;  // of products held at once
constexpr int64_t kRowsEach = 16;           // of products that one thread weighs at least

/// Heads of a tensor [B, H, L, D] prepared: values [B·H, L, D] and scales [B·H, …].
struct Prepared {
  at::Tensor values, scales;
};

template <typename Body>
Prepared prepare(const at::Tensor& x, int64_t scales_each, const Body& body) {
  const at::Tensor dense = x.to(at::kFloat).contiguous();
  const int64_t heads = x.size(0) * x.size(1), rows = x.size(2), dim = x.size(3);
  Prepared out{at::empty({heads, rows, dim}, dense.options()),
               at::empty({heads, scales_each}, dense.options())};
  const float* from = dense.const_data_ptr<float>();
  float* values = out.values.mutable_data_ptr<float>();
  float* scales = out.scales.mutable_data_ptr<float>();
  at::parallel_for(0, heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h) {
      body(Rows{from + h * rows * dim, rows, dim, dim}, values + h * rows * dim,
           scales + h * scales_each);
    }
  });
  return out;
}

/// q, k and v of every head, and what a call asks of them.
struct Operands {
  Prepared q, k, v;
  float scale = 0;  // of products, times log2(e)
};

Operands prepare_all(const AttentionCall& call) {
  const int64_t dim = call.q.size(3);
  const auto signs = rotation_signs(dim);
  Operands out;
  out.q = prepare(call.q, call.q.size(2), [&](const Rows& x, float* values, float* scales) {
    prepare_q(x, signs, values, scales);
  });
  out.k = prepare(
      call.k, key_blocks(call.k.size(2)),
      [&](const Rows& x, float* values, float* scales) { prepare_k(x, signs, values, scales); });
  out.v = prepare(call.v, dim, [](const Rows& x, float* values, float* scales) {
    prepare_v(x, values, scales);
  });
  if (const int64_t group = call.q.size(1) / call.k.size(1); group > 1) {
    for (at::Tensor* tensor : {&out.k.values, &out.k.scales, &out.v.values, &out.v.scales}) {
      *tensor = tensor->repeat_interleave(group, 0);
    }
  }
  out.scale = static_cast<float>(call.scale * std::numbers::log2e);
  return out;
}

/// Queries [first, first + rows) of heads [head, head + heads).
struct Part {
  int64_t head, heads, first, rows;
};

/// Their weighted sums of v̂, and the sums of their weights.
void run_part(const Operands& operands, const Part& part, at::Tensor& out, at::Tensor& sums) {
  const int64_t keys = operands.k.values.size(1), queries = operands.q.values.size(1);
  const int64_t blocks = key_blocks(keys);
  at::Tensor weights =
      at::bmm(operands.q.values.narrow(0, part.head, part.heads).narrow(1, part.first, part.rows),
              operands.k.values.narrow(0, part.head, part.heads).transpose(1, 2));
  float* rows = weights.mutable_data_ptr<float>();
  const float* q_scales = operands.q.scales.const_data_ptr<float>();
  const float* k_scales = operands.k.scales.const_data_ptr<float>();
  float* sum = sums.mutable_data_ptr<float>();
  at::parallel_for(0, part.heads * part.rows, kRowsEach, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t head = part.head + i / part.rows;
      const int64_t row = head * queries + part.first + i % part.rows;
      sum[row] =
          weigh(rows + i * keys, keys, q_scales[row] * operands.scale, k_scales + head * blocks);
    }
  });
  out.narrow(0, part.head, part.heads)
      .narrow(1, part.first, part.rows)
      .copy_(at::bmm(weights, operands.v.values.narrow(0, part.head, part.heads)));
}

}  // namespace

at::Tensor on_host(const AttentionCall& call) {
  const Operands operands = prepare_all(call);
  const int64_t batch = call.q.size(0), heads = call.q.size(1), queries = call.q.size(2);
  const int64_t keys = call.k.size(2), dim = call.q.size(3), all = batch * heads;
  at::Tensor out = at::empty({all, queries, dim}, operands.q.values.options());
  at::Tensor sums = at::empty({all, queries, 1}, operands.q.values.options());
  const int64_t heads_once = std::clamp<int64_t>(kScratchElems / (queries * keys), 1, all);
  const int64_t rows_once = std::clamp<int64_t>(kScratchElems / keys, 1, queries);
  for (int64_t h = 0; h < all; h += heads_once) {
    for (int64_t r = 0; r < queries; r += rows_once) {
      run_part(operands, {h, std::min(heads_once, all - h), r, std::min(rows_once, queries - r)},
               out, sums);
    }
  }
  out.mul_(operands.v.scales.unsqueeze(1)).div_(sums);
  return out.view({batch, heads, queries, dim})
      .transpose(1, 2)
      .to(call.q.scalar_type())
      .reshape({batch, queries, heads * dim});
}

}  // namespace loadstone::runtime::fp8_attention
