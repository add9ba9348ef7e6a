// Modules with weights that networks call: products and embeddings, quantized or not.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

namespace loadstone::runtime {

/// An activation that one quantized layer prepared, for others that read the same x.
struct SharedActivation {
  std::array<uint8_t, 32> key{};
  uint32_t key_nbytes = 0;       // 0: nothing prepared
  const void* method = nullptr;  // whose layout it is: equal keys of two methods mean nothing
  at::Tensor bytes;
};

/// y = x·Wᵀ + b. One call at a time.
class Linear {
 public:
  virtual ~Linear() = default;

  int64_t in() const { return in_; }
  int64_t out() const { return out_; }

  /// x [m, in], dense → y [m, out], dense, of x's dtype.
  at::Tensor operator()(const at::Tensor& x) const;
  /// The same into columns of a wider matrix: y [m, out], last stride 1. `shared` is what layers
  /// called before with the same x left.
  virtual void into(const at::Tensor& x, at::Tensor& y, SharedActivation& shared) const = 0;
  /// into(), but the layer may leave its bias to the caller: what is returned is still to be added,
  /// undefined: nothing is. For callers whose next kernel reads y anyway.
  virtual at::Tensor into_without_bias(const at::Tensor& x, at::Tensor& y,
                                       SharedActivation& shared) const;
  /// y = gelu(x·Wᵀ + b), the tanh form.
  virtual void gelu_into(const at::Tensor& x, at::Tensor& y, SharedActivation& shared) const;
  /// Whether a quantization method computes it.
  virtual bool runs_by_method() const { return false; }
  /// Whether each row of y depends on its row of x alone, so that rows of several calls may be
  /// computed together. False where a method may look at all rows (one scale for the whole x).
  virtual bool rows_are_independent() const = 0;

 protected:
  Linear(int64_t in, int64_t out) : in_(in), out_(out) {}

 private:
  int64_t in_, out_;
};

/// Rows of a table: ids [n] int64 → [n, width].
class Embedding {
 public:
  virtual ~Embedding() = default;
  virtual at::Tensor operator()(const at::Tensor& ids) const = 0;
};

/// W [out, in] and b [out] (or undefined), of one dtype.
std::unique_ptr<Linear> plain_linear(const at::Tensor& weight, at::Tensor bias);
/// Rows of a table of any float type, handed out as `dtype`.
std::unique_ptr<Embedding> plain_embedding(at::Tensor table, at::ScalarType dtype);
/// Layers that read one x, their outputs side by side.
std::unique_ptr<Linear> side_by_side(std::vector<std::unique_ptr<Linear>> parts);

}  // namespace loadstone::runtime
