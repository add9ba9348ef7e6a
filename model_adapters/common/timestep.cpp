#include "common/timestep.hpp"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/sin.h>

#include <cmath>

namespace loadstone::networks {

at::Tensor timestep_features(const at::Tensor& t, int64_t width) {
  const int64_t half = width / 2;
  const at::Tensor exponents =
      at::arange(0, half, at::TensorOptions().dtype(at::kFloat).device(t.device()))
          .mul(-std::log(10000.0))
          .div(static_cast<double>(half));
  const at::Tensor frequencies = at::exp(exponents).to(t.scalar_type());
  const at::Tensor angles =
      t.to(at::kFloat).unsqueeze(1).mul(frequencies.to(at::kFloat).unsqueeze(0)).mul(1000.0);
  return at::cat({at::cos(angles), at::sin(angles)}, 1).to(t.scalar_type());
}

}  // namespace loadstone::networks
