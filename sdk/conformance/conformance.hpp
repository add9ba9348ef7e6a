// The conformance kit: what makes a plugin a plugin, checked from outside.
//
// Each point runs in a process of its own, so that a plugin that crashes or hangs fails that point
// and nothing else; this process never loads foreign code.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/tree.hpp"

namespace loadstone::conformance {

struct Options {
  double seconds = 0;               // for all points together; 0: everything there is
  uint64_t seed = 1;                // of contents and cuttings
  std::string method;               // "": all methods of the plugin
  std::string checkpoint;           // a model whose layers are tried besides the kit's own
  std::string adapters;             // folder of model adapters, for the checkpoint
  std::vector<std::string> points;  // names of those to check; empty: all
  bool isolate = true;              // false: in this process (for debuggers)
  double hang_seconds = 600;        // beyond its share of `seconds` a point is ended
};

enum class Outcome : uint8_t { passed, failed, skipped };
std::string_view to_string(Outcome outcome);

/// One point for one method.
struct Point {
  std::string method;
  std::string name;
  std::string rule;  // what the point demands, one line
  Outcome outcome = Outcome::passed;
  std::string detail;  // why it failed or was skipped
  uint64_t cases = 0;
  double seconds = 0;
};

struct Report {
  std::string plugin, version, library;
  std::vector<Point> points;

  bool passed() const;
  Node to_node() const;
  /// A table for people, one line a point, and a last line with the counts.
  std::string text() const;
};

/// Checks FILE.so, whose manifest lies beside it. Errors: no such file, no or a bad manifest; what
/// the plugin itself does wrong is in the report.
Result<Report> check(const std::string& library, const Options& options = {});

}  // namespace loadstone::conformance
