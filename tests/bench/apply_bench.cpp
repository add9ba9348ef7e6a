// y = x·Wᵀ by the plugins against LibTorch's float32 product of the same shape: one call, sides in
// turn, each round in another order, medians. A side is prepare and apply, as a model runs them.
//
//   apply_bench [--m 1] [--n 12288] [--k 3072] [--rounds 9] [--threads 2] [--cpu]
//               [METHOD…]
//
// --cpu: processor time in place of the clock's, for a busy machine (with --threads 1).
// Methods: fp8, int8, mxfp8, mxfp4; autoround (W4, groups of 128, symmetric), autoround_asym, awq;
// compressed_tensors (W4, groups of 128); any type of ggml. Without: fp8, int8, mxfp8, mxfp4,
// autoround, Q4_0, Q4_K, Q8_0. LOADSTONE_CPU forces a level (common/cpu.hpp). Table on stderr, JSON
// on stdout.
#include <ATen/Parallel.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/parallel.hpp"
#include "common/ggml/quantize.hpp"
#include "common/ggml/types.hpp"
#include "common/testing/driver.hpp"
#include "runtime/gemm.hpp"

namespace {

using namespace loadstone;
namespace driving = loadstone::common::testing;
using Clock = std::chrono::steady_clock;

struct Options {
  uint64_t m = 1, n = 12288, k = 3072;
  unsigned rounds = 9, threads = 2;
  bool cpu = false;
  std::vector<std::string> methods;
};

ThreadPool* pool = nullptr;

void run_on_pool(uint64_t count, void (*body)(void*, uint64_t), void* context) {
  pool->for_each(count, [&](size_t i) { body(context, i); });
}

std::vector<char> random_bytes(uint64_t count, uint32_t seed) {
  std::mt19937_64 random(seed);
  std::vector<char> out(count / 8 * 8 + 8);
  for (uint64_t i = 0; i < out.size(); i += 8) {
    const uint64_t value = random();
    std::memcpy(&out[i], &value, 8);
  }
  out.resize(count);
  return out;
}

/// A layer of random bf16 weights.
driving::TestLayer float_layer(const Options& o) {
  driving::TestLayer layer;
  layer.out = o.n;
  layer.in = o.k;
  layer.part("", 0, o.n);
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> row(4096);
  for (float& v : row) v = normal(random);
  std::vector<char> bytes(o.n * o.k * 2);
  std::vector<float> shifted(o.k);
  for (uint64_t n = 0; n < o.n; ++n) {
    for (uint64_t k = 0; k < o.k; ++k) shifted[k] = row[(k + n * 37) % row.size()];
    common::narrow(LS_DTYPE_BF16, shifted.data(), &bytes[n * o.k * 2], o.k);
  }
  layer.tensor("weight", LS_DTYPE_BF16, {o.n, o.k}, std::move(bytes));
  return layer;
}

/// A layer packed as GPTQ packs it, or AWQ: 4 bits, groups of 128; zero points in the middle or
/// anywhere.
driving::TestLayer packed_layer(const Options& o, bool symmetric, bool awq) {
  driving::TestLayer layer;
  layer.out = o.n;
  layer.in = o.k;
  layer.part("", 0, o.n);
  const uint64_t groups = o.k / 128;
  const uint64_t rows = awq ? o.k : o.k / 8;
  layer.tensor("qweight", LS_DTYPE_I32, {rows, o.k * o.n / 8 / rows},
               random_bytes(o.k / 8 * o.n * 4, 1));
  std::vector<char> zeros = random_bytes(groups * o.n / 2, 3);
  if (symmetric) std::fill(zeros.begin(), zeros.end(), awq ? '\x88' : '\x77');
  layer.tensor("qzeros", LS_DTYPE_I32, {groups, o.n / 8}, std::move(zeros));
  layer.tensor("scales", LS_DTYPE_F16, {groups, o.n},
               std::vector<uint16_t>(groups * o.n, 0x1c00));  // 2^-8
  return layer;
}

/// A layer packed along K as compressed-tensors packs it: 4 bits, symmetric, groups of 128.
driving::TestLayer words_layer(const Options& o) {
  driving::TestLayer layer;
  layer.out = o.n;
  layer.in = o.k;
  layer.part("", 0, o.n);
  const uint64_t groups = o.k / 128;
  layer.tensor("weight_packed", LS_DTYPE_I32, {o.n, o.k / 8}, random_bytes(o.k / 2 * o.n, 1));
  layer.tensor("weight_scale", LS_DTYPE_BF16, {o.n, groups},
               std::vector<uint16_t>(groups * o.n, 0x3b80));  // 2^-8
  layer.tensor("weight_shape", LS_DTYPE_I64, {2}, std::vector<uint64_t>{o.n, o.k});
  layer.show_values();
  return layer;
}

/// A layer of a GGUF file.
driving::TestLayer block_layer(const Options& o, const ggml::TypeInfo& type) {
  driving::TestLayer layer;
  layer.out = o.n;
  layer.in = o.k;
  layer.part("", 0, o.n);
  std::vector<char> bytes = random_bytes(o.n * o.k / type.elems * type.nbytes, 2);
  for (uint64_t at = 0; at < bytes.size(); at += type.nbytes) {
    bytes[at + 1] = bytes[at + 3] = 0x1c;  // finite scales: float16 near 2^-8
    if (type.type == ggml::kMXFP4) bytes[at] = 0x78;
  }
  layer.tensor("weight", uint32_t{LS_DTYPE_GGML} + type.type, {o.n, o.k}, std::move(bytes));
  return layer;
}

/// A plugin's layer, bound, with its buffers.
class Layer {
 public:
  Layer(const std::string& method, const Options& o, const float* x)
      : type_(ggml::find_type(method)),
        driver_(plugin_of(method, type_), plugin_of(method, type_)),
        layer_(type_ != nullptr ? block_layer(o, *type_)
               : packed(method) ? packed_layer(o, method == "autoround", method == "awq")
               : method == "compressed_tensors" ? words_layer(o)
                                                : float_layer(o)) {
    driving::Json config = driving::Json::object();
    if (method == "compressed_tensors") {
      config = driving::Json::parse(R"({"config_groups": {"group_0": {"targets": ["Linear"],
          "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}}}})");
    } else if (packed(method)) {
      config = {{"bits", 4}, {"group_size", 128}, {"sym", method == "autoround"}};
      if (method == "awq") config["packing_format"] = "auto_round:auto_awq";
    }
    driver_.configure(config);
    produced_ = driver_.produce(layer_);
    bound_ = driver_.bind(layer_, produced_);
    ls_sizes sizes = sdk::make<ls_sizes>();
    const ls_step step = sdk::make<ls_step>();
    require(driver_.table().variant(bound_.get(), &step, &call_.variant));
    require(driver_.table().sizes(bound_.get(), call_.variant, o.m, &sizes));
    workspace_ = driving::Block(sizes.workspace_nbytes);
    activation_ = driving::Block(sizes.activation_nbytes);
    y_ = driving::Block(o.m * o.n * sizeof(float));
    call_.x_dtype = call_.y_dtype = LS_DTYPE_F32;
    call_.m = o.m;
    call_.x_stride = o.k;
    call_.y_stride = o.n;
    call_.x = x;
    call_.y = y_.at();
    call_.activation = activation_.at();
    call_.workspace = workspace_.at();
  }

  void run() {
    if (activation_.nbytes() != 0) require(driver_.table().prepare(bound_.get(), &call_));
    require(driver_.table().apply(bound_.get(), &call_));
  }
  const std::string& kernel() const { return produced_.answer.kernel; }
  uint64_t stored_nbytes() const {
    uint64_t out = 0;
    for (const driving::Block& block : produced_.blocks) out += block.nbytes();
    return out;
  }
  /// Largest |y - x·dequantized(W)ᵀ| over the largest |y|: that the figure is of a right product.
  double error(const Options& o, const float* x) {
    run();
    const std::vector<float> w = driver_.dequantize(layer_, produced_, 0, 64, o.k);
    const auto* y = reinterpret_cast<const float*>(y_.at());
    double worst = 0, largest = 0;
    for (uint64_t n = 0; n < 64; ++n) {
      double sum = 0;
      for (uint64_t k = 0; k < o.k; ++k) sum += static_cast<double>(x[k]) * w[n * o.k + k];
      worst = std::max(worst, std::abs(sum - y[n]));
      largest = std::max(largest, std::abs(sum));
    }
    return worst / largest;
  }

 private:
  static bool packed(const std::string& method) {
    return method == "autoround" || method == "autoround_asym" || method == "awq";
  }
  static std::string plugin_of(const std::string& method, const ggml::TypeInfo* type) {
    return type != nullptr ? "gguf" : packed(method) ? "autoround" : method;
  }
  static void require(int32_t status) {
    if (status != LS_OK) throw std::runtime_error("a call of the plugin failed");
  }

  const ggml::TypeInfo* type_;
  driving::Driver driver_;
  driving::TestLayer layer_;
  driving::Produced produced_;
  driving::Driver::Owned bound_{nullptr, nullptr};
  driving::Block workspace_, activation_, y_;
  ls_apply call_ = sdk::make<ls_apply>();
};

double now(bool cpu) {
  if (!cpu) return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double seconds_of(const std::function<void()>& side, bool cpu) {
  const double start = now(cpu);
  side();
  return now(cpu) - start;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void measure(const std::string& method, const Options& o, const at::Tensor& x, const at::Tensor& w,
             nlohmann::json& report) {
  Layer layer(method, o, x.const_data_ptr<float>());
  const double error = layer.error(o, x.const_data_ptr<float>());
  const std::vector<std::function<void()>> sides = {[&] { layer.run(); },
                                                    [&] { at::linear(x, w); }};
  std::vector<double> seconds[2];
  const int repeats = o.m <= 32 ? 5 : 1;
  for (unsigned round = 0; round <= o.rounds; ++round) {
    for (size_t i = 0; i < 2; ++i) {
      const size_t side = (i + round) % 2;
      sides[side]();  // what the other side left in the caches is not this one's
      double best = 1e9;
      for (int r = 0; r < repeats; ++r) best = std::min(best, seconds_of(sides[side], o.cpu));
      if (round > 0) seconds[side].push_back(best);
    }
  }
  const double ours = median(seconds[0]), torch = median(seconds[1]);
  const double rate = static_cast<double>(layer.stored_nbytes()) / ours * 1e-9;
  std::fprintf(stderr, "%-10s%-22s%9.3f%9.3f%8.2f%9.2f%11.1e\n", method.c_str(),
               layer.kernel().c_str(), ours * 1e3, torch * 1e3, torch / ours, rate, error);
  report.push_back({{"method", method},
                    {"kernel", layer.kernel()},
                    {"seconds", ours},
                    {"torch_seconds", torch},
                    {"of_torch", torch / ours},
                    {"stored_gb_per_s", rate},
                    {"error", error}});
}

int run(const Options& o) {
  ThreadPool threads(o.threads);
  pool = &threads;
  driving::Driver::lent_parallel_for = run_on_pool;
  driving::Driver::lent_gemm = runtime::torch_gemm;
  at::set_num_threads(static_cast<int>(o.threads));
  const c10::InferenceMode inference;
  const at::Tensor x = at::randn({static_cast<int64_t>(o.m), static_cast<int64_t>(o.k)});
  const at::Tensor w = at::randn({static_cast<int64_t>(o.n), static_cast<int64_t>(o.k)});
  std::fprintf(stderr, "m %llu n %llu k %llu, %u threads\n%-10s%-22s%9s%9s%8s%9s%11s\n",
               static_cast<unsigned long long>(o.m), static_cast<unsigned long long>(o.n),
               static_cast<unsigned long long>(o.k), o.threads, "method", "kernel", "ms",
               "torch ms", "ratio", "GB/s", "error");
  nlohmann::json report = nlohmann::json::array();
  for (const std::string& method : o.methods) measure(method, o, x, w, report);
  const nlohmann::json out = {{"m", o.m}, {"n", o.n}, {"k", o.k}, {"layers", report}};
  std::puts(out.dump(1).c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    auto number = [&] { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0; };
    if (word == "--cpu") {
      o.cpu = true;
    } else if (word == "--m") {
      o.m = number();
    } else if (word == "--n") {
      o.n = number();
    } else if (word == "--k") {
      o.k = number();
    } else if (word == "--rounds") {
      o.rounds = static_cast<unsigned>(number());
    } else if (word == "--threads") {
      o.threads = static_cast<unsigned>(number());
    } else {
      o.methods.push_back(word);
    }
  }
  if (o.methods.empty()) {
    o.methods = {"fp8", "int8", "mxfp8", "mxfp4", "autoround", "Q4_0", "Q4_K", "Q8_0"};
  }
  if (o.m == 0 || o.n % 256 != 0 || o.k % 256 != 0 || o.n * o.k == 0 || o.rounds == 0 ||
      o.threads == 0) {
    std::fputs("apply_bench: expected m, rounds and threads above 0, n and k of 256s\n", stderr);
    return 1;
  }
  try {
    return run(o);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "apply_bench: %s\n", failure.what());
    return 2;
  }
}
