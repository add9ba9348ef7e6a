#include "runtime/quantized.hpp"

#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstring>

#include "base/text.hpp"
#include "plugin/registry.hpp"
#include "runtime/loaded_weights.hpp"

namespace loadstone::runtime {
namespace {

uint32_t dtype_number(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return LS_DTYPE_F32;
    case at::kBFloat16:
      return LS_DTYPE_BF16;
    case at::kHalf:
      return LS_DTYPE_F16;
    default:
      return LS_DTYPE_I64;  // gather's x
  }
}

/// From LibTorch's allocator of that device, so that nothing is allocated twice for one peak.
at::Tensor bytes(uint64_t count, at::Device device) {
  return at::empty({static_cast<int64_t>(count)},
                   at::TensorOptions().dtype(at::kByte).device(device));
}

/// A bound layer with everything that must live as long.
class Bound {
 public:
  static Result<std::shared_ptr<Bound>> make(const LayerSource& source,
                                             std::shared_ptr<RunState> state) {
    auto bound = std::shared_ptr<Bound>(new Bound(source, std::move(state)));
    const ls_method& table = bound->table();
    if (table.bind == nullptr || table.sizes == nullptr || table.apply == nullptr) {
      return Error{Code::unsupported,
                   "method can't run layers",
                   bound->where(),
                   "found no apply in " + loadstone::quoted(table.name) + ", expected one",
                   "",
                   {}};
    }
    LS_CHECK(bound->bind());
    if (table.variant != nullptr) {
      bound->state_->forms[bound.get()] =
          [one = bound.get()](const ls_step& step) -> Result<uint64_t> {
        LS_TRY(const uint32_t number, one->variant(step));
        return uint64_t{number};
      };
    }
    return bound;
  }
  ~Bound() {
    state_->forms.erase(this);
    if (handle_ != nullptr && table().unbind != nullptr) table().unbind(handle_);
  }
  Bound(const Bound&) = delete;
  Bound& operator=(const Bound&) = delete;

  const ls_layer& layer() const { return view_.get(); }

  /// y = apply(x). x [m, …] and y [m, out] with last stride 1. On failure y is zeros.
  void run(const at::Tensor& x, at::Tensor& y, const at::Tensor& bias, SharedActivation& shared) {
    const Status status = try_run(x, y, bias, shared);
    if (status.ok()) return;
    state_->fail(status.error());
    y.zero_();
  }

 private:
  Bound(const LayerSource& source, std::shared_ptr<RunState> state)
      : model_(source.model),
        index_(source.layer),
        plan_(model_->plan().layers[index_]),
        view_(model_->plan(), plan_),
        device_(device_of(*model_, index_)),
        state_(std::move(state)) {}

  /// The stream that LibTorch works on now, or null on the CPU.
  void* stream() const {
    if (device_.is_cpu()) return nullptr;
    return c10::impl::VirtualGuardImpl(device_.type()).getStream(device_).native_handle();
  }

  const ls_method& table() const { return plan_.config->method().table(); }
  std::string where() const { return model_->plan().layer_of(plan_).path; }
  Status check(int32_t status, std::string_view call) const {
    return plugin::check_call(status, plan_.config->method(), call, where());
  }

  /// Errors: what the method says of this step.
  Result<uint32_t> variant(const ls_step& step) const {
    uint32_t out = 0;
    if (table().variant != nullptr) {
      LS_CHECK(check(table().variant(handle_, &step, &out), "variant"));
    }
    return out;
  }

  Status bind() {
    const uint32_t place = device_.is_cpu() ? LS_PLACE_HOST : LS_PLACE_CUDA;
    std::vector<ls_buffer> buffers;
    for (uint32_t i = 0; i < plan_.method_stored; ++i) {
      const plan::Stored& stored = plan_.stored[i];
      buffers.push_back(
          {sizeof(ls_buffer), place, model_->stored(index_, i), stored.slab_nbytes(), 0});
    }
    std::vector<const ls_buffer*> pointers;
    for (const ls_buffer& buffer : buffers) pointers.push_back(&buffer);
    const plan::Target& target =
        model_->plan().slabs[model_->plan().layer_of(plan_).component].target;
    const ls_target view{sizeof(ls_target), target.kind, target.sm, 0, target.name.c_str()};
    return check(table().bind(plan_.config->handle(), &view_.get(), &view, plan_.note,
                              pointers.data(), pointers.size(), &handle_),
                 "bind");
  }

  Status try_run(const at::Tensor& x, at::Tensor& y, const at::Tensor& bias,
                 SharedActivation& shared) {
    ls_apply call{};
    call.struct_size = sizeof(call);
    LS_TRY(call.variant, variant(state_->step));
    ls_sizes sizes{};
    sizes.struct_size = sizeof(sizes);
    call.m = static_cast<uint64_t>(x.size(0));
    LS_CHECK(check(table().sizes(handle_, call.variant, call.m, &sizes), "sizes"));
    call.x_dtype = dtype_number(x.scalar_type());
    call.y_dtype = dtype_number(y.scalar_type());
    call.x = x.const_data_ptr();
    call.y = y.mutable_data_ptr();
    call.x_stride = static_cast<uint64_t>(x.dim() > 1 ? x.stride(0) : 1);
    call.y_stride = static_cast<uint64_t>(y.stride(0));
    if (bias.defined()) {
      call.bias = bias.const_data_ptr();
      call.bias_dtype = dtype_number(bias.scalar_type());
    }
    call.stream = stream();
    const at::Tensor workspace = bytes(sizes.workspace_nbytes, device_);
    call.workspace = workspace.mutable_data_ptr();
    if (sizes.activation_nbytes != 0) {
      LS_CHECK(prepare(call, sizes, shared));
      call.activation = shared.bytes.mutable_data_ptr();
    }
    return check(table().apply(handle_, &call), "apply");
  }

  /// Fills `shared` unless a layer of this method with an equal key has.
  Status prepare(ls_apply call, const ls_sizes& sizes, SharedActivation& shared) const {
    if (table().prepare == nullptr) {
      return Error{Code::internal,
                   "method can't prepare",
                   where(),
                   "found activation bytes but no prepare, expected both",
                   "",
                   {}};
    }
    const bool same = sizes.key_nbytes != 0 && sizes.key_nbytes == shared.key_nbytes &&
                      shared.method == &table() &&
                      std::memcmp(sizes.key, shared.key.data(), shared.key.size()) == 0;
    if (same) return {};
    shared.bytes = bytes(sizes.activation_nbytes, device_);
    call.activation = shared.bytes.mutable_data_ptr();
    shared.key_nbytes = 0;
    LS_CHECK(check(table().prepare(handle_, &call), "prepare"));
    shared.key_nbytes = sizes.key_nbytes;
    shared.method = &table();
    std::memcpy(shared.key.data(), sizes.key, shared.key.size());
    return {};
  }

  std::shared_ptr<const load::LoadedModel> model_;
  uint32_t index_;
  const plan::LayerPlan& plan_;
  plan::LayerView view_;
  at::Device device_;
  std::shared_ptr<RunState> state_;
  ls_bound* handle_ = nullptr;
};

class QuantizedLinear final : public Linear {
 public:
  QuantizedLinear(std::shared_ptr<Bound> bound, at::Tensor bias, int64_t in, int64_t out)
      : Linear(in, out), bound_(std::move(bound)), bias_(std::move(bias)) {}

  void into(const at::Tensor& x, at::Tensor& y, SharedActivation& shared) const override {
    bound_->run(x, y, bias_, shared);
  }
  /// A product on a GPU takes up to a quarter longer with a bias.
  at::Tensor into_without_bias(const at::Tensor& x, at::Tensor& y,
                               SharedActivation& shared) const override {
    const bool leaves = x.is_cuda();
    bound_->run(x, y, leaves ? at::Tensor() : bias_, shared);
    return leaves ? bias_ : at::Tensor();
  }
  bool runs_by_method() const override { return true; }
  bool rows_are_independent() const override { return false; }

 private:
  std::shared_ptr<Bound> bound_;
  at::Tensor bias_;
};

class QuantizedEmbedding final : public Embedding {
 public:
  QuantizedEmbedding(std::shared_ptr<Bound> bound, at::ScalarType dtype, int64_t width)
      : bound_(std::move(bound)), dtype_(dtype), width_(width) {}

  at::Tensor operator()(const at::Tensor& ids) const override {
    at::Tensor y = at::empty({ids.size(0), width_}, ids.options().dtype(dtype_));
    SharedActivation shared;
    bound_->run(ids, y, {}, shared);
    return y;
  }

 private:
  std::shared_ptr<Bound> bound_;
  at::ScalarType dtype_;
  int64_t width_;
};

}  // namespace

Result<std::unique_ptr<Linear>> quantized_linear(const LayerSource& source, at::Tensor bias,
                                                 std::shared_ptr<RunState> state) {
  LS_TRY(auto bound, Bound::make(source, std::move(state)));
  const plan::LayerPlan& plan = source.model->plan().layers[source.layer];
  const auto in = static_cast<int64_t>(plan.in), out = static_cast<int64_t>(bound->layer().out);
  return std::unique_ptr<Linear>(
      std::make_unique<QuantizedLinear>(std::move(bound), std::move(bias), in, out));
}

Result<std::unique_ptr<Embedding>> quantized_embedding(const LayerSource& source,
                                                       at::ScalarType dtype,
                                                       std::shared_ptr<RunState> state) {
  LS_TRY(auto bound, Bound::make(source, std::move(state)));
  const auto width = static_cast<int64_t>(source.model->plan().layers[source.layer].in);
  return std::unique_ptr<Embedding>(
      std::make_unique<QuantizedEmbedding>(std::move(bound), dtype, width));
}

}  // namespace loadstone::runtime
