// Rates of quantized layers at the shapes of Qwen-Image and Wan, beside the bare products of
// cublasLt, on random data. One table; ratios within one run are what counts.
//   kernels_bench [M] [words | layers | few]  default 4096; words: 4-bit words alone; layers: no
//   words; few: a few rows alone
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "common/codecs/half.hpp"
#include "common/cuda/code_tiles.hpp"
#include "common/cuda/decode.hpp"
#include "common/cuda/levels.hpp"
#include "common/cuda/lt.hpp"
#include "common/cuda/mx.hpp"
#include "common/cuda/packs_layer.hpp"
#include "common/cuda/quantize.hpp"
#include "kernels/device.hpp"
#include "kernels/few_rows_bench.hpp"
#include "kernels/timing.hpp"

namespace loadstone::gpu_kernels {
namespace {

namespace cuda = common::cuda;
using common::testing::Json;
using common::testing::Random;

/// Random values of about a normal's spread, as bf16.
std::vector<uint16_t> random_bf16(uint64_t count, uint32_t seed, float scale) {
  Random random(seed);
  std::vector<uint16_t> out(count);
  for (uint16_t& one : out) {
    const float value = random.uniform() + random.uniform() + random.uniform();
    one = common::bf16_encode(value * scale);
  }
  return out;
}

struct Shape {
  uint64_t m, n, k;
  double operations() const { return 2.0 * static_cast<double>(m) * static_cast<double>(n * k); }
};

/// What a layer is timed in turn with: cublasLt's product of operands as they are.
enum class Against { bf16, fp8 };

/// What all layers of one shape share: x, bias, y, and the bare products to compare with.
class Bench {
 public:
  explicit Bench(Shape shape)
      : s_(shape),
        host_w_(random_bf16(shape.n * shape.k, 1, 0.02f)),
        x_(random_bf16(shape.m * shape.k, 2, 1.0f)),
        w_(host_w_),
        bias_(random_bf16(shape.n, 3, 1.0f)),
        y_(shape.m * shape.n * 4),
        lt_(cuda::LtProduct::kWorkspace),
        x_codes_(shape.m * shape.k),
        w_codes_(shape.n * shape.k),
        x_scales_(shape.m * (shape.k / 128 + 1) * sizeof(float)),
        w_scales_((shape.n + shape.k) * (shape.k / 128 + 1) * sizeof(float)) {
    layer_.out = shape.n;
    layer_.in = shape.k;
    layer_.part("linear", 0, shape.n);
    layer_.tensor("weight", LS_DTYPE_BF16, {shape.n, shape.k}, host_w_);
    quantize(cuda::RowRule::fp8_row);
  }

  void run(bool words, bool others) {
    std::printf("\nM %lu, N %lu, K %lu\n", s_.m, s_.n, s_.k);
    bf16_ = bare(LS_DTYPE_BF16, LS_DTYPE_BF16, cuda::Scaling::none, false);
    line("bare bf16", bf16_);
    if (others) layers();
    if (!words) return;
    packs();
    levels();
  }

 private:
  void layers() {
    line("bare bf16 + bias", bare(LS_DTYPE_BF16, LS_DTYPE_BF16, cuda::Scaling::none, true));
    line("bare fp8, scales a row",
         bare(LS_DTYPE_F8_E4M3, LS_DTYPE_BF16, cuda::Scaling::rows, false));
    line("bare fp8, scales a row + bias",
         bare(LS_DTYPE_F8_E4M3, LS_DTYPE_BF16, cuda::Scaling::rows, true));
    line("bare fp8, scales a row, f32 out",
         bare(LS_DTYPE_F8_E4M3, LS_DTYPE_F32, cuda::Scaling::rows, false));
    line("bare fp8, no scales, f32 out",
         bare(LS_DTYPE_F8_E4M3, LS_DTYPE_F32, cuda::Scaling::none, false));
    line("bare fp8, blocks of 128",
         bare(LS_DTYPE_F8_E4M3, LS_DTYPE_BF16, cuda::Scaling::blocks, false));
    line("bare fp8, blocks of 128 + bias",
         bare(LS_DTYPE_F8_E4M3, LS_DTYPE_BF16, cuda::Scaling::blocks, true));
    quantize(cuda::RowRule::int8_row);
    line("bare int8, int32 out", bare(LS_DTYPE_I8, LS_DTYPE_I32, cuda::Scaling::none, false));
    line("int8 tiles, scales a row + bias", code_tiles(LS_DTYPE_I8));
    quantize(cuda::RowRule::fp8_row);
    line("fp8 tiles, scales a row + bias", code_tiles(LS_DTYPE_F8_E4M3));
    rates();
    const uint32_t sm = this_sm();
    layer("fp8", Json::object(), sm, Against::fp8);
    layer("fp8", {{"weight_granularity", "tensor"}}, sm, Against::fp8);
    layer("fp8", {{"weight_granularity", "tensor"}, {"activation_granularity", "tensor"}}, sm,
          Against::fp8);
    layer("fp8", {{"weight_block_size", {128, 128}}}, sm, Against::fp8);
    layer("fp8", Json::object(), 80, Against::bf16);
    layer("int8", Json::object(), sm, Against::bf16);
    layer("mxfp8", Json::object(), sm, Against::bf16);
    layer("mxfp4", Json::object(), sm, Against::bf16);
    layer("mxfp4", {{"num_bf16_fallback_layers", 0}}, sm, Against::bf16, "mxfp4_dualscale");
  }

  void quantize(cuda::RowRule rule) {
    check(
        cuda::quantize_rows(rule, {LS_DTYPE_BF16, x_.at(), s_.m, s_.k, s_.k, x_codes_.at<uint8_t>(),
                                   x_scales_.at<float>(), nullptr, nullptr}));
    check(
        cuda::quantize_rows(rule, {LS_DTYPE_BF16, w_.at(), s_.n, s_.k, s_.k, w_codes_.at<uint8_t>(),
                                   w_scales_.at<float>(), nullptr, nullptr}));
    check(cudaDeviceSynchronize());
  }

  /// A product of cublasLt, or nothing where it has none.
  std::function<void()> product(uint32_t dtype, uint32_t y_dtype, cuda::Scaling scaling,
                                bool bias) const {
    cuda::LtShape shape;
    shape.x_dtype = shape.w_dtype = dtype;
    shape.y_dtype = y_dtype;
    shape.scaling = scaling;
    shape.bias = bias;
    shape.m = s_.m;
    shape.n = s_.n;
    shape.k = shape.x_ld = shape.w_ld = s_.k;
    shape.y_ld = s_.n;
    const cuda::LtProduct& lt = cuda::LtProduct::current();
    if (!lt.can(shape)) return nullptr;
    const bool codes = dtype != LS_DTYPE_BF16;
    const cuda::LtCall call{codes ? x_codes_.at() : x_.at(),
                            codes ? w_codes_.at() : w_.at(),
                            x_scales_.at<float>(),
                            w_scales_.at<float>(),
                            bias ? bias_.at() : nullptr,
                            y_.at(),
                            lt_.at(),
                            nullptr};
    return [shape, call, &lt] { lt.run(shape, call); };
  }

  /// Its microseconds, or 0.
  double bare(uint32_t dtype, uint32_t y_dtype, cuda::Scaling scaling, bool bias) const {
    const std::function<void()> call = product(dtype, y_dtype, scaling, bias);
    return call ? time_of(call) : 0;
  }

  double code_tiles(uint32_t dtype) {
    cuda::CodeTiles call{};
    call.dtype = dtype;
    call.x = x_codes_.at();
    call.w = w_codes_.at();
    call.x_scale = x_scales_.at<float>();
    call.w_scale = w_scales_.at<float>();
    call.bias = bias_.at();
    call.bias_dtype = call.y_dtype = LS_DTYPE_BF16;
    call.m = s_.m;
    call.n = call.y_stride = s_.n;
    call.k = s_.k;
    call.y = y_.at();
    if (!cuda::code_tiles_fit(call)) return 0;
    return time_of([&] { check(cuda::code_tiles(call)); });
  }

  cuda::CodedMatrix fp8_weight() const {
    cuda::CodedMatrix out;
    out.codes = w_codes_.at<uint8_t>();
    out.scales = w_scales_.at();
    out.n = s_.n;
    out.k = out.scale_width = s_.k;
    out.map = cuda::ScaleMap::rows(s_.n);
    return out;
  }

  /// All of x with a bias, in bf16.
  ls_apply call_of() const {
    ls_apply call = sdk::make<ls_apply>();
    call.m = s_.m;
    call.x = x_.at();
    call.y = y_.at();
    call.bias = bias_.at();
    call.x_dtype = call.y_dtype = call.bias_dtype = LS_DTYPE_BF16;
    call.x_stride = s_.k;
    call.y_stride = s_.n;
    return call;
  }

  void line(const char* what, double us) const {
    if (us == 0) {
      std::printf("  %-44s none\n", what);
    } else {
      std::printf("  %-44s %8.1f us %7.0f T/s  %.2f of bare bf16's time\n", what, us,
                  s_.operations() / us * 1e-6, us / bf16_);
    }
    std::fflush(stdout);
  }

  void rates() {
    const auto rate = [&](const char* what, double nbytes, const std::function<void()>& call) {
      const double us = time_of(call);
      std::printf("  %-44s %8.1f us %7.0f GB/s\n", what, us, nbytes / us * 1e-3);
    };
    const double x = static_cast<double>(s_.m * s_.k), w = static_cast<double>(s_.n * s_.k);
    const cuda::RowsCall rows{
        LS_DTYPE_BF16,         x_.at(), s_.m,   s_.k, s_.k, x_codes_.at<uint8_t>(),
        x_scales_.at<float>(), nullptr, nullptr};
    rate("quantize fp8, a row", 3 * x,
         [&] { check(cuda::quantize_rows(cuda::RowRule::fp8_row, rows)); });
    rate("quantize int8, a row", 3 * x,
         [&] { check(cuda::quantize_rows(cuda::RowRule::int8_row, rows)); });
    rate("quantize fp8, groups of 128", 3 * x, [&] { check(cuda::quantize_groups(rows, 128)); });
    rate("largest magnitude", 2 * x, [&] { check(cuda::tensor_amax(rows, lt_.at<float>())); });
    const Memory values(s_.m * s_.k * 2);
    rate("round mxfp8 to bf16", 4 * x, [&] {
      check(cuda::mx_round_rows({common::MxRule::ocp, common::MxElement::e4m3, LS_DTYPE_BF16,
                                 x_.at(), nullptr, s_.m, s_.k, s_.k, values.at(), nullptr}));
    });
    const cuda::CodedMatrix matrix = fp8_weight();
    rate("decode fp8 to bf16 (of output bytes)", 2 * w,
         [&] { check(cuda::decode_rows(matrix, 0, s_.n, w_.at(), LS_DTYPE_BF16, nullptr)); });
  }

  /// A plugin's layer with stored tensors of the right shapes. e4m3 codes are those of the bare
  /// product, for what bits flip decides the clock; others are random codes that are numbers, and
  /// scales are near 1/64.
  void layer(const char* plugin, const Json& fields, uint32_t sm, Against against,
             const char* method = nullptr) {
    Driver driver(plugin, method != nullptr ? method : plugin);
    driver.configure(fields);
    const Answer answer = driver.plan(layer_, cuda_target(sm));
    std::vector<Memory> stored;
    for (size_t i = 0; i < answer.stored.size(); ++i) {
      const bool e4m3 = answer.stored[i].dtype == LS_DTYPE_F8_E4M3;
      stored.push_back(e4m3 ? Memory(w_codes_.back<uint8_t>()) : random_tensor(answer, i));
    }
    DeviceLayer device(driver, layer_, std::move(stored), answer.work.note, sm);
    ls_apply call = call_of();
    device.size(call);
    const bool fp8 = against == Against::fp8;
    const auto bare = fp8 ? product(LS_DTYPE_F8_E4M3, LS_DTYPE_BF16, cuda::Scaling::rows, false)
                          : product(LS_DTYPE_BF16, LS_DTYPE_BF16, cuda::Scaling::none, false);
    const std::vector<double> us =
        times_of({bare, [&] { device.prepare(call); }, [&] { device.apply(call); },
                  [&] {
                    device.prepare(call);
                    device.apply(call);
                  }});
    std::printf(
        "  layer %-38s %8.1f us (prepare %.1f, apply %.1f), bare %s %.1f: / layer %.2f, layer / "
        "%.2f\n",
        answer.kernel.c_str(), us[3], us[1], us[2], fp8 ? "fp8" : "bf16", us[0], us[0] / us[3],
        us[3] / us[0]);
    std::fflush(stdout);
  }

  /// Other layouts of 4 bits, by the rate of what they write.
  void levels() {
    cuda::Levels w;
    w.n = s_.n;
    w.k = s_.k;
    w.at = w_codes_.at<uint8_t>();
    w.row_nbytes = s_.k / 2;
    w.count = 1;
    w.parts[0].end = static_cast<uint32_t>(s_.n);
    w.parts[0].scales = w_scales_.at();
    const auto rate = [&](const char* what) {
      const double us =
          time_of([&] { check(cuda::decode_values(w, 0, s_.n, w_.at(), LS_DTYPE_BF16, nullptr)); });
      std::printf("  %-44s %8.1f us %7.0f GB/s\n", what, us,
                  static_cast<double>(s_.n * s_.k * 2) / us * 1e-3);
    };
    w.codes = cuda::LevelCodes::words;
    w.bits = 4;
    w.scale_dtype = LS_DTYPE_BF16;
    w.scale_width = 128;
    w.scale_columns = s_.k / w.scale_width;
    rate("decode packed int4 to bf16 (of output bytes)");
    const Memory e4m3_scales(std::vector<uint8_t>(s_.n * s_.k / 16, 0x38));
    w.codes = cuda::LevelCodes::e2m1;
    w.parts[0].scales = e4m3_scales.at();
    w.scale_width = 16;
    w.scale_columns = s_.k / w.scale_width;
    rate("decode NVFP4 to bf16 (of output bytes)");
  }

  /// 4 bits in groups of 128, all rows, against the bf16 product; and the rate of a copy of the
  /// words from copies that the second-level cache can't hold together.
  void packs() {
    int_packs::Matrix w;
    w.n = s_.n;
    w.k = s_.k;
    w.group_size = 128;
    w.groups = w.k / w.group_size;
    const uint64_t words = w.n * w.k / 8, zeros = w.groups * w.n / 8, scales = w.groups * w.n;
    const uint64_t nbytes = (words + zeros) * 4 + scales * 2;
    const uint64_t copies = (uint64_t{160} << 20) / nbytes + 1;
    Random random(5);
    std::vector<uint32_t> host(words);
    for (uint32_t& one : host) one = random.bits() << 16 ^ random.bits() >> 3;
    std::vector<Memory> weights;
    for (uint64_t i = 0; i < copies; ++i) weights.emplace_back(host);
    const Memory all_zeros(std::vector<uint32_t>(zeros, 0x88888888u));
    const Memory all_scales(std::vector<uint16_t>(scales, 0x2400));
    w.qzeros = all_zeros.at<uint32_t>();
    w.scales = all_scales.at();
    const Memory workspace(cuda::PacksLayer(w).workspace_nbytes(s_.m));
    const Memory copy(words * 4);
    uint64_t turn = 0;
    const double copied = graph_time_of(100, [&](cudaStream_t stream) {
      check(cudaMemcpyAsync(copy.at(), weights[turn++ % copies].at(), words * 4,
                            cudaMemcpyDeviceToDevice, stream));
    });
    std::printf("  %-44s %8.1f us %7.0f GB/s read and written\n", "copy of the words", copied,
                static_cast<double>(words * 8) / copied * 1e-3);
    w.qweight = weights[0].at<uint32_t>();
    ls_apply all = call_of();
    all.workspace = workspace.at();
    line("4-bit words, decoded, + bias", time_of([&] { cuda::PacksLayer(w).run(all); }));
    const double us =
        time_of([&] { check(cuda::decode_packs(w, 0, w.n, w_.at(), LS_DTYPE_BF16, nullptr)); });
    std::printf("  %-44s %8.1f us %7.0f GB/s\n", "decode 4-bit words to bf16 (of output bytes)", us,
                static_cast<double>(s_.n * s_.k * 2) / us * 1e-3);
  }

  static Memory random_tensor(const Answer& answer, size_t index) {
    const uint64_t nbytes = Driver::stored_nbytes(answer.stored[index]);
    Random random(static_cast<uint32_t>(index + 7));
    std::vector<uint8_t> bytes(nbytes);
    if (answer.stored[index].dtype == LS_DTYPE_F32) {
      auto* scales = reinterpret_cast<float*>(bytes.data());
      for (uint64_t i = 0; i < nbytes / sizeof(float); ++i) scales[i] = 0x1p-6f;
    } else if (answer.stored_names[index] == "weight_scale") {
      std::fill(bytes.begin(), bytes.end(), uint8_t{121});
    } else {
      for (uint8_t& one : bytes) {
        one = static_cast<uint8_t>(random.bits() >> 13);
        if ((one & 0x7f) == 0x7f) one ^= 1;
      }
    }
    return Memory(bytes);
  }

  Shape s_;
  std::vector<uint16_t> host_w_;
  TestLayer layer_;
  Memory x_, w_, bias_, y_, lt_, x_codes_, w_codes_, x_scales_, w_scales_;
  double bf16_ = 1;
};

}  // namespace
}  // namespace loadstone::gpu_kernels

int main(int count, char** arguments) {
  using namespace loadstone::gpu_kernels;
  if (const std::string why = no_gpu(); !why.empty()) {
    std::printf("SKIPPED: %s\n", why.c_str());
    return 0;
  }
  const uint64_t m = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 4096;
  const std::string only = count > 2 ? arguments[2] : "";
  try {
    for (const auto& [k, n] :
         {std::pair<uint64_t, uint64_t>{3072, 3072}, {3072, 12288}, {12288, 3072}, {5120, 13824}}) {
      if (only != "few") Bench({m, n, k}).run(only != "layers", only != "words");
      if (only != "layers") bench_few_rows(n, k);
    }
  } catch (const std::exception& error) {
    std::printf("FAILED: %s\n", error.what());
    return 3;
  }
  return 0;
}
