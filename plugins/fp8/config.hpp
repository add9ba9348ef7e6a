// The fields of `fp8`, checked.
#pragma once

#include <cstdint>
#include <loadstone/plugin.hpp>

namespace loadstone::fp8 {

enum class Granularity { tensor, channel, block };
enum class Activation { token, tensor, fixed };  // fixed: a stored input_scale

struct Config {
  Granularity weight = Granularity::channel;  // of weights quantized here
  uint64_t block_rows = 128, block_columns = 128;
  Activation activation = Activation::token;
  bool serialized = false;             // the checkpoint says that it holds fp8
  bool fixed_where_stored = false;     // layers with a stored input scale use it (ComfyUI)
  bool full_precision_matmul = false;  // the checkpoint asks for weights only (ComfyUI)
  std::vector<std::string> ignored_layers;
};

/// Errors: LS_INVALID_CONFIG for values that contradict each other.
Config configure(const sdk::Values& values);

}  // namespace loadstone::fp8
