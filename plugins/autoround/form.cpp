#include "autoround/form.hpp"

namespace loadstone::autoround {
namespace {

std::string shape_text(const sdk::Tensor& tensor) {
  std::string out = "[";
  for (uint32_t axis = 0; axis < tensor.rank; ++axis) {
    out += (axis == 0 ? "" : ", ") + std::to_string(tensor.shape[axis]);
  }
  return out + "]";
}

[[noreturn]] void refuse(const sdk::Tensor& tensor, const std::string& found,
                         const std::string& expected) {
  sdk::fail(LS_INVALID_CHECKPOINT, "packed tensor rejected: " + tensor.label() + ": found " +
                                       found + ", expected " + expected);
}

sdk::Tensor matrix_of(const sdk::Layer& layer, uint64_t part, const char* name) {
  const sdk::Tensor tensor = layer.get(part, name);
  if (tensor.rank != 2) refuse(tensor, shape_text(tensor), "a matrix");
  return tensor;
}

void require_words(const sdk::Tensor& tensor) {
  if (tensor.dtype != LS_DTYPE_I32 && tensor.dtype != LS_DTYPE_U32) {
    refuse(tensor, "dtype " + std::to_string(tensor.dtype), "I32");
  }
}

void require_shape(const sdk::Tensor& tensor, uint64_t rows, uint64_t columns,
                   const std::string& why) {
  if (tensor.shape[0] == rows && tensor.shape[1] == columns) return;
  refuse(tensor, shape_text(tensor),
         "[" + std::to_string(rows) + ", " + std::to_string(columns) + "] " + why);
}

PackedPart part_of(const sdk::Layer& layer, uint64_t index, const Config& config) {
  PackedPart out;
  out.qweight = matrix_of(layer, index, "qweight");
  out.qzeros = matrix_of(layer, index, "qzeros");
  out.scales = matrix_of(layer, index, "scales");
  out.g_idx = layer.find(index, "g_idx");
  require_words(out.qweight);
  require_words(out.qzeros);
  if (!out.scales.is_float()) {
    refuse(out.scales, "dtype " + std::to_string(out.scales.dtype), "F16, BF16 or F32");
  }
  const sdk::Part part = layer.part(index);
  out.file_rows = out.qweight.shape[1] * (config.packing == int_packs::Packing::awq ? 8 : 1);
  if (out.scales.shape[1] != out.file_rows) {
    refuse(out.scales, shape_text(out.scales),
           std::to_string(out.file_rows) + " columns, the rows of " + out.qweight.label() + " as " +
               config.packing_format);
  }
  // A part without a range of its own has all of the module's rows.
  out.file_begin = part.file_begin;
  out.out_begin = part.out_begin;
  out.count = part.out_count;
  out.group = part.group;
  if (out.count == 0 || out.file_begin > out.file_rows ||
      out.count > out.file_rows - out.file_begin) {
    refuse(out.qweight, std::to_string(out.file_rows) + " rows",
           "rows [" + std::to_string(out.file_begin) + ", +" + std::to_string(out.count) +
               ") of the layer");
  }
  return out;
}

/// K of a part from its codes.
uint64_t width_of(const PackedPart& part, const Config& config, uint32_t bits) {
  if (config.packing == int_packs::Packing::awq) return part.qweight.shape[0];
  if (part.qweight.shape[0] * 32 % bits != 0) {
    refuse(part.qweight, shape_text(part.qweight),
           "whole columns of " + std::to_string(bits) + " bits");
  }
  return part.qweight.shape[0] * 32 / bits;
}

void check_part(const PackedPart& part, const int_packs::Matrix& matrix,
                const std::string& setting) {
  int_packs::Matrix own = matrix;
  own.n = part.file_rows;
  require_shape(part.qweight, weight_rows(own), weight_words(own, own.n), setting);
  require_shape(part.scales, own.groups, own.n, setting);
  require_shape(part.qzeros, own.groups, zero_words(own, own.n), setting);
  if (part.scales.dtype != own.scale_dtype) {
    refuse(part.scales, "dtype " + std::to_string(part.scales.dtype),
           "the other parts' dtype " + std::to_string(own.scale_dtype));
  }
  if (part.g_idx && (part.g_idx->dtype != LS_DTYPE_I32 || part.g_idx->rank != 1 ||
                     part.g_idx->shape[0] != own.k)) {
    refuse(*part.g_idx, shape_text(*part.g_idx), "I32 [" + std::to_string(own.k) + "]");
  }
}

}  // namespace

uint64_t weight_words(const int_packs::Matrix& matrix, uint64_t rows) {
  return matrix.packing == int_packs::Packing::awq ? rows / 8 : rows;
}
uint64_t zero_words(const int_packs::Matrix& matrix, uint64_t rows) {
  return rows * matrix.bits / 32;
}
uint64_t weight_rows(const int_packs::Matrix& matrix) {
  return matrix.packing == int_packs::Packing::awq ? matrix.k : matrix.k * matrix.bits / 32;
}
uint64_t scale_nbytes(const int_packs::Matrix& matrix) {
  return sdk::float_nbytes(matrix.scale_dtype);
}

Presence presence_of(const sdk::Layer& layer) {
  Presence out;
  for (uint64_t part = 0; part < layer.part_count(); ++part) {
    const bool packed =
        layer.find(part, "qweight") || layer.find(part, "qzeros") || layer.find(part, "scales");
    if (packed && layer.find(part, "weight")) {
      refuse(layer.get(part, "weight"), "it beside packed tensors", "one of them");
    }
    ++(packed ? out.packed : out.plain);
  }
  return out;
}

Form form_of(const sdk::Layer& layer, const Config& config, const Setting& setting) {
  Form out;
  for (uint64_t part = 0; part < layer.part_count(); ++part) {
    out.parts.push_back(part_of(layer, part, config));
  }
  int_packs::Matrix& matrix = out.matrix;
  matrix.packing = config.packing;
  matrix.zero_bias = config.zero_bias;
  matrix.bits = setting.bits;
  matrix.n = layer.out();
  matrix.k = width_of(out.parts[0], config, setting.bits);
  matrix.scale_dtype = out.parts[0].scales.dtype;
  matrix.group_size = setting.group_size < 0 ? matrix.k : static_cast<uint64_t>(setting.group_size);
  if (layer.in() != 0 && layer.in() != matrix.k) {
    refuse(
        out.parts[0].qweight, shape_text(out.parts[0].qweight),
        std::to_string(layer.in()) + " input columns of " + std::to_string(setting.bits) + " bits");
  }
  if (matrix.k == 0) refuse(out.parts[0].qweight, "no columns", "a matrix");
  matrix.groups = (matrix.k + matrix.group_size - 1) / matrix.group_size;
  return out;
}

void check_form(const Form& form, const Config& config, const Setting& setting) {
  const std::string why = "for " + std::to_string(setting.bits) + " bits, group_size " +
                          std::to_string(setting.group_size) + ", " + config.packing_format;
  for (const PackedPart& part : form.parts) check_part(part, form.matrix, why);
}

std::string unsupported_shape(const Form& form) {
  const auto no = [](const char* what, uint64_t found) {
    return "found " + std::string(what) + " = " + std::to_string(found) +
           ", expected a multiple of 32";
  };
  for (const PackedPart& part : form.parts) {
    if (part.file_rows % 32 != 0) return no("N", part.file_rows);
    if (part.file_begin % 32 != 0 || part.count % 32 != 0 || part.out_begin % 32 != 0) {
      return no("rows of a part", part.count);
    }
  }
  return form.matrix.k % 32 != 0 ? no("K", form.matrix.k) : "";
}

}  // namespace loadstone::autoround
