#include "runtime/trace.hpp"

#include <ATen/ops/empty.h>

#include <map>

#include "base/text.hpp"
#include "formats/checkpoint.hpp"
#include "formats/safetensors_writer.hpp"

namespace loadstone::runtime {
namespace {

DType stored_type(at::ScalarType type) {
  static const std::map<at::ScalarType, DType> known = {{at::kFloat, DType::F32},
                                                        {at::kDouble, DType::F64},
                                                        {at::kInt, DType::I32},
                                                        {at::kLong, DType::I64}};
  auto found = known.find(type);
  return found == known.end() ? DType::invalid : found->second;
}

std::optional<at::ScalarType> read_type(DType dtype) {
  if (dtype == DType::F32) return at::kFloat;
  if (dtype == DType::BF16) return at::kBFloat16;
  if (dtype == DType::F16) return at::kHalf;
  if (dtype == DType::F64) return at::kDouble;
  return std::nullopt;
}

}  // namespace

Status write_tensors(const std::string& path, const NamedTensors& tensors) {
  std::vector<formats::TensorSpec> specs(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, tensor] = tensors[i];
    specs[i].name = name;
    specs[i].dtype = stored_type(tensor.scalar_type());
    for (int64_t dim : tensor.sizes()) specs[i].shape.push_back(static_cast<uint64_t>(dim));
  }
  LS_TRY(auto writer, formats::SafetensorsWriter::create(path, specs));
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor dense = tensor.contiguous();
    LS_CHECK(writer.append({static_cast<const std::byte*>(dense.const_data_ptr()),
                            static_cast<size_t>(dense.nbytes())}));
  }
  return writer.finish();
}

Result<at::Tensor> read_tensor(FileSystem& files, const std::string& path,
                               const std::string& name) {
  LS_TRY(const auto checkpoint, formats::open_checkpoint(files, path));
  std::vector<std::string> names;
  for (const formats::Component& component : checkpoint.components) {
    for (const formats::TensorEntry& entry : component.tensors) {
      names.push_back(entry.name);
      if (entry.name != name) continue;
      const auto type = read_type(entry.dtype);
      if (!type) {
        return Error{Code::invalid_checkpoint,
                     "tensor is not a float",
                     escaped(path) + ": " + loadstone::quoted(name),
                     "found " + std::string(name_of(entry.dtype)) + ", expected F32",
                     "",
                     {}};
      }
      const std::vector<int64_t> shape(entry.shape.begin(), entry.shape.end());
      at::Tensor out = at::empty(shape, at::TensorOptions().dtype(*type));
      LS_CHECK(checkpoint.files[entry.file].file->read_exact(
          {static_cast<std::byte*>(out.mutable_data_ptr()), static_cast<size_t>(out.nbytes())},
          entry.offset));
      return out.to(at::kFloat);
    }
  }
  return Error{Code::not_found,
               "tensor is not in the file",
               escaped(path),
               "found " + join(names, " and ", 8) + ", expected " + loadstone::quoted(name),
               nearest(name, names),
               {}};
}

}  // namespace loadstone::runtime
