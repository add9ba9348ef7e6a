#include "config/load_io.hpp"

#include <vector>

#include "base/text.hpp"

namespace loadstone::config {

Result<bool> parse_load_io(const std::string& name) {
  if (name == "pread" || name == "map") return name == "map";
  const std::vector<std::string> names{"pread", "map"};
  const std::string hint = nearest(name, names);
  return Error{Code::invalid_config, "unknown way to read", "load.io",
               "found " + quoted(name) + ", expected pread or map",
               hint.empty() ? "" : quoted(hint)};
}

}  // namespace loadstone::config
