// Reading a safetensors header of 70,000 tensors against simdjson's bare parse of the same bytes,
// in turn, in one process; and what rejecting a hostile file costs in time and memory.
//
//   header_bench [TENSORS [ROUNDS]]     default 70000, 15
//
// Text on stderr, JSON on stdout. Exit 3 when a ratio to the faster bare parse is above 2, or a
// rejection takes over 0.1 s or grows the resident set by over 8 times the header.
#define SIMDJSON_EXCEPTIONS 0
#include <fmt/format.h>
#include <simdjson.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "formats/checkpoint.hpp"
#include "formats/safetensors.hpp"

namespace {

using namespace loadstone;

constexpr double kMaxRatio = 2.0;
constexpr double kMaxRejectSeconds = 0.1;
constexpr double kMaxRejectGrowth = 8.0;

double now(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

struct Seconds {
  std::vector<double> wall, cpu;
};

// Wall clock and this thread's processor time (the kernel's share for the read included): on a busy
// machine only the second is a measure.
void timed(Seconds& seconds, const std::function<void()>& work) {
  const double wall = now(CLOCK_MONOTONIC);
  const double cpu = now(CLOCK_THREAD_CPUTIME_ID);
  work();
  seconds.cpu.push_back(now(CLOCK_THREAD_CPUTIME_ID) - cpu);
  seconds.wall.push_back(now(CLOCK_MONOTONIC) - wall);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

[[noreturn]] void fail(const std::string& text) {
  fmt::print(stderr, "{}\n", text);
  std::exit(1);
}

// Names and shapes as a mixture-of-experts model has them; scalars keep the file small.
std::string header_text(size_t tensors) {
  std::string text = R"({"__metadata__":{"format":"pt"})";
  for (size_t i = 0; i < tensors; ++i) {
    text +=
        fmt::format(R"(,"thinker.model.layers.{}.mlp.experts.{}.{}_proj.weight":{{"dtype":"BF16",)"
                    R"("shape":[{},{}],"data_offsets":[{},{}]}})",
                    i / 384, i / 3 % 128, i % 3 == 0 ? "gate" : (i % 3 == 1 ? "up" : "down"), 2, 3,
                    i * 12, (i + 1) * 12);
  }
  text += "}";
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

std::string file_of(const std::string& header) {
  const uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header;
}

class BenchFile {
 public:
  explicit BenchFile(const std::string& bytes, uint64_t data_nbytes = 0) {
    std::string pattern = (std::filesystem::temp_directory_path() / "header-bench-XXXXXX").string();
    const int descriptor = ::mkstemp(pattern.data());
    if (descriptor < 0) fail("cannot write " + pattern);
    ::close(descriptor);
    path_ = pattern;
    std::ofstream(path_, std::ios::binary) << bytes;
    std::filesystem::resize_file(path_, bytes.size() + data_nbytes);
  }
  ~BenchFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::unique_ptr<File> open_file(const std::string& path) {
  auto file = system_files().open(path);
  if (!file.ok()) fail(file.error().text());
  return std::move(file).value();
}

// Open, fstat, two reads, parse, all checks, one entry a tensor. What it made is freed outside.
formats::SafetensorsHeader read_file(const std::string& path) {
  const auto file = open_file(path);
  const auto identity = file->identity();
  if (!identity.ok()) fail(identity.error().text());
  auto header = formats::read_safetensors_header(*file, identity->nbytes);
  if (!header.ok()) fail(header.error().text());
  return std::move(header).value();
}

// simdjson's DOM: the whole document onto its tape.
void parse_dom(const simdjson::padded_string& json, simdjson::dom::parser& parser) {
  simdjson::dom::element root;
  if (parser.parse(json).get(root)) fail("the DOM parser refuses the header");
}

// simdjson on demand: every value visited once, nothing kept.
uint64_t walk_on_demand(const simdjson::padded_string& json, simdjson::ondemand::parser& parser) {
  simdjson::ondemand::document document;
  if (parser.iterate(json).get(document)) fail("the on-demand parser refuses the header");
  uint64_t sum = 0;
  for (auto entry : document.get_object()) {
    std::string_view name;
    if (entry.unescaped_key().get(name)) fail("no key");
    if (name == "__metadata__") continue;
    for (auto field : entry.value().get_object()) {
      std::string_view key;
      if (field.unescaped_key().get(key)) fail("no key");
      if (key == "dtype") {
        std::string_view dtype;
        if (field.value().get_string().get(dtype)) fail("no dtype");
        sum += dtype.size();
        continue;
      }
      for (auto number : field.value().get_array()) {
        uint64_t value = 0;
        if (number.get_uint64().get(value)) fail("no number");
        sum += value;
      }
    }
  }
  return sum;
}

struct Rejection {
  double seconds = 0;
  uint64_t growth_nbytes = 0;
};

uint64_t peak_resident() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

// In a child of its own, so that the peak is that of this file alone.
Rejection reject(const std::string& path) {
  int ends[2];
  if (::pipe(ends) != 0) fail("no pipe");
  const pid_t child = ::fork();
  if (child == 0) {
    const uint64_t before = peak_resident();
    Rejection out;
    bool refused = false;
    const double begin = now(CLOCK_MONOTONIC);
    refused = !formats::open_checkpoint(system_files(), path).ok();
    out.seconds = now(CLOCK_MONOTONIC) - begin;
    out.growth_nbytes = peak_resident() - before;
    if (!refused) out.seconds = -1;
    const ssize_t written = ::write(ends[1], &out, sizeof(out));
    ::_exit(written == sizeof(out) ? 0 : 1);
  }
  Rejection out;
  int status = 0;
  const ssize_t got = ::read(ends[0], &out, sizeof(out));
  ::close(ends[0]);
  ::close(ends[1]);
  if (child < 0 || ::waitpid(child, &status, 0) != child || got != sizeof(out) || out.seconds < 0) {
    fail("a hostile file was not refused: " + path);
  }
  return out;
}

// Files just under 1 MB that are refused late: each is the worst for another part of the reader.
std::vector<std::pair<std::string, std::string>> hostile_files() {
  constexpr size_t kNbytes = 1'000'000;
  const auto repeat = [](const std::string& unit, size_t nbytes) {
    std::string out;
    while (out.size() + unit.size() <= nbytes) out += unit;
    return out;
  };
  std::string small = "{";
  for (size_t i = 0; small.size() < kNbytes - 120; ++i) {
    small += fmt::format(R"({}"{}":{{"dtype":"U8","shape":[],"data_offsets":[{},{}]}})",
                         i == 0 ? "" : ",", i, i, i + 1);
  }
  std::string gguf = "GGUF" + std::string("\3\0\0\0", 4);
  const uint64_t tensors = (kNbytes - 24) / 25;
  const uint64_t keys = 0;
  gguf += std::string(reinterpret_cast<const char*>(&tensors), 8);
  gguf += std::string(reinterpret_cast<const char*>(&keys), 8);
  for (uint64_t i = 0; gguf.size() + 30 < kNbytes; ++i) {
    const std::string name = fmt::format("{:x}", i);
    const uint64_t length = name.size();
    gguf += std::string(reinterpret_cast<const char*>(&length), 8) + name;
    gguf += std::string(16, '\0');  // rank 0, F32, offset 0: overlaps
  }
  return {
      {"brackets", file_of(repeat("[", kNbytes))},
      {"objects", file_of(repeat("{\"a\":", kNbytes))},
      {"tiny tensors, data missing", file_of(small + "}")},
      {"numbers", file_of("{\"a\":{\"shape\":[" + repeat("1,", kNbytes - 100) + "1]}}")},
      {"metadata", file_of("{\"__metadata__\":{" + repeat("\"a\":\"\",", kNbytes - 100) + "}}")},
      {"long name", file_of("{\"" + repeat("n", kNbytes - 100) + "\":{}}")},
      {"gguf tensors", gguf}};
}

}  // namespace

int main(int argc, char** argv) {
  const size_t tensors = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 70'000;
  const size_t rounds = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 15;
  bool passed = true;

  // Rejections first: a child's peak starts at what this process already holds.
  std::string rejections;
  for (const auto& [name, bytes] : hostile_files()) {
    const BenchFile file(bytes);
    const Rejection rejection = reject(file.path());
    const double growth =
        static_cast<double>(rejection.growth_nbytes) / static_cast<double>(bytes.size());
    passed = passed && rejection.seconds <= kMaxRejectSeconds && growth <= kMaxRejectGrowth;
    fmt::print(stderr, "rejecting {:28} {:7.4f} s, resident set + {:4.1f} times the header\n", name,
               rejection.seconds, growth);
    rejections += fmt::format(R"({}{{"file":"{}","seconds":{:.6f},"growth":{:.3f}}})",
                              rejections.empty() ? "" : ",", name, rejection.seconds, growth);
  }

  const std::string header = header_text(tensors);
  const BenchFile file(file_of(header), tensors * 12);
  const simdjson::padded_string json(header);
  Seconds ours, dom, on_demand;
  uint64_t sink = 0;
  for (size_t i = 0; i < rounds; ++i) {
    formats::SafetensorsHeader read;
    simdjson::dom::parser dom_parser;
    simdjson::ondemand::parser walker;
    timed(ours, [&] { read = read_file(file.path()); });
    timed(dom, [&] { parse_dom(json, dom_parser); });
    timed(on_demand, [&] { sink += walk_on_demand(json, walker); });
    if (read.tensors.size() != tensors) fail("tensors are missing");
  }
  const double to_dom = median(ours.cpu) / median(dom.cpu);
  const double to_on_demand = median(ours.cpu) / median(on_demand.cpu);
  passed = passed && std::max(to_dom, to_on_demand) <= kMaxRatio;
  fmt::print(stderr,
             "{} tensors, {} bytes, {} rounds in turn, medians of processor time (wall clock)\n"
             "  ours: read, checked, a tensor each  {:6.2f} ms ({:.2f})\n"
             "  simdjson DOM, parse alone           {:6.2f} ms ({:.2f})  ours/DOM {:.2f}\n"
             "  simdjson on demand, walk alone      {:6.2f} ms ({:.2f})  ours/on demand {:.2f}\n",
             tensors, header.size(), rounds, median(ours.cpu) * 1e3, median(ours.wall) * 1e3,
             median(dom.cpu) * 1e3, median(dom.wall) * 1e3, to_dom, median(on_demand.cpu) * 1e3,
             median(on_demand.wall) * 1e3, to_on_demand);
  fmt::print(R"({{"tensors":{},"header_nbytes":{},"rounds":{},"ours_cpu_seconds":{:.6f},)"
             R"("ours_wall_seconds":{:.6f},"simdjson_dom_cpu_seconds":{:.6f},)"
             R"("simdjson_dom_wall_seconds":{:.6f},"simdjson_on_demand_cpu_seconds":{:.6f},)"
             R"("simdjson_on_demand_wall_seconds":{:.6f},"ratio_dom":{:.3f},)"
             R"("ratio_on_demand":{:.3f},"rejections":[{}],"passed":{}}})"
             "\n",
             tensors, header.size(), rounds, median(ours.cpu), median(ours.wall), median(dom.cpu),
             median(dom.wall), median(on_demand.cpu), median(on_demand.wall), to_dom, to_on_demand,
             rejections, passed);
  return passed && sink != 1 ? 0 : 3;
}
