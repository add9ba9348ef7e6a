#include "runtime/tokenizer/added_tokens.hpp"

#include "runtime/tokenizer/unicode.hpp"

namespace loadstone::tokenizer {

void AddedTokenMatcher::add(const std::u32string& content, const AddedToken& token) {
  uint32_t node = 0;
  for (char32_t code : content) {
    auto [entry, fresh] = nodes_[node].next.try_emplace(code, static_cast<uint32_t>(nodes_.size()));
    node = entry->second;
    if (fresh) nodes_.emplace_back();
  }
  nodes_[node].id = static_cast<int32_t>(token.id);
  nodes_[node].left_strip = token.left_strip;
  nodes_[node].right_strip = token.right_strip;
}

std::vector<AddedTokenMatcher::Match> AddedTokenMatcher::find(std::u32string_view text) const {
  std::vector<Match> matches;
  size_t free_from = 0;  // end of the match before
  for (size_t at = 0; at < text.size();) {
    uint32_t node = 0;
    uint32_t best = 0;
    size_t end = at;
    for (size_t i = at; i < text.size(); ++i) {
      auto next = nodes_[node].next.find(text[i]);
      if (next == nodes_[node].next.end()) break;
      node = next->second;
      if (nodes_[node].id >= 0) {
        best = node;
        end = i + 1;
      }
    }
    if (best == 0) {
      ++at;
      continue;
    }
    size_t begin = at;
    if (nodes_[best].left_strip) {
      while (begin > free_from && is_space(text[begin - 1])) --begin;
    }
    if (nodes_[best].right_strip) {
      while (end < text.size() && is_space(text[end])) ++end;
    }
    matches.push_back({begin, end, nodes_[best].id});
    at = free_from = end;
  }
  return matches;
}

}  // namespace loadstone::tokenizer
