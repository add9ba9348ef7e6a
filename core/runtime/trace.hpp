// Named tensors of a run as a safetensors file.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "base/file.hpp"
#include "base/result.hpp"

namespace loadstone::runtime {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// Float32, float64, int32 and int64 tensors, made dense. Errors: invalid_argument, io.
Status write_tensors(const std::string& path, const NamedTensors& tensors);

/// One tensor of a safetensors file as float32. Errors: not_found (names what the file holds),
/// invalid_checkpoint, io.
Result<at::Tensor> read_tensor(FileSystem& files, const std::string& path, const std::string& name);

}  // namespace loadstone::runtime
