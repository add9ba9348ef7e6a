#include "load/rows.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>

#include "base/text.hpp"
#include "load/cast.hpp"

namespace loadstone::load {

namespace {

constexpr uint64_t kTaskElems = 64u << 10;  // of one thread at a time

Error of_layer(const graph::Layer& layer, Code code, std::string what, std::string detail) {
  return Error{code, std::move(what), escaped(layer.path), std::move(detail), ""};
}

}  // namespace

WeightRows::WeightRows(const plan::Plan& plan, const plan::LayerPlan& layer)
    : plan_(&plan), layer_(&layer), view_(plan, layer) {}

Result<WeightRows> WeightRows::open(const plan::Plan& plan, const plan::LayerPlan& layer,
                                    std::vector<const std::byte*> stored) {
  const graph::Layer& shape = plan.layer_of(layer);
  WeightRows rows(plan, layer);
  if (layer.decision == plan::Decision::decode) {
    int64_t weight = layer.find_stored("weight");
    if (weight < 0) {
      return of_layer(shape, Code::internal, "decoded layer has no weight",
                      "found no stored tensor \"weight\"");
    }
    const plan::Stored& tensor = layer.stored[static_cast<size_t>(weight)];
    uint64_t all = std::max<uint64_t>(shape.out, 1) * std::max<uint32_t>(shape.groups, 1);
    uint64_t elems = tensor.nbytes / layout_of(tensor.dtype)->block_nbytes;
    rows.columns_ = elems / all;
    rows.decoded_ = stored[static_cast<size_t>(weight)];
    if (tensor.dtype != DType::F32 || elems % all != 0) {
      return of_layer(shape, Code::internal, "decoded layer has an odd weight",
                      "found " + std::string(name_of(tensor.dtype)) + ", expected whole F32 rows");
    }
    return rows;
  }
  if (layer.config == nullptr || layer.config->method().table().dequantize == nullptr) {
    return of_layer(shape, Code::unsupported, "layer can't be dequantized",
                    "found no dequantize in method " + quoted(layer.method));
  }
  rows.columns_ = layer.in;
  for (uint32_t i = 0; i < layer.method_stored; ++i) {
    ls_buffer buffer{};
    buffer.struct_size = sizeof(buffer);
    buffer.place = LS_PLACE_HOST;
    buffer.at = const_cast<std::byte*>(stored[i]);
    buffer.nbytes = layer.stored[i].nbytes;
    rows.buffers_.push_back(buffer);
  }
  for (const ls_buffer& buffer : rows.buffers_) rows.pointers_.push_back(&buffer);
  return rows;
}

Result<bool> WeightRows::read(uint32_t group, uint64_t begin, uint64_t count, bool fold,
                              std::span<float> out, ThreadPool& pool) const {
  if (decoded_ != nullptr) {
    uint64_t first = group * plan_->layer_of(*layer_).out + begin;
    std::memcpy(out.data(), decoded_ + first * columns_ * sizeof(float),
                count * columns_ * sizeof(float));
    return false;
  }
  const plugin::MethodConfig& config = *layer_->config;
  uint64_t step = std::max<uint64_t>(kTaskElems / std::max<uint64_t>(columns_, 1), 1);
  uint64_t tasks = (count + step - 1) / step;
  std::mutex mutex;
  std::optional<Error> error;
  bool scaled = false;
  pool.for_each(tasks, [&](size_t task) {
    uint64_t done = task * step;
    uint32_t has_in_scale = 0;
    ls_rows rows{};
    rows.struct_size = sizeof(rows);
    rows.raw = fold ? 0 : 1;
    rows.group = group;
    rows.place = LS_PLACE_HOST;
    rows.note = layer_->note;
    rows.row_begin = begin + done;
    rows.row_count = std::min(step, count - done);
    rows.stored = pointers_.data();
    rows.stored_count = pointers_.size();
    rows.out = out.data() + done * columns_;
    rows.has_in_scale = &has_in_scale;
    int32_t status = plugin::call_plugin(
        [&] { return config.method().table().dequantize(config.handle(), &view_.get(), &rows); });
    Status checked =
        plugin::check_call(status, config.method(), "dequantize", plan_->layer_of(*layer_).path);
    std::lock_guard lock(mutex);
    scaled |= has_in_scale != 0;
    if (!checked.ok() && !error) error = std::move(checked).error();
  });
  if (error) return *std::move(error);
  return scaled;
}

}  // namespace loadstone::load
