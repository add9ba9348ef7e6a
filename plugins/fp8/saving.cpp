#include "fp8/saving.hpp"

#include "common/layer/declared.hpp"

namespace loadstone::fp8 {
namespace {

ls_stored tensor(const char* name, uint32_t dtype, std::initializer_list<uint64_t> shape) {
  ls_stored out = sdk::make<ls_stored>();
  out.name = name;
  out.dtype = dtype;
  out.rank = static_cast<uint32_t>(shape.size());
  std::fill(out.shape, out.shape + LS_MAX_RANK, uint64_t{1});
  std::copy(shape.begin(), shape.end(), out.shape);
  return out;
}

SavedPart scale_of(const Form& form, size_t index) {
  const PartForm& part = form.parts[index];
  SavedPart out;
  out.stored = 1;
  if (form.granularity == Granularity::tensor) {
    out.shape = tensor("weight_scale", LS_DTYPE_F32, {1});
    out.offset = index * sizeof(float);
    out.nbytes = sizeof(float);
  } else if (form.granularity == Granularity::channel) {
    out.shape = tensor("weight_scale", LS_DTYPE_F32, {part.rows(), 1});
    out.offset = part.row_begin * sizeof(float);
    out.nbytes = part.rows() * sizeof(float);
  } else {
    if ((part.part.file_begin - part.grid_origin) % form.block_rows != 0) {
      sdk::fail(LS_UNSUPPORTED, "part can't be saved: " + std::string(part.part.path()) +
                                    ": found its first row inside a block of " +
                                    std::to_string(form.block_rows) + " rows");
    }
    out.shape = tensor("weight_scale_inv", LS_DTYPE_F32, {part.block_count, form.scale_columns});
    out.offset = part.block_begin * form.scale_columns * sizeof(float);
    out.nbytes = part.block_count * form.scale_columns * sizeof(float);
  }
  return out;
}

}  // namespace

std::vector<SavedPart> saved_parts(const Form& form) {
  std::vector<SavedPart> out;
  for (size_t i = 0; i < form.parts.size(); ++i) {
    const PartForm& part = form.parts[i];
    SavedPart weight;
    weight.shape = tensor("weight", form.code_dtype, {part.rows(), form.k});
    weight.offset = part.row_begin * form.k;
    weight.nbytes = part.rows() * form.k;
    SavedPart scale = scale_of(form, i);
    weight.part = scale.part = static_cast<uint32_t>(i);
    out.push_back(weight);
    out.push_back(scale);
    if (form.activation != Activation::fixed) continue;
    SavedPart input;
    input.shape = tensor("input_scale", LS_DTYPE_F32, {1});
    input.part = weight.part;
    input.stored = 2;
    input.offset = i * sizeof(float);
    input.nbytes = sizeof(float);
    out.push_back(input);
  }
  return out;
}

std::string declaration(const Config& config) {
  std::string out = R"({"quant_method":"fp8","fmt":"e4m3","is_checkpoint_fp8_serialized":true)";
  const bool fixed = config.activation == Activation::fixed;
  out += std::string(",\"activation_scheme\":\"") + (fixed ? "static" : "dynamic") + "\"";
  if (config.activation == Activation::tensor) out += R"(,"activation_granularity":"tensor")";
  if (config.weight == Granularity::block) {
    out += ",\"weight_block_size\":[" + std::to_string(config.block_rows) + "," +
           std::to_string(config.block_columns) + "]";
  }
  return out + ",\"ignored_layers\":" + common::json_list(config.ignored_layers) + "}";
}

}  // namespace loadstone::fp8
