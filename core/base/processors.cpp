#include "base/processors.hpp"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>
#include <thread>

#include "base/parallel.hpp"

namespace loadstone {
namespace detail {
namespace {

std::optional<long long> leading_integer(std::string_view text) {
  long long value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<unsigned> processors_of_cfs(std::string_view quota_text,
                                          std::string_view period_text) {
  const auto quota = leading_integer(quota_text);
  const auto period = leading_integer(period_text);
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  const long long processors = (*quota - 1) / *period + 1;
  return static_cast<unsigned>(std::min<long long>(processors, 1 << 16));
}

std::optional<unsigned> processors_of_cpu_max(std::string_view text) {
  const size_t blank = text.find(' ');
  if (blank == std::string_view::npos) return std::nullopt;
  return processors_of_cfs(text.substr(0, blank), text.substr(blank + 1));
}

}  // namespace detail

namespace {

std::string first_line(const std::string& path) {
  std::ifstream stream(path);
  std::string line;
  std::getline(stream, line);
  return line;
}

// The tightest quota between this process's cgroup and the root of the mount. Inside a container
// the path named by /proc may not be visible: then only the mount's root is asked.
unsigned quota_limit() {
  unsigned limit = ~0u;
  const auto note = [&](std::optional<unsigned> found) {
    if (found) limit = std::min(limit, *found);
  };
  std::string folder;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.starts_with("0::")) folder = line.substr(3);
  }
  while (true) {
    note(detail::processors_of_cpu_max(first_line("/sys/fs/cgroup" + folder + "/cpu.max")));
    if (folder.empty() || folder == "/") break;
    folder.resize(folder.find_last_of('/'));
  }
  note(detail::processors_of_cfs(first_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
                                 first_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us")));
  return limit;
}

unsigned affinity_count() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return std::thread::hardware_concurrency();
  return static_cast<unsigned>(CPU_COUNT(&set));
}

}  // namespace

unsigned usable_threads() { return std::max(1u, std::min(affinity_count(), quota_limit())); }

}  // namespace loadstone
