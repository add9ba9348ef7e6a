// Progress on stderr: one line that is rewritten on a terminal; elsewhere a plain line when a phase
// starts and ends, and every few seconds between.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/progress.hpp"

namespace loadstone::cli {

class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();  // leaves a clean line behind
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  /// Refers to this object.
  ProgressSink sink();
  /// Removes the bar from the terminal, so that other text can be written.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  void show(const ProgressEvent& event);
  void draw(const ProgressEvent& event);
  std::string text_of(const ProgressEvent& event) const;

  bool terminal_;
  bool drawn_ = false;
  bool ended_ = false;  // this phase's last line has been written
  std::string phase_;
  Clock::time_point phase_start_, last_;
};

}  // namespace loadstone::cli
