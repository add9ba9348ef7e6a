#include "runtime/tokenizer/bpe.hpp"

#include <algorithm>
#include <queue>

#include "base/text.hpp"
#include "runtime/tokenizer/unicode.hpp"

namespace loadstone::tokenizer {
namespace {

Error bad(std::string message, std::string detail) {
  return Error{Code::invalid_checkpoint, std::move(message), "", std::move(detail), "", {}};
}

std::string token_of_byte(uint8_t byte) {
  std::string token;
  append_utf8(character_of_byte(byte), token);
  return token;
}

struct Symbol {
  int32_t id;
  int32_t previous, next;  // indices, -1: none
};

/// A pair that could merge. Stale once either side has merged otherwise: `result` tells.
struct Candidate {
  uint32_t rank;
  int32_t left;  // index of the left symbol
  int32_t result;
  /// Lowest rank first, then leftmost.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

}  // namespace

char32_t character_of_byte(uint8_t byte) {
  auto prints = [](uint32_t b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
  };
  if (prints(byte)) return byte;
  char32_t next = 0x100;
  for (uint32_t b = 0; b < byte; ++b) next += prints(b) ? 0 : 1;
  return next;
}

Result<Bpe> Bpe::make(std::vector<std::pair<std::string, int64_t>> vocabulary,
                      std::span<const std::pair<std::string, std::string>> merges,
                      const Options& options) {
  Bpe bpe;
  bpe.options_ = options;
  bpe.ids_.reserve(vocabulary.size());
  bpe.vocabulary_.reserve(vocabulary.size());
  for (auto& [token, id] : vocabulary) {
    if (id < 0 || id > kMaxId) {
      return bad("token id out of range", "found " + std::to_string(id) + " for " + quoted(token) +
                                              ", expected 0 to " + std::to_string(kMaxId));
    }
    if (!bpe.ids_.insert(static_cast<int32_t>(id)).second) {
      return bad("duplicate token id", "found " + std::to_string(id) + " for " + quoted(token) +
                                           " and another token, expected it once");
    }
    bpe.max_id_ = std::max(bpe.max_id_, static_cast<int32_t>(id));
    if (!bpe.vocabulary_.emplace(token, static_cast<int32_t>(id)).second) {
      return bad("duplicate token", "found " + quoted(token) + " twice, expected it once");
    }
  }
  for (uint32_t byte = 0; byte < 256; ++byte) {
    bpe.byte_ids_[byte] = bpe.id_of(token_of_byte(static_cast<uint8_t>(byte)));
  }
  bpe.merges_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const int32_t a = bpe.id_of(left), b = bpe.id_of(right), joined = bpe.id_of(left + right);
    if (a < 0 || b < 0 || joined < 0) {
      const std::string& missing = a < 0 ? left : b < 0 ? right : left + right;
      return bad("merge names no token", "found " + quoted(missing) + " in merge " +
                                             std::to_string(rank + 1) +
                                             ", expected a token of the vocabulary");
    }
    // A pair listed twice takes its later rank, as in the library that wrote the file.
    bpe.merges_.insert_or_assign(key(a, b), Merge{static_cast<uint32_t>(rank), joined});
  }
  return bpe;
}

int32_t Bpe::id_of(std::string_view token) const {
  auto found = vocabulary_.find(std::string(token));
  return found == vocabulary_.end() ? -1 : found->second;
}

Status Bpe::encode(std::string_view word, std::vector<int32_t>& ids) const {
  if (options_.ignore_merges) {
    std::string token;
    for (char c : word) append_utf8(character_of_byte(static_cast<uint8_t>(c)), token);
    if (int32_t id = id_of(token); id >= 0) {
      ids.push_back(id);
      return {};
    }
  }
  const auto count = static_cast<int32_t>(word.size());
  std::vector<Symbol> symbols(word.size());
  for (int32_t i = 0; i < count; ++i) {
    const auto byte = static_cast<uint8_t>(word[static_cast<size_t>(i)]);
    if (byte_ids_[byte] < 0) {
      return bad("no token for a byte", "found byte " + std::to_string(byte) +
                                            " in the text, expected a vocabulary with " +
                                            quoted(token_of_byte(byte)));
    }
    symbols[static_cast<size_t>(i)] = {byte_ids_[byte], i - 1, i + 1 < count ? i + 1 : -1};
  }

  std::priority_queue<Candidate> queue;
  auto at = [&](int32_t index) -> Symbol& { return symbols[static_cast<size_t>(index)]; };
  auto offer = [&](int32_t left) {
    if (left < 0 || at(left).next < 0) return;
    auto found = merges_.find(key(at(left).id, at(at(left).next).id));
    if (found != merges_.end()) queue.push({found->second.rank, left, found->second.id});
  };
  for (int32_t i = 0; i + 1 < count; ++i) offer(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = at(best.left);
    if (left.id < 0 || left.next < 0) continue;
    Symbol& right = at(left.next);
    auto found = merges_.find(key(left.id, right.id));
    if (found == merges_.end() || found->second.id != best.result ||
        found->second.rank != best.rank) {
      continue;
    }
    left.id = best.result;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) at(left.next).previous = best.left;
    offer(left.previous);
    offer(best.left);
  }
  for (int32_t i = 0; i >= 0 && i < count; i = at(i).next) ids.push_back(at(i).id);
  return {};
}

}  // namespace loadstone::tokenizer
