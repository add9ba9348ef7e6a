// hadamard4: weight-only int4 in a rotated basis. A Hadamard matrix spreads an outlier over its
// whole block, so that four bits reach further.
#include <bit>

#include "format.hpp"

namespace hadamard4 {
namespace {

struct Method {
  static constexpr const char* kName = "hadamard4";
  static constexpr const char* kSummary = "weight-only int4 in a Hadamard-rotated basis";
  static constexpr ls_field kFields[] = {
      sdk::integer_field("group_size", "columns that share a scale", "32", 1, 1 << 20),
      sdk::integer_field("rotation", "largest rotated block, a power of two", "128", 1, 4096),
      sdk::ignored_layers_field(),
  };
  static constexpr ls_claim kClaims[] = {sdk::claim("quantization_config", "hadamard4")};
  using Config = hadamard4::Config;

  static Config configure(const sdk::Values& values) {
    const auto rotation = static_cast<uint64_t>(values.integer("rotation"));
    if (!std::has_single_bit(rotation)) {
      sdk::fail(LS_INVALID_CONFIG, "field rejected: rotation: found " + std::to_string(rotation) +
                                       ", expected a power of two");
    }
    return {static_cast<uint64_t>(values.integer("group_size")), rotation};
  }

  static void plan(const Config& config, const sdk::Layer& layer, const sdk::Target&,
                   sdk::Plan& plan) {
    if (layer.kind() != LS_KIND_LINEAR) return plan.unsupported("rotates linear layers alone");
    // A file doesn't tell the width of a packed weight.
    const sdk::Tensor first = layer.get(0, "weight");
    const Form form(config, first.columns() * (first.is_float() ? 1 : 2));
    if (form.in % 2 != 0) {
      return plan.unsupported("found K = " + std::to_string(form.in) +
                              ", expected an even one (two codes a byte)");
    }
    const uint32_t codes = plan.stored("weight", LS_DTYPE_U8, {layer.out(), form.row_nbytes});
    const uint32_t scales = plan.stored("weight_scale", LS_DTYPE_BF16, {layer.out(), form.groups});
    uint64_t serialized = 0;
    for (uint64_t p = 0; p < layer.part_count(); ++p) {
      const sdk::Tensor weight = layer.get(p, "weight");
      if (weight.is_float()) {
        if (!fits(weight, form.in)) return plan.unsupported(weight.label() + " is no such matrix");
        plan.streamed_part(layer, weight);
        continue;
      }
      const sdk::Tensor scale = layer.get(p, "weight_scale");
      if (weight.dtype != LS_DTYPE_U8 || !fits(weight, form.row_nbytes) ||
          scale.dtype != LS_DTYPE_BF16 || !fits(scale, form.groups)) {
        sdk::fail(LS_INVALID_CHECKPOINT,
                  "weight does not fit: " + weight.label() + ": expected U8 [rows, " +
                      std::to_string(form.row_nbytes) + "], weight_scale as BF16 [rows, " +
                      std::to_string(form.groups) + "]");
      }
      ++serialized;
      plan.identity_part(layer, codes, weight);
      plan.identity_part(layer, scales, scale);
    }
    if (serialized != 0 && serialized != layer.part_count()) {
      return plan.split("some parts are serialized, some are not");
    }
    ls_work& work = plan.quantize("hadamard4_blockwise");
    work.in = form.in;
    if (serialized != 0) return;
    work.feed_scratch = form.in * sizeof(float);
    // Half a step of a rotated value is at most √n·max|w| / 14; rotated back, √n times that.
    work.weight_error = static_cast<double>(form.rotation) / 14 * (1 + 0x1p-8);
  }

  static void feed(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin,
                   const sdk::Piece& piece) {
    const Form form(config, layer.in());
    const std::span<float> row(piece.scratch<float>(), form.in);
    for (uint64_t r = 0; r < piece.row_count(); ++r) {
      sdk::widen(piece.tensor().dtype, piece.row(r), form.in, row.data());
      sdk::require_finite(row, piece, r);
      rotate(row, form.rotation);
      sdk::require_finite(row, piece, r);  // sums of huge values overflow
      const uint64_t out = piece.out_row() + r;
      form.quantize(row, &begin.stored().as<uint8_t>(0)[out * form.row_nbytes],
                    &begin.stored().as<uint16_t>(1)[out * form.groups]);
    }
  }

  /// Rows in the weight's own basis.
  static void dequantize(const Config& config, const sdk::Layer& layer, const sdk::Rows& rows) {
    const Form form(config, layer.in());
    for (uint64_t r = 0; r < rows.count(); ++r) {
      const uint64_t row = rows.begin() + r;
      form.unpack(&rows.stored().as<const uint8_t>(0)[row * form.row_nbytes],
                  &rows.stored().as<const uint16_t>(1)[row * form.groups], rows.out(r).data());
      rotate(rows.out(r), form.rotation);
    }
  }

  /// y = (x·R)·(W·R)ᵀ: layers that read the same x share one rotation of it.
  class Bound {
   public:
    Bound(const Config& config, const sdk::Binding& binding)
        : form_(config, binding.layer.in()),
          codes_(binding.stored.as<const uint8_t>(0).data()),
          scales_(binding.stored.as<const uint16_t>(1).data()),
          product_(LS_KIND_LINEAR, 1, binding.layer.out(), form_.in) {}

    void sizes(uint32_t, uint64_t m, ls_sizes& out) const {
      const uint64_t key[] = {form_.in, form_.rotation};  // all that prepare depends on
      out.workspace_nbytes = product_.workspace_nbytes(m);
      out.activation_nbytes = m * form_.in * sizeof(float);
      out.key_nbytes = sizeof out.key;
      std::memcpy(out.key, "hadamard", 8);
      std::memcpy(out.key + 8, key, sizeof key);
    }
    void prepare(const ls_apply& call) const {
      sdk::parallel_for(call.m, [&](uint64_t i) {
        const std::span<float> row(static_cast<float*>(call.activation) + i * form_.in, form_.in);
        const uint64_t offset = i * call.x_stride * sdk::float_nbytes(call.x_dtype);
        sdk::widen(call.x_dtype, static_cast<const char*>(call.x) + offset, form_.in, row.data());
        rotate(row, form_.rotation);
      });
    }
    void apply(ls_apply call) const {
      call.x = call.activation;
      call.x_dtype = LS_DTYPE_F32;
      call.x_stride = form_.in;
      product_.run(call, [this](uint32_t, uint64_t begin, uint64_t count, float* out) {
        for (uint64_t row = begin; row < begin + count; ++row, out += form_.in) {
          form_.unpack(codes_ + row * form_.row_nbytes, scales_ + row * form_.groups, out);
        }
      });
    }

   private:
    Form form_;
    const uint8_t* codes_;
    const uint16_t* scales_;
    sdk::BlockwiseApply product_;
  };

 private:
  static bool fits(const sdk::Tensor& tensor, uint64_t columns) {
    return tensor.rank == 2 && tensor.columns() == columns;
  }
};

}  // namespace
}  // namespace hadamard4

LOADSTONE_PLUGIN("hadamard4", "1.0.0", "Apache-2.0", hadamard4::Method)
