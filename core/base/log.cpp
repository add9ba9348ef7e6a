#include "base/log.hpp"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <cstdlib>
#include <memory>

namespace loadstone::log {
namespace {

spdlog::sink_ptr stderr_sink() {
  const char* no_color = std::getenv("NO_COLOR");
  if (no_color != nullptr && *no_color != '\0') {
    return std::make_shared<spdlog::sinks::stderr_sink_mt>();
  }
  return std::make_shared<spdlog::sinks::stderr_color_sink_mt>();  // colours on a terminal only
}

// A logger of our own, outside spdlog's registry: an embedding program keeps its settings.
spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    spdlog::logger made("loadstone", stderr_sink());
    made.set_pattern("%^%l%$: %v");
    made.set_level(spdlog::level::info);
    made.flush_on(spdlog::level::trace);
    return made;
  }();
  return instance;
}

spdlog::level::level_enum level_of(Level level) {
  switch (level) {
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warning:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

}  // namespace

void write(Level level, std::string_view text) {
  logger().log(level_of(level), spdlog::string_view_t(text.data(), text.size()));
}

void set_level(Level level) { logger().set_level(level_of(level)); }

}  // namespace loadstone::log
