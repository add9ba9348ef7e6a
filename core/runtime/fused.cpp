#include "runtime/fused.hpp"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <initializer_list>
#include <limits>
#include <optional>

#include "runtime/cuda/elementwise.hpp"
#include "runtime/cuda/norm.hpp"
#include "runtime/cuda/rotary.hpp"

namespace loadstone::runtime::fused {
namespace {

constexpr int64_t kMostRows = std::numeric_limits<int32_t>::max();  // blocks of a launch

std::optional<cuda::Float> float_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return cuda::Float::f32;
    case at::kHalf:
      return cuda::Float::f16;
    case at::kBFloat16:
      return cuda::Float::bf16;
    default:
      return std::nullopt;
  }
}

struct Place {
  cuda::Float type;
  cuda::Queue queue;  // the stream that LibTorch works on now
};

/// Nothing where no kernel takes x, or another tensor isn't of x's type and device.
std::optional<Place> place_of(const at::Tensor& x,
                              std::initializer_list<const at::Tensor*> others) {
  if (!x.is_cuda()) return std::nullopt;
  const auto type = float_of(x.scalar_type());
  const at::Device device = x.device();
  if (!type || !cuda::runs_on(device.index())) return std::nullopt;
  for (const at::Tensor* other : others) {
    if (other->device() != device || other->scalar_type() != x.scalar_type()) return std::nullopt;
  }
  const at::Stream stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
  return Place{*type, {device.index(), stream.native_handle()}};
}

bool is_rows(const at::Tensor& x, int64_t rows, int64_t width) {
  return x.dim() == 2 && x.size(0) == rows && x.size(1) == width && x.stride(1) == 1 &&
         rows <= kMostRows;
}
bool is_vector(const at::Tensor& x, int64_t width) {
  return x.dim() == 1 && x.size(0) == width && x.is_contiguous();
}

/// A kernel that CUDA refuses ends the drawing as an operator of LibTorch's would.
bool queued(const char* why, const char* what) {
  TORCH_CHECK(why == nullptr, what, " failed: ", why);
  return true;
}

const void* data(const at::Tensor& x) { return x.defined() ? x.const_data_ptr() : nullptr; }

bool is_table(const at::Tensor& x, const at::Device& device, int64_t positions, int64_t half) {
  return x.device() == device && x.scalar_type() == at::kFloat && x.dim() == 2 &&
         x.size(0) == positions && x.size(1) == half && x.is_contiguous();
}

/// Undefined, or a vector that lies where `like` does.
bool is_vector_if(const at::Tensor& x, const at::Tensor& like, int64_t width) {
  return !x.defined() || (x.device() == like.device() && x.scalar_type() == like.scalar_type() &&
                          is_vector(x, width));
}

bool norm_fits(const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale,
               const at::Tensor& shift) {
  if (x.dim() != 2) return false;
  const int64_t rows = x.size(0), width = x.size(1);
  return width >= 1 && width <= cuda::kWidestNorm && is_rows(x, rows, width) &&
         is_rows(out, rows, width) && is_vector(scale, width) && is_vector(shift, width);
}

bool sum_fits(const at::Tensor& x, const at::Tensor& gate, const at::Tensor& y,
              const at::Tensor& bias) {
  if (x.dim() != 2) return false;
  const int64_t rows = x.size(0), width = x.size(1);
  return is_rows(x, rows, width) && is_rows(y, rows, width) && is_vector(gate, width) &&
         is_vector_if(bias, x, width);
}

cuda::LayerNorm norm_call(const Place& place, at::Tensor& out, const at::Tensor& x,
                          const at::Tensor& scale, const at::Tensor& shift, double eps) {
  return {.type = place.type,
          .x = x.const_data_ptr(),
          .scale = scale.const_data_ptr(),
          .shift = shift.const_data_ptr(),
          .y = out.mutable_data_ptr(),
          .rows = x.size(0),
          .width = x.size(1),
          .x_stride = x.stride(0),
          .y_stride = out.stride(0),
          .eps = static_cast<float>(eps)};
}

}  // namespace

bool layer_norm_modulated(at::Tensor& out, const at::Tensor& x, const at::Tensor& scale,
                          const at::Tensor& shift, double eps) {
  const auto place = place_of(x, {&out, &scale, &shift});
  if (!place || !norm_fits(out, x, scale, shift)) return false;
  return queued(cuda::layer_norm(norm_call(*place, out, x, scale, shift, eps), place->queue),
                "layer norm");
}

bool add_gated(at::Tensor& x, const at::Tensor& gate, const at::Tensor& y, const at::Tensor& bias) {
  const auto place = place_of(x, {&gate, &y});
  if (!place || !sum_fits(x, gate, y, bias)) return false;
  const cuda::AddGated call{.type = place->type,
                            .x = x.mutable_data_ptr(),
                            .gate = gate.const_data_ptr(),
                            .y = y.const_data_ptr(),
                            .bias = data(bias),
                            .rows = x.size(0),
                            .width = x.size(1),
                            .x_stride = x.stride(0),
                            .y_stride = y.stride(0)};
  return queued(cuda::add_gated(call, place->queue), "gated sum");
}

bool add_gated_then_norm(at::Tensor& out, at::Tensor& x, const at::Tensor& gate,
                         const at::Tensor& y, const at::Tensor& bias, const at::Tensor& scale,
                         const at::Tensor& shift, double eps) {
  const auto place = place_of(x, {&out, &scale, &shift, &gate, &y});
  if (!place || !norm_fits(out, x, scale, shift) || !sum_fits(x, gate, y, bias)) return false;
  const cuda::GatedNorm call{.norm = norm_call(*place, out, x, scale, shift, eps),
                             .x = x.mutable_data_ptr(),
                             .gate = gate.const_data_ptr(),
                             .more = y.const_data_ptr(),
                             .bias = data(bias),
                             .more_stride = y.stride(0)};
  return queued(cuda::gated_norm(call, place->queue), "gated sum and norm");
}

bool gelu_tanh(at::Tensor& x, const at::Tensor& bias) {
  const auto place = place_of(x, {});
  if (!place || x.dim() != 2) return false;
  const int64_t rows = x.size(0), width = x.size(1);
  if (!is_rows(x, rows, width) || !is_vector_if(bias, x, width)) return false;
  const cuda::Gelu call{.type = place->type,
                        .x = x.mutable_data_ptr(),
                        .bias = data(bias),
                        .rows = rows,
                        .width = width,
                        .stride = x.stride(0)};
  return queued(cuda::gelu_tanh(call, place->queue), "gelu");
}

bool place_heads(const Heads& heads) {
  const at::Tensor &from = heads.from, &to = heads.to;
  const auto place = place_of(from, {&to});
  if (!place || to.dim() != 3 || from.dim() != 2 || to.size(0) == 0) return false;
  const int64_t batch = to.size(0), rows = from.size(0), positions = rows / batch;
  const int64_t width = (heads.q + 2 * heads.kv) * heads.dim;
  if (!is_rows(from, batch * positions, width) || to.size(2) != width || to.stride(2) != 1 ||
      heads.offset < 0 || heads.offset + positions > to.size(1) || !cuda::heads_fit(heads.dim) ||
      !is_vector_if(heads.bias, from, width) || !is_vector_if(heads.q_weight, from, heads.dim) ||
      !is_vector_if(heads.k_weight, from, heads.dim) ||
      !is_table(heads.cosine, from.device(), positions, heads.dim / 2) ||
      !is_table(heads.sine, from.device(), positions, heads.dim / 2)) {
    return false;
  }
  at::Tensor target = to.narrow(1, heads.offset, positions);
  const bool in_place = target.const_data_ptr() == from.const_data_ptr();
  if (in_place && (target.stride(1) != from.stride(0) ||
                   (batch > 1 && target.stride(0) != positions * from.stride(0)))) {
    return false;
  }
  const cuda::Heads call{.type = place->type,
                         .from = from.const_data_ptr(),
                         .bias = data(heads.bias),
                         .q_weight = data(heads.q_weight),
                         .k_weight = data(heads.k_weight),
                         .cosine = heads.cosine.const_data_ptr<float>(),
                         .sine = heads.sine.const_data_ptr<float>(),
                         .to = target.mutable_data_ptr(),
                         .batch = batch,
                         .positions = positions,
                         .from_stride = from.stride(0),
                         .to_stride = target.stride(1),
                         .to_batch_stride = target.stride(0),
                         .q = static_cast<int32_t>(heads.q),
                         .kv = static_cast<int32_t>(heads.kv),
                         .dim = static_cast<int32_t>(heads.dim),
                         .q_eps = static_cast<float>(heads.q_eps),
                         .k_eps = static_cast<float>(heads.k_eps),
                         .with_values = !in_place || heads.bias.defined()};
  return queued(cuda::place_heads(call, place->queue), "placing heads");
}

}  // namespace loadstone::runtime::fused
