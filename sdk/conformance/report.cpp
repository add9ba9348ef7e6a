#include <fmt/format.h>

#include <algorithm>

#include "conformance/conformance.hpp"

namespace loadstone::conformance {

std::string_view to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::passed:
      return "passed";
    case Outcome::failed:
      return "failed";
    case Outcome::skipped:
      return "skipped";
  }
  return "failed";
}

bool Report::passed() const {
  return !points.empty() && std::none_of(points.begin(), points.end(), [](const Point& point) {
    return point.outcome == Outcome::failed;
  });
}

Node Report::to_node() const {
  std::vector<Node> list;
  for (const Point& point : points) {
    list.push_back(Node::of_map({{"method", Node::of_text(point.method)},
                                 {"name", Node::of_text(point.name)},
                                 {"rule", Node::of_text(point.rule)},
                                 {"outcome", Node::of_text(std::string(to_string(point.outcome)))},
                                 {"detail", Node::of_text(point.detail)},
                                 {"cases", Node::of_integer(static_cast<int64_t>(point.cases))},
                                 {"seconds", Node::of_number(point.seconds)}}));
  }
  return Node::of_map({{"plugin", Node::of_text(plugin)},
                       {"version", Node::of_text(version)},
                       {"library", Node::of_text(library)},
                       {"passed", Node::of_bool(passed())},
                       {"points", Node::of_list(std::move(list))}});
}

std::string Report::text() const {
  std::string out = fmt::format("{} {} ({})\n", plugin, version, library);
  size_t counts[3] = {};
  std::string method;
  for (const Point& point : points) {
    if (point.method != method) out += fmt::format("{}\n", method = point.method);
    ++counts[static_cast<size_t>(point.outcome)];
    out += fmt::format("  {:<8} {:<15} {:>5} cases {:>7.2f} s  {}\n", to_string(point.outcome),
                       point.name, point.cases, point.seconds, point.rule);
    if (!point.detail.empty()) out += fmt::format("           {}\n", point.detail);
  }
  return out + fmt::format("{} passed, {} failed, {} skipped\n", counts[0], counts[1], counts[2]);
}

}  // namespace loadstone::conformance
