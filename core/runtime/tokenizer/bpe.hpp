// Byte-level byte-pair encoding of one word.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace loadstone::tokenizer {

/// The visible character that byte-level vocabularies write for a byte: itself where it prints,
/// else U+0100 and up in byte order.
char32_t character_of_byte(uint8_t byte);

/// Vocabulary and merges. Ids are in [0, kMaxId]; every merge names three tokens that exist.
class Bpe {
 public:
  static constexpr int64_t kMaxId = (1 << 24) - 1;

  struct Options {
    bool ignore_merges = false;  // a word that is a token is taken whole
  };

  /// `merges` in order of rank. Errors: invalid_checkpoint for an id that is negative, too large
  /// or used twice, and for a merge whose parts or result are no tokens.
  static Result<Bpe> make(std::vector<std::pair<std::string, int64_t>> vocabulary,
                          std::span<const std::pair<std::string, std::string>> merges,
                          const Options& options);

  /// Appends the ids of a word given as UTF-8. O(n log n) in its bytes.
  /// Errors: invalid_checkpoint when the vocabulary has no token for a byte of it.
  Status encode(std::string_view word, std::vector<int32_t>& ids) const;

  /// The id of a token as the vocabulary spells it, or -1.
  int32_t id_of(std::string_view token) const;
  bool has_id(int32_t id) const { return ids_.contains(id); }
  int32_t max_id() const { return max_id_; }

 private:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };
  static uint64_t key(int32_t left, int32_t right) {
    return (static_cast<uint64_t>(left) << 32) | static_cast<uint32_t>(right);
  }

  std::unordered_map<std::string, int32_t> vocabulary_;
  std::unordered_set<int32_t> ids_;
  std::unordered_map<uint64_t, Merge> merges_;
  std::array<int32_t, 256> byte_ids_{};  // -1: no token
  Options options_;
  int32_t max_id_ = -1;
};

}  // namespace loadstone::tokenizer
