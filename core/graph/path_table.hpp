// Patterns over module paths, by segments: '*' is one whole segment, a leading "**." any number of
// leading ones. Looked up in time linear in the path; the most specific pattern wins (a literal
// segment over '*', a whole path over a "**." tail, a longer tail over a shorter one).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace loadstone::graph {

/// Segments of a path, by dots.
std::vector<std::string_view> split_path(std::string_view path);

struct PathHit {
  uint32_t value = 0;
  std::vector<std::string_view> captures;  // what each '*' stood for, in the pattern's order
};

class PathTable {
 public:
  /// False when the pattern is already there.
  bool add(std::string_view pattern, uint32_t value);
  std::optional<PathHit> find(std::string_view path) const;
  bool empty() const {
    return nodes_.size() == 2 && nodes_[0].next.empty() && nodes_[1].next.empty();
  }

 private:
  struct TreeNode {
    std::map<std::string, uint32_t, std::less<>> next;
    int32_t star = -1;
    int32_t value = -1;
  };
  bool walk(uint32_t node, const std::vector<std::string_view>& segments, size_t at,
            PathHit* hit) const;
  void walk_tail(uint32_t node, const std::vector<std::string_view>& segments, size_t left,
                 std::vector<std::string_view>* stars, PathHit* best, size_t* best_length) const;

  std::vector<TreeNode> nodes_ = std::vector<TreeNode>(2);  // 0: whole paths, 1: tails, reversed
};

/// `target` with its '*' replaced by captures in order.
std::string fill(std::string_view target, const std::vector<std::string_view>& captures);

}  // namespace loadstone::graph
