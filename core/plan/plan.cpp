#include "plan/plan.hpp"

#include <charconv>
#include <optional>

#include "base/checked.hpp"
#include "base/text.hpp"

namespace loadstone::plan {

std::string_view to_string(Decision decision) {
  switch (decision) {
    case Decision::keep:
      return "keep";
    case Decision::quantize:
      return "quantize";
    case Decision::decode:
      return "decode";
    case Decision::split:
      return "split";
  }
  return "keep";
}

namespace {

std::optional<uint32_t> number(std::string_view digits) {
  uint32_t value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

}  // namespace

Result<Target> parse_target(const std::string& text) {
  if (text == "cpu") return Target{};
  constexpr std::string_view kCuda = "cuda:";
  if (text == "cuda" || text.starts_with(kCuda)) {
    std::string_view rest = text == "cuda" ? "0" : std::string_view(text).substr(kCuda.size());
    Target target{LS_TARGET_CUDA, 0, text};
    bool names_sm = rest.starts_with("sm");
    if (auto value = number(names_sm ? rest.substr(2) : rest)) {
      if (names_sm) target.sm = *value;
      if (!names_sm) target.index = static_cast<int32_t>(*value);
      if (!names_sm || *value >= 50) return target;
    }
  }
  return Error{Code::invalid_argument, "unknown target", "",
               "found " + quoted(text) + ", expected cpu, cuda:N or cuda:smNN", ""};
}

ls_target to_abi(const Target& target) {
  ls_target out{};
  out.struct_size = sizeof(out);
  out.kind = target.kind;
  out.sm = target.sm;
  out.name = target.name.c_str();
  return out;
}

int64_t LayerPlan::find_stored(std::string_view name) const {
  for (size_t i = 0; i < stored.size(); ++i) {
    if (stored[i].name == name) return static_cast<int64_t>(i);
  }
  return -1;
}

const formats::TensorEntry& Plan::entry_of(const LayerPlan& plan, uint32_t tensor) const {
  const graph::Layer& layer = layer_of(plan);
  const auto& component = graph.components[layer.component];
  return checkpoint->components[component.checkpoint_component]
      .tensors[layer.tensors[tensor].tensor];
}

uint64_t row_count(const formats::TensorEntry& tensor) {
  uint64_t rows = 1;  // can't overflow: the reader has checked the product of all dims
  for (size_t i = 0; i + 1 < tensor.shape.size(); ++i) rows *= tensor.shape[i];
  return rows;
}

uint64_t row_nbytes(const formats::TensorEntry& tensor) {
  uint64_t rows = row_count(tensor);
  return rows == 0 ? 0 : tensor.nbytes / rows;
}

std::optional<uint64_t> tensor_nbytes(DType dtype, const formats::Shape& shape) {
  auto layout = layout_of(dtype);
  if (!layout) return std::nullopt;
  auto elems = checked_numel({shape.data(), shape.size()});
  if (!elems) return std::nullopt;
  uint64_t last = shape.empty() ? 1 : shape.back();
  if (last % layout->block_elems != 0) return std::nullopt;
  return checked_mul(*elems / layout->block_elems, layout->block_nbytes);
}

}  // namespace loadstone::plan
