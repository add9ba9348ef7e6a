#include "runtime/compare/dense_weight.hpp"

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
    return std::optional(std::move(weight));
  }
  if (planned.config->method().table().dequantize == nullptr) return std::optional<DenseWeight>();
  weight.view_ = std::make_unique<plan::LayerView>(model.plan(), planned);
  LS_CHECK(weight.make_canonical());
  return std::optional(std::move(weight));
}

std::vector<ls_buffer> DenseWeight::buffers() const {
  std::vector<ls_buffer> out;
  for (uint32_t i = 0; i < plan_->method_stored; ++i) {
    auto* canonical = const_cast<std::byte*>(unpacked_[i].data());
    out.push_back(buffer_of(unpacked_[i].empty() ? model_->stored(layer_, i) : canonical,
                            plan_->stored[i].nbytes));
  }
  return out;
}

/// Tensors in a kernel's own layout are brought back to the method's.
Status DenseWeight::make_canonical() {
  unpacked_.resize(plan_->method_stored);
  const plugin::Method& method = plan_->config->method();
  for (uint32_t i = 0; i < plan_->method_stored; ++i) {
    const plan::Stored& stored = plan_->stored[i];
    if (stored.packed_nbytes == 0) continue;
    unpacked_[i].resize(stored.nbytes);
    const ls_buffer canonical = buffer_of(unpacked_[i].data(), stored.nbytes);
    const ls_buffer packed = buffer_of(model_->stored(layer_, i), stored.packed_nbytes);
    const int32_t status = plugin::call_plugin([&] {
      return method.table().repack(plan_->config->handle(), &view_->get(), stored.packed_wish, 1,
                                   &canonical, &packed, nullptr);
    });
    LS_CHECK(plugin::check_call(status, method, "repack", model_->plan().layer_of(*plan_).path));
  }
  return {};
}

Result<std::vector<float>> DenseWeight::rows(uint32_t group, uint64_t begin, uint64_t count) const {
  if (view_ == nullptr) return kept_rows(group, begin, count);
  std::vector<float> out(count * in_);
  const std::vector<ls_buffer> stored = buffers();
  std::vector<const ls_buffer*> pointers;
  for (const ls_buffer& buffer : stored) pointers.push_back(&buffer);
  ls_rows request{};
  request.struct_size = sizeof(request);
  request.group = group;
  request.place = LS_PLACE_HOST;
  request.note = plan_->note;
  request.row_begin = begin;
  request.row_count = count;
  request.stored = pointers.data();
  request.stored_count = pointers.size();
  request.out = out.data();
  const plugin::Method& method = plan_->config->method();
  const int32_t status = plugin::call_plugin(
      [&] { return method.table().dequantize(plan_->config->handle(), &view_->get(), &request); });
  LS_CHECK(plugin::check_call(status, method, "dequantize", model_->plan().layer_of(*plan_).path));
  return out;
}

Result<std::vector<float>> DenseWeight::kept_rows(uint32_t group, uint64_t begin,
                                                  uint64_t count) const {
  std::vector<float> out(count * in_);
  const plan::Stored& stored = plan_->stored[kept_];
  const uint64_t elem_nbytes = layout_of(stored.dtype)->block_nbytes;
  const std::byte* from =
      model_->stored(layer_, kept_) + (group * out_ + begin) * in_ * elem_nbytes;
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
