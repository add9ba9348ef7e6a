#include "runtime/compare/memory_peak.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace loadstone::compare {

bool reset_memory_peak() {
  const int fd = ::open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool done = ::write(fd, "5", 1) == 1;  // 5: the peak resident set size (proc(5))
  ::close(fd);
  return done;
}

std::optional<double> memory_peak_mib() {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with("VmHWM:")) continue;
    std::istringstream rest(line.substr(6));
    double kib = 0;
    if (rest >> kib) return kib / 1024;
  }
  return std::nullopt;
}

}  // namespace loadstone::compare
