#include "gguf/segments.hpp"

#include <algorithm>

namespace loadstone::gguf {
namespace {

/// The part's weight: "weight", or the module itself where the tensor is one.
sdk::Tensor weight_of(const sdk::Layer& layer, uint64_t part) {
  if (auto own = layer.find(part, "weight")) return *own;
  if (auto self = layer.find(part, "")) return *self;
  return layer.get(part, "weight");
}

void require_width(const sdk::Layer& layer, const Segment& segment, uint64_t in) {
  const uint64_t found = segment.weight.columns();
  const uint64_t wanted = in != 0 ? in : layer.in();
  if (wanted != 0 && found != wanted) {
    sdk::fail(LS_INVALID_CHECKPOINT, "gguf tensor rejected: " + segment.weight.label() +
                                         ": found " + std::to_string(found) +
                                         " elements a row, expected " + std::to_string(wanted));
  }
  if (found % segment.type->elems != 0) {
    sdk::fail(LS_INVALID_CHECKPOINT,
              "gguf tensor rejected: " + segment.weight.label() + ": found " +
                  std::to_string(found) + " elements a row, expected a multiple of " +
                  std::to_string(segment.type->elems) + " for " + segment.type->name);
  }
}

Segment segment_of(const sdk::Layer& layer, uint64_t index) {
  const sdk::Part part = layer.part(index);
  Segment out;
  out.weight = weight_of(layer, index);
  out.type = &decodable(out.weight);
  // Experts in one tensor: (groups, out, in) is a part of all rows.
  const bool stacked = out.weight.rank == 3;
  out.begin = stacked ? 0 : part.group * layer.out() + part.out_begin;
  out.count = stacked ? layer.groups() * layer.out() : part.out_count;
  out.file_row = stacked ? 0 : part.file_begin;
  if (out.weight.rank < 2 || out.weight.rank > 3 || out.file_row > out.weight.rows() ||
      out.count > out.weight.rows() - out.file_row) {
    sdk::fail(LS_INVALID_CHECKPOINT, "gguf tensor rejected: " + out.weight.label() + ": found " +
                                         std::to_string(out.weight.rows()) + " rows in " +
                                         std::to_string(out.weight.rank) +
                                         " axes, expected rows [" + std::to_string(out.file_row) +
                                         ", +" + std::to_string(out.count) + ") of a matrix");
  }
  return out;
}

}  // namespace

const ggml::TypeInfo* type_of(const sdk::Tensor& tensor) {
  switch (tensor.dtype) {
    case LS_DTYPE_F32:
      return ggml::find_type(ggml::kF32);
    case LS_DTYPE_F16:
      return ggml::find_type(ggml::kF16);
    case LS_DTYPE_BF16:
      return ggml::find_type(ggml::kBF16);
    default:
      return tensor.dtype >= LS_DTYPE_GGML ? ggml::find_type(tensor.dtype - uint32_t{LS_DTYPE_GGML})
                                           : nullptr;
  }
}

uint32_t dtype_of(const ggml::TypeInfo& type) {
  switch (type.type) {
    case ggml::kF32:
      return LS_DTYPE_F32;
    case ggml::kF16:
      return LS_DTYPE_F16;
    case ggml::kBF16:
      return LS_DTYPE_BF16;
    default:
      return uint32_t{LS_DTYPE_GGML} + uint32_t{type.type};
  }
}

const ggml::TypeInfo& decodable(const sdk::Tensor& tensor) {
  const ggml::TypeInfo* type = type_of(tensor);
  if (type != nullptr && type->decodes) return *type;
  const std::string found = type != nullptr ? type->name : "dtype " + std::to_string(tensor.dtype);
  sdk::fail(LS_UNSUPPORTED, "gguf type not supported: " + tensor.label() + ": found " + found +
                                ", expected a type with a published decoder (Q4_0 … Q8_0, K, IQ, "
                                "TQ, MXFP4, NVFP4) or F32, F16, BF16");
}

Matrix matrix_of(const sdk::Layer& layer) {
  Matrix out;
  for (uint64_t part = 0; part < layer.part_count(); ++part) {
    out.segments.push_back(segment_of(layer, part));
    require_width(layer, out.segments.back(), out.in);
    out.in = out.segments.back().weight.columns();
  }
  return out;
}

bool Matrix::uniform() const {
  return std::all_of(segments.begin(), segments.end(),
                     [&](const Segment& one) { return one.type == segments[0].type; });
}

bool Matrix::plain() const {
  return std::all_of(segments.begin(), segments.end(),
                     [](const Segment& one) { return one.type->elems == 1; });
}

std::string Matrix::type_names() const {
  std::vector<const char*> names;
  for (const Segment& one : segments) {
    if (std::find(names.begin(), names.end(), one.type->name) == names.end()) {
      names.push_back(one.type->name);
    }
  }
  std::string out;
  for (size_t i = 0; i < names.size(); ++i) {
    out += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + std::string(names[i]);
  }
  return out;
}

}  // namespace loadstone::gguf
