#include "runtime/linear.hpp"

#include <ATen/ops/_addmm_activation.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>

#include <numeric>

#include "runtime/fused.hpp"

namespace loadstone::runtime {
namespace {

class PlainLinear final : public Linear {
 public:
  PlainLinear(const at::Tensor& weight, at::Tensor bias)
      : Linear(weight.size(1), weight.size(0)), transposed_(weight.t()), bias_(std::move(bias)) {}

  void into(const at::Tensor& x, at::Tensor& y, SharedActivation& /*shared*/) const override {
    if (bias_.defined()) {
      at::addmm_out(y, bias_, x, transposed_);
    } else {
      at::mm_out(y, x, transposed_);
    }
  }
  /// In the product's own last pass, where 16 bits hide that cuBLAS takes a fast tanh.
  void gelu_into(const at::Tensor& x, at::Tensor& y, SharedActivation& shared) const override {
    if (x.is_cuda() && at::isReducedFloatingType(x.scalar_type()) && bias_.defined()) {
      at::_addmm_activation_out(y, bias_, x, transposed_, 1, 1, true);
    } else {
      Linear::gelu_into(x, y, shared);
    }
  }
  bool rows_are_independent() const override { return true; }

 private:
  at::Tensor transposed_;  // a view [in, out]
  at::Tensor bias_;
};

class PlainEmbedding final : public Embedding {
 public:
  PlainEmbedding(at::Tensor table, at::ScalarType dtype)
      : table_(std::move(table)), dtype_(dtype) {}
  at::Tensor operator()(const at::Tensor& ids) const override {
    return at::index_select(table_, 0, ids).to(dtype_);
  }

 private:
  at::Tensor table_;
  at::ScalarType dtype_;
};

class SideBySide final : public Linear {
 public:
  explicit SideBySide(std::vector<std::unique_ptr<Linear>> parts)
      : Linear(parts.front()->in(), total_out(parts)), parts_(std::move(parts)) {}

  void into(const at::Tensor& x, at::Tensor& y, SharedActivation& shared) const override {
    int64_t at = 0;
    for (const auto& part : parts_) {
      at::Tensor columns = y.narrow(1, at, part->out());
      part->into(x, columns, shared);
      at += part->out();
    }
  }
  bool rows_are_independent() const override {
    for (const auto& part : parts_) {
      if (!part->rows_are_independent()) return false;
    }
    return true;
  }

 private:
  static int64_t total_out(const std::vector<std::unique_ptr<Linear>>& parts) {
    return std::accumulate(
        parts.begin(), parts.end(), int64_t{0},
        [](int64_t sum, const std::unique_ptr<Linear>& part) { return sum + part->out(); });
  }
  std::vector<std::unique_ptr<Linear>> parts_;
};

}  // namespace

at::Tensor Linear::operator()(const at::Tensor& x) const {
  at::Tensor y = at::empty({x.size(0), out_}, x.options());
  SharedActivation shared;
  into(x, y, shared);
  return y;
}

at::Tensor Linear::into_without_bias(const at::Tensor& x, at::Tensor& y,
                                     SharedActivation& shared) const {
  into(x, y, shared);
  return {};
}

void Linear::gelu_into(const at::Tensor& x, at::Tensor& y, SharedActivation& shared) const {
  const at::Tensor bias = into_without_bias(x, y, shared);
  if (fused::gelu_tanh(y, bias)) return;
  if (bias.defined()) y.add_(bias);
  at::gelu_(y, "tanh");
}

std::unique_ptr<Linear> plain_linear(const at::Tensor& weight, at::Tensor bias) {
  return std::make_unique<PlainLinear>(weight, std::move(bias));
}

std::unique_ptr<Embedding> plain_embedding(at::Tensor table, at::ScalarType dtype) {
  return std::make_unique<PlainEmbedding>(std::move(table), dtype);
}

std::unique_ptr<Linear> side_by_side(std::vector<std::unique_ptr<Linear>> parts) {
  return std::make_unique<SideBySide>(std::move(parts));
}

}  // namespace loadstone::runtime
