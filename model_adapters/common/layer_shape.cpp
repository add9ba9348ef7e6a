#include "common/layer_shape.hpp"

#include "base/text.hpp"

namespace loadstone::networks {

Status check_shape(const runtime::Linear& layer, int64_t in, int64_t out, const std::string& path) {
  if (layer.in() == in && layer.out() == out) return {};
  return Error{Code::invalid_checkpoint,
               "layer has another shape",
               escaped(path),
               "found " + std::to_string(layer.out()) + "x" + std::to_string(layer.in()) +
                   ", expected " + std::to_string(out) + "x" + std::to_string(in) +
                   " as config.json says",
               "",
               {}};
}

}  // namespace loadstone::networks
