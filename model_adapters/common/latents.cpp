#include "common/latents.hpp"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_vector_norm.h>

namespace loadstone::networks {

at::Tensor pack_latents(const at::Tensor& latents) {
  const int64_t batch = latents.size(0), channels = latents.size(1);
  const int64_t rows = latents.size(2) / 2, columns = latents.size(3) / 2;
  return latents.reshape({batch, channels, rows, 2, columns, 2})
      .permute({0, 2, 4, 1, 3, 5})
      .reshape({batch, rows * columns, channels * 4});
}

at::Tensor unpack_latents(const at::Tensor& packed, int64_t height, int64_t width) {
  const int64_t batch = packed.size(0), channels = packed.size(2) / 4;
  return packed.reshape({batch, height / 2, width / 2, channels, 2, 2})
      .permute({0, 3, 1, 4, 2, 5})
      .reshape({batch, channels, height, width});
}

at::Tensor guide(const at::Tensor& conditional, const at::Tensor& unconditional, double scale) {
  const at::Tensor combined = unconditional.add(conditional.sub(unconditional).mul_(scale));
  const at::Tensor wanted = at::linalg_vector_norm(conditional, 2, {-1}, true);
  const at::Tensor found = at::linalg_vector_norm(combined, 2, {-1}, true);
  return combined.mul(wanted.div(found));
}

void euler_step(at::Tensor& latents, const at::Tensor& velocity, const at::Tensor& length) {
  latents.add_(velocity.mul(length));
}

at::Tensor denormalize(const at::Tensor& latents, const LatentStatistics& statistics) {
  const at::Tensor inverse = statistics.deviation.reciprocal().to(latents.scalar_type());
  return latents.div(inverse).add(statistics.mean.to(latents.scalar_type()));
}

at::Tensor normalize(const at::Tensor& latents, const LatentStatistics& statistics) {
  return latents.sub(statistics.mean.to(latents.scalar_type()))
      .div(statistics.deviation.to(latents.scalar_type()));
}

std::vector<compare::Frame> to_frames(const at::Tensor& pictures) {
  const at::Tensor bytes = pictures.to(at::kFloat)
                               .mul(0.5)
                               .add_(0.5)
                               .clamp_(0.0, 1.0)
                               .mul_(255.0)
                               .round_()
                               .to(at::kCPU, at::kByte)
                               .permute({0, 2, 3, 1})
                               .contiguous();
  std::vector<compare::Frame> frames;
  const auto height = static_cast<uint32_t>(bytes.size(1));
  const auto width = static_cast<uint32_t>(bytes.size(2));
  const size_t nbytes = size_t{height} * width * 3;
  const uint8_t* data = bytes.const_data_ptr<uint8_t>();
  for (int64_t b = 0; b < bytes.size(0); ++b) {
    const uint8_t* begin = data + static_cast<size_t>(b) * nbytes;
    frames.push_back({height, width, std::vector<uint8_t>(begin, begin + nbytes)});
  }
  return frames;
}

at::Tensor from_frame(const compare::Frame& frame) {
  const at::Tensor bytes =
      at::from_blob(const_cast<uint8_t*>(frame.rgb.data()),  // NOLINT: a view that is only read
                    {1, frame.height, frame.width, 3}, at::TensorOptions().dtype(at::kByte));
  return bytes.permute({0, 3, 1, 2}).to(at::kFloat).div(255.0).mul(2.0).sub(1.0);
}

}  // namespace loadstone::networks
