#include <algorithm>

#include "plan/plan.hpp"

namespace loadstone::plan {

struct LayerView::Arrays {
  ls_layer layer{};
  std::vector<ls_part> parts;
  std::vector<const ls_part*> part_pointers;
  std::vector<ls_tensor> tensors;
  std::vector<const ls_tensor*> tensor_pointers;
};

namespace {

ls_part part_view(const graph::Part& part) {
  ls_part out{};
  out.struct_size = sizeof(out);
  out.group = part.group;
  out.name = part.name.c_str();
  out.out_begin = part.out_begin;
  out.out_count = part.out_count;
  out.file_begin = part.file_begin;
  out.file_total = part.file_total;
  return out;
}

ls_tensor tensor_view(const formats::TensorEntry& entry, const graph::LayerTensor& tensor) {
  ls_tensor out{};
  out.struct_size = sizeof(out);
  out.dtype = static_cast<uint32_t>(entry.dtype);
  out.rank = static_cast<uint32_t>(std::min<size_t>(entry.shape.size(), LS_MAX_RANK));
  out.part = tensor.part;
  out.group = tensor.group;
  std::fill(std::begin(out.shape), std::end(out.shape), uint64_t{1});
  for (uint32_t i = 0; i < out.rank; ++i) out.shape[i] = entry.shape[i];
  out.nbytes = entry.nbytes;
  out.row_nbytes = row_nbytes(entry);
  out.name = tensor.suffix.c_str();
  return out;
}

}  // namespace

LayerView::LayerView(const formats::Checkpoint& checkpoint, const graph::Graph& graph,
                     const graph::Layer& layer, uint32_t want, DType load_dtype)
    : arrays_(std::make_unique<Arrays>()) {
  const graph::GraphComponent& component = graph.components[layer.component];
  const auto& entries = checkpoint.components[component.checkpoint_component].tensors;
  Arrays& a = *arrays_;
  a.parts.reserve(layer.parts.size());
  for (const graph::Part& part : layer.parts) a.parts.push_back(part_view(part));
  for (const ls_part& part : a.parts) a.part_pointers.push_back(&part);
  a.tensors.reserve(layer.tensors.size());
  for (const graph::LayerTensor& tensor : layer.tensors) {
    a.tensors.push_back(tensor_view(entries[tensor.tensor], tensor));
  }
  for (const ls_tensor& tensor : a.tensors) a.tensor_pointers.push_back(&tensor);

  a.layer.struct_size = sizeof(a.layer);
  a.layer.kind = static_cast<uint32_t>(layer.kind);
  a.layer.load_dtype = static_cast<uint32_t>(load_dtype);
  a.layer.has_bias = layer.has_bias ? 1 : 0;
  a.layer.want = want;
  a.layer.groups = layer.groups;
  a.layer.component = component.name.c_str();
  a.layer.path = layer.path.c_str();
  a.layer.role = layer.role.c_str();
  a.layer.out = layer.out;
  a.layer.in = layer.in;
  a.layer.parts = a.part_pointers.data();
  a.layer.part_count = a.part_pointers.size();
  a.layer.tensors = a.tensor_pointers.data();
  a.layer.tensor_count = a.tensor_pointers.size();
}

LayerView::LayerView(const Plan& plan, const LayerPlan& layer)
    : LayerView(*plan.checkpoint, plan.graph, plan.layer_of(layer), layer.want, layer.load_dtype) {
  for (const Value& value : layer.values) set_value(value.tensor, value.bytes->data());
}

LayerView::~LayerView() = default;
LayerView::LayerView(LayerView&&) noexcept = default;
LayerView& LayerView::operator=(LayerView&&) noexcept = default;

const ls_layer& LayerView::get() const { return arrays_->layer; }

void LayerView::set_value(uint32_t tensor, const void* bytes) {
  arrays_->tensors[tensor].value = bytes;
}

}  // namespace loadstone::plan
