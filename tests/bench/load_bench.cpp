// Loading from the page cache on the CPU, against plain preads by as many threads into a freshly
// mapped destination of equal size, with each page policy. One call, sides in turn, each
// round in another order, medians.
//
//   load_bench [--gigabytes 4] [--runs 9] [--threads 0] [--dir DIR] [--json FILE] [--keep]
//              [--quantization METHOD --plugins DIR]
//
// Makes a safetensors file of Qwen-like layers (random bf16) in DIR; with --keep the file stays,
// for load_vs_safetensors.sh. --quantization also loads with an online method.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <loadstone/loadstone.hpp>
#include <map>
#include <random>
#include <thread>

#include "base/parallel.hpp"
#include "formats/safetensors_writer.hpp"

namespace {

using loadstone::Code;
using loadstone::Error;
using loadstone::Node;
using loadstone::Result;
using loadstone::Status;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct Options {
  double gigabytes = 4;
  int runs = 9;
  unsigned threads = 0;
  std::string dir = fs::temp_directory_path().string();
  std::string json, quantization, plugins, adapters = LOADSTONE_SOURCE_DIR "/model_adapters";
  bool keep = false;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Processor seconds of this process: what a busy machine leaves comparable.
double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto of = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

/// Seconds of one run: of the clock and of the processor.
struct Cost {
  double wall = 0, cpu = 0;
};

class Stopwatch {
 public:
  Cost cost() const { return {seconds_since(start_), cpu_seconds() - cpu_}; }

 private:
  Clock::time_point start_ = Clock::now();
  double cpu_ = cpu_seconds();
};

struct Pages {
  const char* name;
  int map_flags;
  bool huge, populate;
};

// MADV_POPULATE_WRITE, by number: glibc 2.36 may not name it.
constexpr int kPopulateWrite = 23;
constexpr Pages kPolicies[] = {{"4 KiB pages", 0, false, false},
                               {"4 KiB pages, MAP_POPULATE", MAP_POPULATE, false, false},
                               {"4 KiB pages, populated by piece", 0, false, true},
                               {"huge pages", 0, true, false},
                               {"huge pages, populated by piece", 0, true, true}};

/// Preads of 4 MiB by `threads` into fresh memory: seconds, allocation included.
Cost plain(const std::string& path, uint64_t nbytes, unsigned threads, const Pages& pages) {
  constexpr uint64_t kPiece = 4u << 20, kHuge = 2u << 20;
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  Stopwatch watch;
  void* raw = mmap(nullptr, nbytes + kHuge, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | pages.map_flags, -1, 0);
  auto* to = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(raw) + kHuge - 1) & ~(kHuge - 1));
  if (pages.huge) madvise(to, nbytes, MADV_HUGEPAGE);
  std::atomic<uint64_t> next{0};
  auto work = [&] {
    for (uint64_t at = next.fetch_add(kPiece); at < nbytes; at = next.fetch_add(kPiece)) {
      uint64_t left = std::min(kPiece, nbytes - at), done = 0;
      if (pages.populate) madvise(to + at, left, kPopulateWrite);
      while (done < left) {
        ssize_t got = pread(fd, to + at + done, left - done, static_cast<off_t>(at + done));
        if (got <= 0) return;
        done += static_cast<uint64_t>(got);
      }
    }
  };
  std::vector<std::thread> pool;
  for (unsigned i = 1; i < threads; ++i) pool.emplace_back(work);
  work();
  for (std::thread& thread : pool) thread.join();
  Cost cost = watch.cost();
  munmap(raw, nbytes + kHuge);
  close(fd);
  return cost;
}

struct Shape {
  const char* name;
  uint64_t out, in;
};

/// Blocks of a Qwen-Image-like transformer until the size is reached; names as diffusers has them.
Status make_model(const std::string& path, double gigabytes) {
  constexpr Shape kBlock[] = {{"attn.to_q", 3072, 3072},           {"attn.to_k", 3072, 3072},
                              {"attn.to_v", 3072, 3072},           {"attn.to_out.0", 3072, 3072},
                              {"img_mlp.net.0.proj", 12288, 3072}, {"img_mlp.net.2", 3072, 12288},
                              {"img_mod.1", 18432, 3072}};
  std::vector<loadstone::formats::TensorSpec> specs;
  uint64_t nbytes = 0, wanted = static_cast<uint64_t>(gigabytes * 1e9);
  auto add = [&](std::string name, loadstone::formats::Shape shape) {
    loadstone::formats::TensorSpec& spec = specs.emplace_back();
    spec.name = std::move(name);
    spec.dtype = loadstone::DType::BF16;
    spec.shape = shape;
    uint64_t elems = 1;
    for (uint64_t dim : shape) elems *= dim;
    nbytes += elems * 2;
  };
  for (int block = 0; nbytes < wanted; ++block) {
    for (const Shape& one : kBlock) {
      std::string name = fmt::format("transformer_blocks.{}.{}", block, one.name);
      add(name + ".bias", {one.out});
      add(name + ".weight", {one.out, one.in});
      if (nbytes >= wanted) break;
    }
    add(fmt::format("transformer_blocks.{}.attn.norm_q.weight", block), {128});
  }
  LS_TRY(auto writer, loadstone::formats::SafetensorsWriter::create(path, specs));
  // One 16 MiB pattern of finite values over and over: the page cache doesn't care.
  std::vector<uint16_t> pattern(8u << 20);
  uint32_t state = 1;
  for (uint16_t& value : pattern) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<uint16_t>((state >> 16 & 0x80ffu) | 0x3c00u);
  }
  auto bytes = std::as_bytes(std::span(pattern));
  for (uint64_t done = 0; done < nbytes; done += bytes.size()) {
    LS_CHECK(writer.append(bytes.first(std::min<uint64_t>(bytes.size(), nbytes - done))));
  }
  return writer.finish();
}

/// Medians of both clocks.
Cost median(const std::vector<Cost>& costs) {
  auto middle = [&](double Cost::*clock) {
    std::vector<double> values;
    for (const Cost& cost : costs) values.push_back(cost.*clock);
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  };
  return {middle(&Cost::wall), middle(&Cost::cpu)};
}

Result<Cost> loaded(loadstone::Loader& loader, std::shared_ptr<const loadstone::plan::Plan> plan) {
  Stopwatch watch;
  LS_TRY(auto model, loader.load(std::move(plan)));
  return watch.cost();
}

Status run(const Options& options) {
  std::string path = (fs::path(options.dir) / "loadstone-load-bench.safetensors").string();
  if (!fs::exists(path)) LS_CHECK(make_model(path, options.gigabytes));
  uint64_t nbytes = fs::file_size(path);

  loadstone::Places places;
  if (!options.plugins.empty()) places.plugin_dirs.push_back(options.plugins);
  places.adapters_dir = options.adapters;
  LS_TRY(loadstone::Loader loader, loadstone::Loader::open(places));
  LS_TRY(auto config, loader.make_config(path));
  config.load.threads = options.threads;
  LS_TRY(auto plan, loader.plan(config));
  unsigned threads = plan->flow.workers;
  std::shared_ptr<const loadstone::plan::Plan> online;
  if (!options.quantization.empty()) {
    std::string text =
        fmt::format("version: 1\nmodel: {}\nrules: [{{kind: linear, use: {{method: {}}}}}]\n", path,
                    options.quantization);
    LS_TRY(auto quantized, loader.parse_config(text, "bench.yaml"));
    quantized.load.threads = options.threads;
    LS_TRY(online, loader.plan(quantized));
  }

  struct Side {
    std::string name;
    std::function<Result<Cost>()> run;
  };
  std::vector<Side> sides{{"loadstone", [&] { return loaded(loader, plan); }}};
  for (const Pages& pages : kPolicies) {
    sides.push_back({pages.name, [&] { return Result(plain(path, nbytes, threads, pages)); }});
  }
  if (online != nullptr) {
    sides.push_back({"loadstone " + options.quantization, [&] { return loaded(loader, online); }});
  }
  // Each round in another order: what a side leaves behind (free huge pages, or none) meets the
  // next one. Round 0 isn't counted: it fills the page cache, and virtual machines get memory on
  // first touch.
  std::mt19937 order(1);
  std::map<std::string, std::vector<Cost>> costs;
  for (int round = 0; round <= options.runs; ++round) {
    if (round == 1) costs.clear();
    std::shuffle(sides.begin(), sides.end(), order);
    for (const Side& side : sides) {
      LS_TRY(Cost cost, side.run());
      costs[side.name].push_back(cost);
    }
  }

  Cost best{1e30, 1e30};
  for (const Pages& pages : kPolicies) {
    Cost typical = median(costs[pages.name]);
    best = {std::min(best.wall, typical.wall), std::min(best.cpu, typical.cpu)};
  }
  std::vector<Node::Entry> rows;
  fmt::print("{} bytes, {} threads, median of {}; beside it the rate of the best plain one's\n",
             nbytes, threads, options.runs);
  for (const auto& [name, list] : costs) {
    Cost typical = median(list);
    fmt::print("{:34} {:7.3f} s {:6.2f} GB/s {:5.2f}   processor {:7.3f} s {:5.2f}\n", name,
               typical.wall, static_cast<double>(nbytes) / typical.wall / 1e9,
               best.wall / typical.wall, typical.cpu, best.cpu / typical.cpu);
    std::vector<Node> all;
    for (const Cost& cost : list) all.push_back(Node::of_number(cost.wall));
    rows.emplace_back(name,
                      Node::of_map({{"seconds", Node::of_number(typical.wall)},
                                    {"processor_seconds", Node::of_number(typical.cpu)},
                                    {"of_best_plain", Node::of_number(best.wall / typical.wall)},
                                    {"runs", Node::of_list(std::move(all))}}));
  }
  if (!options.json.empty()) {
    Node root = Node::of_map({{"bytes", Node::of_integer(static_cast<int64_t>(nbytes))},
                              {"threads", Node::of_integer(threads)},
                              {"sides", Node::of_map(std::move(rows))}});
    std::ofstream(options.json) << root.to_json(2) << "\n";
  }
  if (!options.keep) fs::remove(path);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  std::map<std::string, std::function<void(const char*)>> flags{
      {"--gigabytes", [&](const char* text) { options.gigabytes = std::atof(text); }},
      {"--runs", [&](const char* text) { options.runs = std::max(std::atoi(text), 1); }},
      {"--threads",
       [&](const char* text) { options.threads = static_cast<unsigned>(std::atoi(text)); }},
      {"--dir", [&](const char* text) { options.dir = text; }},
      {"--json", [&](const char* text) { options.json = text; }},
      {"--quantization", [&](const char* text) { options.quantization = text; }},
      {"--plugins", [&](const char* text) { options.plugins = text; }}};
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    if (name == "--keep") {
      options.keep = true;
    } else if (auto flag = flags.find(name); flag != flags.end() && i + 1 < argc) {
      flag->second(argv[++i]);
    } else {
      fmt::print(stderr, "load_bench: found \"{}\", expected a flag of its head comment\n", name);
      return 2;
    }
  }
  Status status = run(options);
  if (status.ok()) return 0;
  fmt::print(stderr, "load_bench: {}\n", status.error().text());
  return 1;
}
