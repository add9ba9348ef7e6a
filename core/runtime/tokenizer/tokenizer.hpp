// Byte-level BPE tokenizer of the Qwen2 kind: added tokens, normal form C, the pre-tokenizer's
// words, merges. Torch-free.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.hpp"
#include "base/result.hpp"
#include "runtime/tokenizer/added_tokens.hpp"
#include "runtime/tokenizer/bpe.hpp"
#include "runtime/tokenizer/pretokenizer.hpp"

namespace loadstone::tokenizer {

class Tokenizer {
 public:
  static constexpr size_t kMaxTextBytes = size_t{64} << 20;

  /// Opens a folder with tokenizer.json, or with vocab.json and merges.txt (then added tokens come
  /// from tokenizer_config.json). Errors: not_found; invalid_checkpoint for damaged files;
  /// unsupported for a tokenizer of another kind.
  static Result<Tokenizer> open(FileSystem& files, const std::string& folder);

  struct Parts {
    Bpe bpe;
    std::vector<AddedToken> added;
    Splitter split = nullptr;
    bool nfc = false;
  };
  /// Errors: invalid_checkpoint for an added token that is empty or whose id is out of range or
  /// another token's.
  static Result<Tokenizer> make(Parts parts);

  /// Ids of UTF-8 text; added tokens inside it are recognised, none are put around it.
  /// Errors: invalid_argument for text that is not UTF-8 or longer than kMaxTextBytes.
  Result<std::vector<int32_t>> encode(std::string_view text) const;

  /// The largest id that encode can return: what an embedding must have a row for.
  int32_t max_id() const { return max_id_; }

 private:
  explicit Tokenizer(Bpe bpe) : bpe_(std::move(bpe)) {}
  Status encode_raw(std::u32string_view text, std::vector<int32_t>& ids) const;
  Status encode_words(std::u32string_view text, std::vector<int32_t>& ids) const;

  Bpe bpe_;
  AddedTokenMatcher raw_matcher_;         // added tokens looked for in the text as given
  AddedTokenMatcher normalized_matcher_;  // and in normalized text
  Splitter split_ = nullptr;
  bool nfc_ = false;
  int32_t max_id_ = -1;
};

}  // namespace loadstone::tokenizer
