// Tokens that are found in the text before it is split into words.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace loadstone::tokenizer {

struct AddedToken {
  std::string content;
  int64_t id = -1;
  bool left_strip = false;   // takes the white space before it
  bool right_strip = false;  // and after it
  bool normalized = false;   // looked for in normalized text
};

/// Finds added tokens, leftmost first and longest of those that start there. Time is the text's
/// length times the longest token's, however many there are.
class AddedTokenMatcher {
 public:
  struct Match {
    size_t begin = 0, end = 0;  // in code points
    int32_t id = -1;
  };

  void add(const std::u32string& content, const AddedToken& token);
  bool empty() const { return nodes_.size() == 1; }
  std::vector<Match> find(std::u32string_view text) const;

 private:
  struct TrieNode {
    std::map<char32_t, uint32_t> next;
    int32_t id = -1;  // of the token that ends here
    bool left_strip = false, right_strip = false;
  };
  std::vector<TrieNode> nodes_{1};
};

}  // namespace loadstone::tokenizer
