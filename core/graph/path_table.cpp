#include "graph/path_table.hpp"

#include <algorithm>

namespace loadstone::graph {

std::vector<std::string_view> split_path(std::string_view path) {
  std::vector<std::string_view> out;
  while (true) {
    size_t dot = path.find('.');
    out.push_back(path.substr(0, dot));
    if (dot == std::string_view::npos) return out;
    path.remove_prefix(dot + 1);
  }
}

bool PathTable::add(std::string_view pattern, uint32_t value) {
  uint32_t at = 0;
  const bool tail = pattern.substr(0, 3) == "**.";
  auto segments = split_path(tail ? pattern.substr(3) : pattern);
  if (tail) {
    at = 1;
    std::reverse(segments.begin(), segments.end());
  }
  for (std::string_view segment : segments) {
    const auto fresh = static_cast<uint32_t>(nodes_.size());
    uint32_t next = fresh;
    if (segment == "*") {
      if (nodes_[at].star >= 0) next = static_cast<uint32_t>(nodes_[at].star);
      nodes_[at].star = static_cast<int32_t>(next);
    } else {
      next = nodes_[at].next.emplace(segment, fresh).first->second;
    }
    if (next == fresh) nodes_.emplace_back();
    at = next;
  }
  if (nodes_[at].value >= 0) return false;
  nodes_[at].value = static_cast<int32_t>(value);
  return true;
}

bool PathTable::walk(uint32_t node, const std::vector<std::string_view>& segments, size_t at,
                     PathHit* hit) const {
  const TreeNode& here = nodes_[node];
  if (at == segments.size()) {
    if (here.value < 0) return false;
    hit->value = static_cast<uint32_t>(here.value);
    return true;
  }
  auto literal = here.next.find(segments[at]);
  if (literal != here.next.end() && walk(literal->second, segments, at + 1, hit)) return true;
  if (here.star < 0) return false;
  hit->captures.push_back(segments[at]);
  if (walk(static_cast<uint32_t>(here.star), segments, at + 1, hit)) return true;
  hit->captures.pop_back();
  return false;
}

void PathTable::walk_tail(uint32_t node, const std::vector<std::string_view>& segments, size_t left,
                          std::vector<std::string_view>* stars, PathHit* best,
                          size_t* best_length) const {
  const TreeNode& here = nodes_[node];
  const size_t length = segments.size() - left;
  if (here.value >= 0 && length > *best_length) {
    *best_length = length;
    best->value = static_cast<uint32_t>(here.value);
    best->captures.assign(stars->rbegin(), stars->rend());
  }
  if (left == 0) return;
  auto literal = here.next.find(segments[left - 1]);
  if (literal != here.next.end()) {
    walk_tail(literal->second, segments, left - 1, stars, best, best_length);
  }
  if (here.star >= 0) {
    stars->push_back(segments[left - 1]);
    walk_tail(static_cast<uint32_t>(here.star), segments, left - 1, stars, best, best_length);
    stars->pop_back();
  }
}

std::optional<PathHit> PathTable::find(std::string_view path) const {
  const auto segments = split_path(path);
  PathHit hit;
  if (walk(0, segments, 0, &hit)) return hit;
  hit.captures.clear();
  std::vector<std::string_view> stars;
  size_t length = 0;
  walk_tail(1, segments, segments.size(), &stars, &hit, &length);
  if (length > 0) return hit;
  return std::nullopt;
}

std::string fill(std::string_view target, const std::vector<std::string_view>& captures) {
  std::string out;
  size_t next = 0;
  for (char c : target) {
    if (c == '*' && next < captures.size()) {
      out += captures[next++];
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace loadstone::graph
