#include <cmath>
#include <loadstone/plugin/floats.hpp>
#include <thread>

#include "conformance/points.hpp"

namespace loadstone::conformance {

namespace {

const char* const kNoApply = "applies none of the kit's float layers";

/// x as its dtype holds it.
std::vector<float> rounded(std::vector<float> values, uint32_t dtype) {
  std::vector<std::byte> bytes(values.size() * sdk::float_nbytes(dtype));
  sdk::narrow(dtype, values.data(), values.size(), bytes.data());
  sdk::widen(dtype, bytes.data(), values.size(), values.data());
  return values;
}

struct Shape {
  uint64_t m;
  uint32_t x_dtype, y_dtype;
  uint64_t x_pad, y_pad;
  bool bias;
};

Call make_call(const LayerCase& layer, const Shape& shape, Random& random) {
  Call call;
  call.m = shape.m;
  call.x_dtype = shape.x_dtype;
  call.y_dtype = shape.y_dtype;
  call.x_pad = shape.x_pad;
  call.y_pad = shape.y_pad;
  if (layer.kind == LS_KIND_GATHER) {
    call.x_dtype = LS_DTYPE_I64;
    for (uint64_t i = 0; i < call.m; ++i) {
      call.x.push_back(static_cast<float>(i == 0 ? layer.out - 1 : random.below(layer.out)));
    }
    return call;
  }
  call.x.resize(call.m * layer.in);
  for (uint64_t i = 0; i < call.m; ++i) {
    // The last of several rows is zeros: a scale that divides by them shows.
    const bool zeros = call.m > 2 && i + 1 == call.m;
    for (uint64_t k = 0; k < layer.in; ++k) {
      call.x[i * layer.in + k] = zeros ? 0.0f : random.normal();
    }
  }
  call.x = rounded(std::move(call.x), call.x_dtype);
  call.bias = shape.bias;
  call.bias_values.resize(layer.out);
  for (float& value : call.bias_values) value = random.normal();
  if (layer.kind == LS_KIND_GROUPED) {
    for (uint32_t g = 0; g < layer.groups; ++g) {  // an empty group among them
      call.group_end.push_back(g == 0 ? call.m / 2 : g + 1 == layer.groups ? call.m : call.m / 2);
    }
  }
  return call;
}

/// y against x·Ŵᵀ + b in double.
class Judge {
 public:
  Judge(const Sample& sample, const std::vector<float>& weight, const Call& call)
      : sample_(sample), layer_(sample.layer), weight_(weight), call_(call) {
    for (const float value : call.x) max_x_ = std::max(max_x_, std::fabs(double{value}));
    rounding_ = call.y_dtype == LS_DTYPE_BF16  ? 0x1p-8
                : call.y_dtype == LS_DTYPE_F16 ? 0x1p-11
                                               : 0x1p-24;
    smallest_ = call.y_dtype == LS_DTYPE_F16 ? 0x1p-25 : 0x1p-126;  // half a subnormal step
  }

  /// `shows` becomes true where y differs from a product with unrounded activations.
  Status run(const std::vector<float>& y, bool& shows) const {
    for (uint64_t i = 0; i < call_.m; ++i) {
      const float* line = y.data() + i * width();
      LS_CHECK(layer_.kind == LS_KIND_GATHER ? gathered(i, line) : multiplied(i, line, shows));
    }
    return {};
  }

 private:
  uint64_t width() const { return layer_.kind == LS_KIND_GATHER ? layer_.in : layer_.out; }

  Status gathered(uint64_t i, const float* y) const {
    const auto row = static_cast<uint64_t>(call_.x[i]);
    const std::vector<float> line(weight_.begin() + static_cast<ptrdiff_t>(row * layer_.in),
                                  weight_.begin() + static_cast<ptrdiff_t>((row + 1) * layer_.in));
    const std::vector<float> expected = rounded(line, call_.y_dtype);
    for (uint64_t k = 0; k < layer_.in; ++k) {
      if (y[k] != expected[k]) {
        return sample_.failed("found row " + std::to_string(row) +
                              " of the table other than its dequantized values");
      }
    }
    return {};
  }

  uint32_t group_of(uint64_t row) const {
    uint32_t group = 0;
    while (group < call_.group_end.size() && row >= call_.group_end[group]) ++group;
    return group;
  }

  Status multiplied(uint64_t i, const float* y, bool& shows) const {
    const uint64_t in = layer_.in, out = layer_.out;
    const float* w = weight_.data() + uint64_t{group_of(i)} * out * in;
    const float* x = call_.x.data() + i * in;
    const double rounding = sample_.answer.work.activation_error * max_x_;
    std::vector<double> product(out), slack(out);
    double largest = 0;
    for (uint64_t j = 0; j < out; ++j) {
      double sum = 0, magnitude = 0, of_w = 0;
      for (uint64_t k = 0; k < in; ++k) {
        const double term = double{x[k]} * double{w[j * in + k]};
        sum += term;
        magnitude += std::fabs(term);
        of_w += std::fabs(double{w[j * in + k]});
      }
      product[j] = sum + (call_.bias ? double{call_.bias_values[j]} : 0.0);
      slack[j] = rounding * of_w;
      largest = std::max(largest, magnitude + slack[j]);
    }
    // numeric definitions, 12: any order of summing in float32.
    const double summing = (static_cast<double>(in) + 8) * 0x1p-24 * largest;
    for (uint64_t j = 0; j < out; ++j) {
      const double bias = call_.bias ? std::fabs(double{call_.bias_values[j]}) * 0x1p-23 : 0.0;
      const double alone = summing + bias + rounding_ * std::fabs(double{y[j]}) + smallest_;
      const double off = std::fabs(double{y[j]} - product[j]);
      if (off > alone) shows = true;
      if (!std::isfinite(y[j]) || off > alone + slack[j]) {
        return sample_.failed("found y[" + std::to_string(i) + "][" + std::to_string(j) +
                              "] off by " + text_of(off) + ", expected at most " +
                              text_of(alone + slack[j]));
      }
    }
    return {};
  }

  const Sample& sample_;
  const LayerCase& layer_;
  const std::vector<float>& weight_;
  const Call& call_;
  double max_x_ = 0, rounding_ = 0, smallest_ = 0;
};

bool applies(const Context& context) {
  return context.method().table().bind != nullptr && context.method().table().dequantize != nullptr;
}

}  // namespace

Result<std::string> point_apply(Context& context) {
  if (!applies(context)) return std::string("no bind or no dequantize");
  static const Shape kShapes[] = {
      {1, LS_DTYPE_F32, LS_DTYPE_F32, 0, 0, false},
      {5, LS_DTYPE_BF16, LS_DTYPE_BF16, 3, 7, true},
      {17, LS_DTYPE_F32, LS_DTYPE_F32, 1, 0, true},
      {300, LS_DTYPE_F16, LS_DTYPE_F16, 0, 1, false},
  };
  Status ran = for_each_sample(context, ordinary_recipes(), [&](const Sample& sample) -> Status {
    LS_TRY(const Produced made, produce(sample.config, sample.view, sample.answer));
    LS_TRY(const std::vector<float> weight,
           dequantize_all(sample.config, sample.view, sample.answer, made));
    LS_TRY(const Bound bound, Bound::bind(sample.config, sample.view, sample.answer, made));
    bool shows = false;
    const bool bounded = std::isfinite(sample.answer.work.activation_error);
    for (const Shape& shape : kShapes) {
      const Call call = make_call(sample.layer, shape, context.random());
      LS_TRY(const std::vector<float> y, bound.apply(call));
      if (bounded) LS_CHECK(Judge(sample, weight, call).run(y, shows));
    }
    const bool ordinary = sample.layer.kind == LS_KIND_LINEAR && sample.layer.in >= 64 &&
                          sample.layer.max_abs() > 1e-3f;
    if (bounded && sample.answer.work.activation_error > 0 && ordinary && !shows) {
      return sample.failed(
          "found the product of unrounded activations, expected them quantized "
          "(activation_error says so)");
    }
    return {};
  });
  if (!ran.ok()) return std::move(ran).error();
  return std::string(context.cases == 0 ? kNoApply : "");
}

Result<std::string> point_apply_together(Context& context) {
  if (!applies(context)) return std::string("no bind or no dequantize");
  Status ran = for_each_sample(context, ordinary_recipes(), [&](const Sample& sample) -> Status {
    LS_TRY(const Produced made, produce(sample.config, sample.view, sample.answer));
    LS_TRY(const Bound bound, Bound::bind(sample.config, sample.view, sample.answer, made));
    const Call call =
        make_call(sample.layer, {9, LS_DTYPE_F32, LS_DTYPE_F32, 0, 0, true}, context.random());
    LS_TRY(const std::vector<float> first, bound.apply(call));
    auto second = Result<std::vector<float>>(std::vector<float>());
    std::thread other([&] { second = bound.apply(call); });
    auto third = bound.apply(call);
    other.join();
    LS_CHECK(second);
    LS_CHECK(third);
    const size_t nbytes = first.size() * sizeof(float);
    if (std::memcmp(first.data(), second->data(), nbytes) != 0 ||
        std::memcmp(first.data(), third->data(), nbytes) != 0) {
      return sample.failed("found other values for the same x");
    }
    return {};
  });
  if (!ran.ok()) return std::move(ran).error();
  return std::string(context.cases == 0 ? kNoApply : "");
}

}  // namespace loadstone::conformance
