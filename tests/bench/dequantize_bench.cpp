// Dequantizing to float32 into warm memory: this project's decoders against ggml's and against
// memcpy of as many bytes as they put out. One call, sides in turn, each round in another order,
// two threads a side, medians.
//
//   dequantize_bench GGML [--mib 64] [--rounds 9] [--threads 2]
//
// GGML: libggml-base.so (tests/bench/ggml.sh prints its path). The values of both are compared, bit
// for bit. Table on stderr, JSON on stdout. Exit 3 where a bound is missed: the median over ggml's
// types at least 1.5 times ggml, none under 0.95; memcpy's rate for fp8, int8, Q8_0, Q4_0, Q4_K.
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "common/ggml/dequantize.hpp"
#include "common/numerics/fp8.hpp"
#include "common/numerics/int8.hpp"

namespace {

using namespace loadstone;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kRow = 3072;  // values a row: Qwen-Image's width, whole blocks of every type

struct Options {
  const char* ggml = nullptr;
  uint64_t nbytes = 64u << 20;  // of output
  unsigned rounds = 9, threads = 2;
};

/// 64-byte aligned, touched.
class Memory {
 public:
  explicit Memory(uint64_t nbytes)
      : at_(static_cast<char*>(std::aligned_alloc(4096, (nbytes + 4095) / 4096 * 4096))) {
    if (at_ == nullptr) throw std::bad_alloc();
    std::memset(at_, 1, nbytes);
  }
  ~Memory() { std::free(at_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(at_);
  }

 private:
  char* at_;
};

/// Rows [begin, end) by one thread.
using Side = std::function<void(uint64_t begin, uint64_t end)>;

/// Seconds of one pass over `rows`, threads started before the clock.
double timed(const Side& side, uint64_t rows, unsigned threads) {
  std::barrier gate(static_cast<std::ptrdiff_t>(threads));
  std::vector<std::jthread> others;
  auto run = [&](unsigned index) {
    gate.arrive_and_wait();
    side(rows * index / threads, rows * (index + 1) / threads);
    gate.arrive_and_wait();
  };
  for (unsigned i = 1; i < threads; ++i) others.emplace_back(run, i);
  gate.arrive_and_wait();
  const auto start = Clock::now();
  side(0, rows / threads);
  gate.arrive_and_wait();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Median seconds of each side; every round starts with another one.
std::vector<double> race(const std::vector<Side>& sides, uint64_t rows, const Options& options) {
  std::vector<std::vector<double>> seconds(sides.size());
  for (const Side& side : sides) timed(side, rows, options.threads);
  for (unsigned round = 0; round < options.rounds; ++round) {
    for (size_t i = 0; i < sides.size(); ++i) {
      const size_t one = (i + round) % sides.size();
      seconds[one].push_back(timed(sides[one], rows, options.threads));
    }
  }
  std::vector<double> out;
  for (auto& each : seconds) out.push_back(median(std::move(each)));
  return out;
}

using GgmlDequantize = void (*)(const void* blocks, float* to, int64_t count);

/// ggml names its functions with the type's name, all but K in lower case.
GgmlDequantize ggml_function(void* library, const ggml::TypeInfo& info) {
  std::string name = "dequantize_row_";
  for (const char* c = info.name; *c != 0; ++c) {
    name += *c == 'K' ? *c : static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
  }
  return reinterpret_cast<GgmlDequantize>(dlsym(library, name.c_str()));
}

/// Random bytes; MXFP4's exponents are near 1, since a processor takes its time over denormals.
void fill(uint8_t* at, uint64_t blocks, const ggml::TypeInfo& info) {
  std::mt19937_64 random(info.type);
  for (uint64_t i = 0; i + 8 <= blocks * info.nbytes; i += 8) {
    const uint64_t value = random();
    std::memcpy(at + i, &value, 8);
  }
  if (info.type != ggml::kMXFP4) return;
  for (uint64_t i = 0; i < blocks; ++i) {
    at[i * info.nbytes] = static_cast<uint8_t>(120 + at[i * info.nbytes] % 16);
  }
}

uint64_t differing(const float* a, const float* b, uint64_t count) {
  uint64_t out = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const bool equal = std::memcmp(a + i, b + i, sizeof(float)) == 0;
    if (!equal && !(a[i] != a[i] && b[i] != b[i])) ++out;
  }
  return out;
}

struct Bench {
  explicit Bench(const Options& given)
      : options(given),
        rows(given.nbytes / sizeof(float) / kRow),
        ours(given.nbytes),
        theirs(given.nbytes),
        source(given.nbytes) {}

  double gigabytes() const { return static_cast<double>(rows * kRow * sizeof(float)) * 1e-9; }

  Side copy() {
    return [this](uint64_t begin, uint64_t end) {
      std::memcpy(theirs.as<float>() + begin * kRow, source.as<float>() + begin * kRow,
                  (end - begin) * kRow * sizeof(float));
    };
  }

  void ggml_type(void* library, const ggml::TypeInfo& info) {
    const GgmlDequantize peer = ggml_function(library, info);
    const ggml::Dequantize decode = ggml::dequantizer(info.type, ggml::Stores::streamed);
    if (peer == nullptr || decode == nullptr || info.elems == 1) return;
    const uint64_t row_blocks = kRow / info.elems, row_nbytes = row_blocks * info.nbytes;
    auto* blocks = source.as<uint8_t>();
    fill(blocks, rows * row_blocks, info);
    const std::vector<Side> sides = {
        [&](uint64_t begin, uint64_t end) {
          decode(blocks + begin * row_nbytes, (end - begin) * row_blocks,
                 ours.as<float>() + begin * kRow);
        },
        [&](uint64_t begin, uint64_t end) {
          peer(blocks + begin * row_nbytes, theirs.as<float>() + begin * kRow,
               static_cast<int64_t>((end - begin) * kRow));
        },
        copy()};
    const std::vector<double> seconds = race(sides, rows, options);
    timed(sides[0], rows, 1);
    timed(sides[1], rows, 1);
    const uint64_t wrong = differing(ours.as<float>(), theirs.as<float>(), rows * kRow);
    const double ratio = seconds[1] / seconds[0];
    const bool named =
        info.type == ggml::kQ8_0 || info.type == ggml::kQ4_0 || info.type == ggml::kQ4_K;
    ratios.push_back(ratio);
    fine &= wrong == 0 && ratio >= 0.95;
    note(info.name, seconds, wrong, named);
  }

  void coded(const char* name, const std::function<void(const uint8_t*, float*)>& row) {
    auto* codes = source.as<uint8_t>();
    std::mt19937_64 random(7);
    for (uint64_t i = 0; i < rows * kRow; ++i) codes[i] = static_cast<uint8_t>(random() & 0x7d);
    const std::vector<Side> sides = {[&](uint64_t begin, uint64_t end) {
                                       for (uint64_t r = begin; r < end; ++r) {
                                         row(codes + r * kRow, ours.as<float>() + r * kRow);
                                       }
                                     },
                                     copy()};
    std::vector<double> seconds = race(sides, rows, options);
    seconds.insert(seconds.begin() + 1, 0.0);
    note(name, seconds, 0, true);
  }

  /// `seconds`: ours, ggml (0: none), memcpy.
  void note(const char* name, const std::vector<double>& seconds, uint64_t wrong, bool bounded) {
    const double copying = seconds[2] / seconds[0];
    if (bounded) fine &= copying >= 1;
    nlohmann::json one = {{"type", name},
                          {"gb_per_s", gigabytes() / seconds[0]},
                          {"of_memcpy", copying},
                          {"differing", wrong}};
    std::string peer = "       -";
    if (seconds[1] > 0) {
      one["of_ggml"] = seconds[1] / seconds[0];
      peer = fmt::format("{:8.2f}", seconds[1] / seconds[0]);
    }
    fmt::print(stderr, "{:<10}{:8.2f}{}{:10.2f}{}\n", name, gigabytes() / seconds[0], peer, copying,
               wrong == 0 ? "" : fmt::format("   {} values differ", wrong));
    report.push_back(std::move(one));
  }

  Options options;
  uint64_t rows;
  Memory ours, theirs, source;
  std::vector<double> ratios;
  nlohmann::json report = nlohmann::json::array();
  bool fine = true;
};

int run(const Options& options) {
  void* library = dlopen(options.ggml, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    fmt::print(stderr, "dequantize_bench: {}\n", dlerror());
    return 2;
  }
  Bench bench(options);
  fmt::print(stderr, "{:<10}{:>8}{:>8}{:>10}\n", "type", "GB/s", "/ ggml", "/ memcpy");
  for (const ggml::TypeInfo& info : ggml::kTypes) bench.ggml_type(library, info);
  bench.coded("fp8", [](const uint8_t* codes, float* to) {
    common::fp8_dequantize(codes, 0.01f, to, kRow);
  });
  bench.coded("int8", [](const uint8_t* codes, float* to) {
    common::int8_dequantize(reinterpret_cast<const int8_t*>(codes), 0.01f, to, kRow);
  });
  const double middle = median(bench.ratios);
  bench.fine &= middle >= 1.5;
  fmt::print(stderr, "median over {} ggml types: {:.2f}\n", bench.ratios.size(), middle);
  fmt::print("{}\n", nlohmann::json{{"types", bench.report}, {"median_of_ggml", middle}}.dump(1));
  return bench.fine ? 0 : 3;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const bool more = i + 1 < argc;
    if (word == "--mib" && more) {
      options.nbytes = std::strtoull(argv[++i], nullptr, 10) << 20;
    } else if (word == "--rounds" && more) {
      options.rounds = static_cast<unsigned>(std::strtoul(argv[++i], nullptr, 10));
    } else if (word == "--threads" && more) {
      options.threads = static_cast<unsigned>(std::strtoul(argv[++i], nullptr, 10));
    } else if (options.ggml == nullptr && !word.starts_with("-")) {
      options.ggml = argv[i];
    } else {
      fmt::print(stderr, "dequantize_bench: unknown argument '{}'\n", word);
      return 1;
    }
  }
  if (options.ggml == nullptr || options.nbytes < (1u << 20) || options.rounds == 0 ||
      options.threads == 0) {
    fmt::print(stderr, "usage: dequantize_bench GGML [--mib 64] [--rounds 9] [--threads 2]\n");
    return 1;
  }
  return run(options);
}
