// Logging to stderr through spdlog, without its header.
#pragma once

#include <string_view>

namespace loadstone::log {

enum class Level { debug, info, warning, error };

void write(Level level, std::string_view text);
void set_level(Level level);
inline void debug(std::string_view text) { write(Level::debug, text); }
inline void info(std::string_view text) { write(Level::info, text); }
inline void warning(std::string_view text) { write(Level::warning, text); }

}  // namespace loadstone::log
