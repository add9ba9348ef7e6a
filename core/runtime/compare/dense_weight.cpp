#include "runtime/compare/dense_weight.hpp"

#include "device/cuda.hpp"
#include "load/cast.hpp"

namespace loadstone::compare {
namespace {

ls_buffer buffer_of(std::byte* at, uint64_t nbytes) {
  return {sizeof(ls_buffer), LS_PLACE_HOST, at, nbytes, 0};
}

}  // namespace

DenseWeight::DenseWeight(const load::LoadedModel& model, uint32_t layer)
    : model_(&model), plan_(&model.plan().layers[layer]), layer_(layer) {
  const graph::Layer& shape = model.plan().layer_of(*plan_);
  out_ = shape.out;
  in_ = plan_->in != 0 ? plan_->in : shape.in;
  groups_ = shape.groups;
}

Result<std::optional<DenseWeight>> DenseWeight::of(const load::LoadedModel& model, uint32_t layer) {
  DenseWeight weight(model, layer);
  const plan::LayerPlan& planned = *weight.plan_;
  if (weight.out_ == 0 || weight.in_ == 0 || planned.decision == plan::Decision::split) {
    return std::optional<DenseWeight>();
  }
  if (planned.config == nullptr || planned.decision == plan::Decision::decode) {
    const int64_t kept = planned.find_stored("weight");
    if (kept < 0) return std::optional<DenseWeight>();
    weight.kept_ = static_cast<uint32_t>(kept);
    if (!load::can_cast_from(planned.stored[weight.kept_].dtype))
      return std::optional<DenseWeight>();
    LS_TRY(weight.kept_at_, weight.on_host(weight.kept_));
    return std::optional(std::move(weight));
  }
  if (planned.config->method().table().dequantize == nullptr) return std::optional<DenseWeight>();
  LS_TRY(std::vector<const std::byte*> stored, weight.canonical());
  LS_TRY(load::WeightRows rows, load::WeightRows::open(model.plan(), planned, std::move(stored)));
  weight.rows_ = std::make_unique<load::WeightRows>(std::move(rows));
  return std::optional(std::move(weight));
}

Result<const std::byte*> DenseWeight::on_host(uint32_t stored) {
  const std::byte* at = model_->stored(layer_, stored);
  const int32_t gpu = model_->gpu_of(layer_);
  if (gpu < 0) return at;
  fetched_.resize(plan_->stored.size());
  fetched_[stored].resize(plan_->stored[stored].slab_nbytes());
  std::vector<std::byte>& bytes = fetched_[stored];
  LS_CHECK(device::read_back(static_cast<uint32_t>(gpu), at, bytes.data(), bytes.size()));
  return bytes.data();
}

/// Tensors in a kernel's own layout are brought back to the method's.
Result<std::vector<const std::byte*>> DenseWeight::canonical() {
  unpacked_.resize(plan_->method_stored);
  std::vector<const std::byte*> out;
  const plan::LayerView view(model_->plan(), *plan_);
  const plugin::Method& method = plan_->config->method();
  for (uint32_t i = 0; i < plan_->method_stored; ++i) {
    const plan::Stored& stored = plan_->stored[i];
    if (stored.packed_nbytes == 0) {
      LS_TRY(const std::byte* at, on_host(i));
      out.push_back(at);
      continue;
    }
    unpacked_[i].resize(stored.nbytes);
    const ls_buffer plain = buffer_of(unpacked_[i].data(), stored.nbytes);
    LS_TRY(const std::byte* at, on_host(i));
    const ls_buffer packed =
        buffer_of(const_cast<std::byte*>(at), stored.packed_nbytes);  // NOLINT: only read
    const int32_t status = plugin::call_plugin([&] {
      return method.table().repack(plan_->config->handle(), &view.get(), stored.packed_wish, 1,
                                   &plain, &packed, nullptr);
    });
    LS_CHECK(plugin::check_call(status, method, "repack", model_->plan().layer_of(*plan_).path));
    out.push_back(unpacked_[i].data());
  }
  return out;
}

Result<std::vector<float>> DenseWeight::rows(uint32_t group, uint64_t begin, uint64_t count,
                                             ThreadPool& pool) const {
  if (rows_ == nullptr) return kept_rows(group, begin, count);
  std::vector<float> out(count * in_);
  LS_CHECK(rows_->read(group, begin, count, /*fold=*/true, out, pool));
  return out;
}

Result<std::vector<float>> DenseWeight::kept_rows(uint32_t group, uint64_t begin,
                                                  uint64_t count) const {
  std::vector<float> out(count * in_);
  const plan::Stored& stored = plan_->stored[kept_];
  const uint64_t elem_nbytes = layout_of(stored.dtype)->block_nbytes;
  const std::byte* from = kept_at_ + (group * out_ + begin) * in_ * elem_nbytes;
  if (!load::cast(from, stored.dtype, reinterpret_cast<std::byte*>(out.data()), DType::F32,
                  out.size())) {
    return Error{Code::internal,
                 "weight can't be widened",
                 model_->plan().layer_of(*plan_).path,
                 "",
                 "",
                 {}};
  }
  return out;
}

}  // namespace loadstone::compare
