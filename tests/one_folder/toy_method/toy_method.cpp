// A test's method: each weight becomes -1, 0 or 1 times its row's largest.
#include <cmath>
#include <loadstone/plugin.hpp>

namespace {

namespace sdk = loadstone::sdk;

struct ToyMethod {
  static constexpr const char* kName = "toy_method";
  static constexpr const char* kSummary = "a test's method: three values a weight";
  static constexpr ls_field kFields[] = {sdk::ignored_layers_field()};
  static constexpr ls_claim kClaims[] = {sdk::claim("quantization_config", "toy_method")};
  struct Config {};

  static void plan(const Config&, const sdk::Layer& layer, const sdk::Target&, sdk::Plan& plan) {
    if (layer.kind() != LS_KIND_LINEAR) return plan.unsupported("needs a linear layer");
    const uint32_t codes = plan.stored("weight", LS_DTYPE_I8, {layer.out(), layer.in()});
    const uint32_t scales = plan.stored("weight_scale", LS_DTYPE_F32, {layer.out(), 1});
    bool online = true;
    for (uint64_t p = 0; p < layer.part_count(); ++p) {
      const sdk::Tensor weight = layer.get(p, "weight");
      online = weight.is_float();
      if (online) {
        plan.streamed_part(layer, weight);
      } else {
        plan.identity_part(layer, codes, weight);
        plan.identity_part(layer, scales, layer.get(p, "weight_scale"));
      }
    }
    ls_work& work = plan.quantize("toy_blockwise");
    if (!online) return;
    work.feed_scratch = layer.in() * sizeof(float);
    work.weight_error = 0.5 * (1 + 1e-6);
  }

  static void feed(const Config&, const sdk::Layer& layer, const sdk::Begin& begin,
                   const sdk::Piece& piece) {
    const std::span<float> row(piece.scratch<float>(), layer.in());
    for (uint64_t r = 0; r < piece.row_count(); ++r) {
      sdk::widen(piece.tensor().dtype, piece.row(r), row.size(), row.data());
      sdk::require_finite(row, piece, r);
      float largest = 0;
      for (const float value : row) largest = std::max(largest, std::fabs(value));
      const uint64_t out = piece.out_row() + r;
      begin.stored().as<float>(1)[out] = largest;
      for (uint64_t c = 0; c < row.size(); ++c) {
        const float q = largest < 0x1p-126f ? 0.0f : std::nearbyint(row[c] / largest);
        begin.stored().as<int8_t>(0)[out * row.size() + c] = static_cast<int8_t>(q);
      }
    }
  }

  static void dequantize(const Config&, const sdk::Layer& layer, const sdk::Rows& rows) {
    const uint64_t in = layer.in();
    for (uint64_t r = 0; r < rows.count(); ++r) {
      const uint64_t row = rows.begin() + r;
      for (uint64_t c = 0; c < in; ++c) {
        rows.out(r)[c] = static_cast<float>(rows.stored().as<const int8_t>(0)[row * in + c]) *
                         rows.stored().as<const float>(1)[row];
      }
    }
  }
};

}  // namespace

LOADSTONE_PLUGIN("toy_method", "0.1.0", "Apache-2.0", ToyMethod)
