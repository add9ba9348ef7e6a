#include "progress_line.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.hpp"
#include "terminal.hpp"

namespace loadstone::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto kRedraw = 100ms;
constexpr auto kPlainEvery = 5s;
constexpr unsigned kBarWidth = 24;

std::string amount(const ProgressEvent& event) {
  if (event.unit == "bytes") {
    return fmt::format("{} of {}", human_nbytes(event.done), human_nbytes(event.total));
  }
  return fmt::format("{} of {} {}", event.done, event.total, event.unit);
}

double share(const ProgressEvent& event) {
  if (event.total == 0) return 0;
  return std::min(1.0, static_cast<double>(event.done) / static_cast<double>(event.total));
}

std::string bar(double done) {
  const auto full = static_cast<unsigned>(done * kBarWidth);
  std::string out;
  for (unsigned i = 0; i < kBarWidth; ++i) out += i < full ? "█" : "░";
  return out;
}

}  // namespace

ProgressLine::ProgressLine() : terminal_(is_terminal(Stream::err)) {}

ProgressLine::~ProgressLine() { clear(); }

ProgressSink ProgressLine::sink() {
  return [this](const ProgressEvent& event) { show(event); };
}

void ProgressLine::clear() {
  if (drawn_) write_err("\r\x1b[K");
  drawn_ = false;
}

std::string ProgressLine::text_of(const ProgressEvent& event) const {
  const double seconds = std::chrono::duration<double>(Clock::now() - phase_start_).count();
  return fmt::format("{}: {}, {:.1f} s", escaped(event.phase), amount(event), seconds);
}

void ProgressLine::draw(const ProgressEvent& event) {
  std::string line = fmt::format("{} {}", bar(share(event)), text_of(event));
  const size_t room = width_of(Stream::err);
  if (columns_of(line) >= room) line = text_of(event).substr(0, room > 0 ? room - 1 : 0);
  write_err("\r" + line + "\x1b[K");
  drawn_ = true;
}

void ProgressLine::show(const ProgressEvent& event) {
  const auto now = Clock::now();
  const bool starts = event.phase != phase_;
  const bool ends = event.total > 0 && event.done >= event.total;
  if (starts) {
    clear();
    phase_ = event.phase;
    phase_start_ = now;
    ended_ = false;
  }
  const auto pause = terminal_ ? std::chrono::duration_cast<Clock::duration>(kRedraw)
                               : std::chrono::duration_cast<Clock::duration>(kPlainEvery);
  if (ended_ || (!starts && !ends && now - last_ < pause)) return;
  if (starts && !ends) last_ = now;
  if (terminal_) {
    draw(event);
  } else if (!starts || ends) {
    write_err(text_of(event) + "\n");
  }
  last_ = now;
  ended_ = ends;
}

}  // namespace loadstone::cli
