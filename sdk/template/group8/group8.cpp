// group8: weight-only int8 with one float32 scale for each group of columns.
//
//   scale = max|w| / 127 over the group (1 for a group of zeros)
//   q     = clamp(round_half_even(w / scale), -127, 127)
//   ŵ     = q · scale
//
// Stored (and serialized): weight I8 [out, in], weight_scale F32 [out, ceil(in / group_size)].
#include <cmath>
#include <loadstone/plugin.hpp>

namespace {

namespace sdk = loadstone::sdk;

struct Group8 {
  static constexpr const char* kName = "group8";
  static constexpr const char* kSummary = "weight-only int8, one scale per group of columns";
  static constexpr ls_field kFields[] = {
      sdk::integer_field("group_size", "columns that share a scale", "32", 1, 1 << 20),
      sdk::ignored_layers_field(),
  };
  static constexpr ls_claim kClaims[] = {sdk::claim("quantization_config", "group8")};

  struct Config {
    uint64_t group_size = 32;
    uint64_t groups(uint64_t columns) const { return (columns + group_size - 1) / group_size; }
  };

  static Config configure(const sdk::Values& values) {
    return {static_cast<uint64_t>(values.integer("group_size"))};
  }

  static void plan(const Config& config, const sdk::Layer& layer, const sdk::Target&,
                   sdk::Plan& plan) {
    if (!layer.is_matrix() || layer.groups() > 1) return plan.unsupported("needs one matrix");
    uint64_t serialized = 0;
    for (uint64_t p = 0; p < layer.part_count(); ++p) {
      const sdk::Tensor weight = layer.get(p, "weight");
      if (weight.rank != 2 || weight.columns() != layer.in()) {
        return plan.unsupported(weight.label() + " is not a matrix of the layer's width");
      }
      if (weight.dtype == LS_DTYPE_I8) ++serialized;
      if (weight.dtype != LS_DTYPE_I8 && !weight.is_float()) {
        return plan.unsupported(weight.label() + " is neither I8 nor float");
      }
    }
    if (serialized != 0 && serialized != layer.part_count()) {
      return plan.split("some parts are serialized, some are not");
    }
    const uint64_t groups = config.groups(layer.in());
    const uint32_t codes = plan.stored("weight", LS_DTYPE_I8, {layer.out(), layer.in()});
    const uint32_t scales = plan.stored("weight_scale", LS_DTYPE_F32, {layer.out(), groups});
    for (uint64_t p = 0; p < layer.part_count(); ++p) {
      if (serialized == 0) {
        plan.streamed_part(layer, layer.get(p, "weight"));
      } else {
        plan.identity_part(layer, codes, layer.get(p, "weight"));
        plan.identity_part(layer, scales, scale_of(layer, p, groups));
      }
    }
    ls_work& work = plan.quantize("group8_blockwise");
    if (serialized == 0) {
      work.feed_scratch = layer.in() * sizeof(float);
      work.weight_error = 0.5 / 127 * (1 + 1e-5);  // half a step of the widest group
    }
  }

  /// Quantizes rows of a float weight.
  static void feed(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin,
                   const sdk::Piece& piece) {
    const auto codes = begin.stored().as<int8_t>(0);
    const auto scales = begin.stored().as<float>(1);
    const uint64_t in = layer.in(), groups = config.groups(in);
    const std::span<float> row(piece.scratch<float>(), in);
    for (uint64_t r = 0; r < piece.row_count(); ++r) {
      sdk::widen(piece.tensor().dtype, piece.row(r), in, row.data());
      sdk::require_finite(row, piece, r);
      const uint64_t out = piece.out_row() + r;
      for (uint64_t g = 0; g < groups; ++g) {
        const auto group = row.subspan(g * config.group_size,
                                       std::min(config.group_size, in - g * config.group_size));
        scales[out * groups + g] = quantize(group, &codes[out * in + g * config.group_size]);
      }
    }
  }

  static void dequantize(const Config& config, const sdk::Layer& layer, const sdk::Rows& rows) {
    const auto codes = rows.stored().as<const int8_t>(0);
    const auto scales = rows.stored().as<const float>(1);
    const uint64_t in = layer.in(), groups = config.groups(in);
    for (uint64_t r = 0; r < rows.count(); ++r) {
      const uint64_t row = rows.begin() + r;
      for (uint64_t c = 0; c < in; ++c) {
        rows.out(r)[c] =
            static_cast<float>(codes[row * in + c]) * scales[row * groups + c / config.group_size];
      }
    }
  }

 private:
  static sdk::Tensor scale_of(const sdk::Layer& layer, uint64_t part, uint64_t groups) {
    const sdk::Tensor scale = layer.get(part, "weight_scale");
    if (scale.dtype == LS_DTYPE_F32 && scale.rank == 2 && scale.columns() == groups) return scale;
    sdk::fail(LS_INVALID_CHECKPOINT, "scale does not fit: " + scale.label() +
                                         ": expected F32 [rows, " + std::to_string(groups) + "]");
  }

  static float quantize(std::span<const float> values, int8_t* codes) {
    float amax = 0;
    for (const float value : values) amax = std::max(amax, std::fabs(value));
    // A scale below the smallest normal float would divide badly: such a group is all zeros.
    const float scale = amax / 127.0f < 0x1p-126f ? 1.0f : amax / 127.0f;
    for (uint64_t i = 0; i < values.size(); ++i) {
      codes[i] =
          static_cast<int8_t>(std::clamp(std::nearbyint(values[i] / scale), -127.0f, 127.0f));
    }
    return scale;
  }
};

}  // namespace

LOADSTONE_PLUGIN("group8", "0.1.0", "Apache-2.0", Group8)
