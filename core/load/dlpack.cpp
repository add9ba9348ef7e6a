#include <cstddef>
#include <loadstone/dlpack.hpp>
#include <vector>

#include "base/text.hpp"

namespace loadstone::dlpack {

namespace {

// The layout that DLPack 1.1 gives its structs on 64-bit machines.
static_assert(sizeof(dtype) == 4 && sizeof(device) == 8);
static_assert(offsetof(tensor, rank) == 16 && offsetof(tensor, type) == 20);
static_assert(offsetof(tensor, shape) == 24 && offsetof(tensor, byte_offset) == 40);
static_assert(offsetof(managed_tensor, flags) == 24 && offsetof(managed_tensor, view) == 32);
static_assert(sizeof(managed_tensor) == 80);

/// A view with all that it needs to outlive its maker.
struct Owner {
  managed_tensor managed{};
  std::shared_ptr<const load::LoadedModel> model;
  std::vector<int64_t> shape, strides;
};

dtype type_of(DType from) {
  auto number = static_cast<uint32_t>(from);
  constexpr dtype kTypes[] = {{kUInt, 8, 1},           {kBool, 8, 1},
                              {kUInt, 8, 1},           {kInt, 8, 1},
                              {kInt, 16, 1},           {kUInt, 16, 1},
                              {kInt, 32, 1},           {kUInt, 32, 1},
                              {kInt, 64, 1},           {kUInt, 64, 1},
                              {kFloat, 16, 1},         {kBfloat, 16, 1},
                              {kFloat, 32, 1},         {kFloat, 64, 1},
                              {kComplex, 64, 1},       {kFloat8E4M3Fn, 8, 1},
                              {kFloat8E5M2, 8, 1},     {kFloat8E8M0Fnu, 8, 1},
                              {kFloat8E4M3Fnuz, 8, 1}, {kFloat8E5M2Fnuz, 8, 1},
                              {kFloat4E2M1Fn, 4, 1},   {kFloat6E2M3Fn, 6, 1},
                              {kFloat6E3M2Fn, 6, 1}};
  return number < std::size(kTypes) ? kTypes[number] : kTypes[0];
}

}  // namespace

Result<managed_tensor*> view_of(std::shared_ptr<const load::LoadedModel> model, uint32_t layer,
                                uint32_t stored) {
  const auto& layers = model->plan().layers;
  if (layer >= layers.size() || stored >= layers[layer].stored.size()) {
    return Error{Code::invalid_argument, "stored tensor does not exist", "",
                 "found layer " + std::to_string(layer) + ", tensor " + std::to_string(stored), ""};
  }
  const plan::Stored& what = layers[layer].stored[stored];
  bool opaque = is_ggml(what.dtype) || what.packed_nbytes != 0;
  auto owner = std::make_unique<Owner>();
  if (opaque) owner->shape.push_back(static_cast<int64_t>(what.slab_nbytes()));
  for (uint64_t dim : what.shape) {
    if (!opaque) owner->shape.push_back(static_cast<int64_t>(dim));
  }
  owner->strides.resize(owner->shape.size());
  int64_t stride = 1;
  for (size_t i = owner->shape.size(); i-- > 0;) {
    owner->strides[i] = stride;
    stride *= owner->shape[i];
  }
  managed_tensor& out = owner->managed;
  out.abi = {1, 1};
  out.flags = kReadOnly;
  out.view.at = model->stored(layer, stored);
  int32_t gpu = model->gpu_of(layer);
  out.view.on = gpu >= 0 ? device{2, gpu} : device{1, 0};
  out.view.rank = static_cast<int32_t>(owner->shape.size());
  out.view.type = opaque ? dtype{kUInt, 8, 1} : type_of(what.dtype);
  out.view.shape = owner->shape.data();
  out.view.strides = owner->strides.data();
  owner->model = std::move(model);
  out.owner = owner.get();
  out.destroy = [](managed_tensor* self) { delete static_cast<Owner*>(self->owner); };
  return &owner.release()->managed;
}

}  // namespace loadstone::dlpack
