#include "runtime/tokenizer/tokenizer.hpp"

#include <algorithm>
#include <unordered_map>

#include "base/text.hpp"
#include "runtime/tokenizer/unicode.hpp"

namespace loadstone::tokenizer {
namespace {

Error bad_token(const AddedToken& token, std::string found, std::string expected) {
  return Error{Code::invalid_checkpoint,
               "added token rejected",
               quoted(token.content),
               "found " + std::move(found) + ", expected " + std::move(expected),
               "",
               {}};
}

/// Calls outside(text between matches) and inside(id) in the text's order.
template <typename Outside, typename Inside>
Status walk(const AddedTokenMatcher& matcher, std::u32string_view text, Outside outside,
            Inside inside) {
  size_t at = 0;
  for (const auto& match : matcher.find(text)) {
    if (match.begin > at) LS_CHECK(outside(text.substr(at, match.begin - at)));
    inside(match.id);
    at = match.end;
  }
  if (at < text.size()) LS_CHECK(outside(text.substr(at)));
  return {};
}

}  // namespace

Result<Tokenizer> Tokenizer::make(Parts parts) {
  Tokenizer out(std::move(parts.bpe));
  out.split_ = parts.split;
  out.nfc_ = parts.nfc;
  out.max_id_ = out.bpe_.max_id();
  std::unordered_map<int64_t, std::string> owners;
  for (const AddedToken& token : parts.added) {
    if (token.content.empty()) {
      return bad_token(token, "an empty token", "at least one character");
    }
    if (token.id < 0 || token.id > Bpe::kMaxId) {
      return bad_token(token, "id " + std::to_string(token.id),
                       "0 to " + std::to_string(Bpe::kMaxId));
    }
    const int32_t known = out.bpe_.id_of(token.content);
    if (known >= 0 && known != token.id) {
      return bad_token(token, "id " + std::to_string(token.id),
                       std::to_string(known) + " as in the vocabulary");
    }
    if (known < 0 && out.bpe_.has_id(static_cast<int32_t>(token.id))) {
      return bad_token(token, "id " + std::to_string(token.id) + " of another token",
                       "an id of its own");
    }
    auto [owner, fresh] = owners.emplace(token.id, token.content);
    if (!fresh && owner->second != token.content) {
      return bad_token(token, "id " + std::to_string(token.id) + " of " + quoted(owner->second),
                       "an id of its own");
    }
    LS_TRY(std::u32string content, decode_utf8(token.content));
    if (token.normalized) {
      out.normalized_matcher_.add(out.nfc_ ? to_nfc(content) : content, token);
    } else {
      out.raw_matcher_.add(content, token);
    }
    out.max_id_ = std::max(out.max_id_, static_cast<int32_t>(token.id));
  }
  return out;
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text) const {
  if (text.size() > kMaxTextBytes) {
    return Error{
        Code::invalid_argument,
        "text is too long",
        "",
        "found " + human_nbytes(text.size()) + ", expected at most " + human_nbytes(kMaxTextBytes),
        "",
        {}};
  }
  LS_TRY(std::u32string codes, decode_utf8(text));
  std::vector<int32_t> ids;
  LS_CHECK(walk(
      raw_matcher_, codes, [&](std::u32string_view part) { return encode_raw(part, ids); },
      [&](int32_t id) { ids.push_back(id); }));
  return ids;
}

Status Tokenizer::encode_raw(std::u32string_view text, std::vector<int32_t>& ids) const {
  // Normal form applies between added tokens, never across them.
  const std::u32string normal = nfc_ ? to_nfc(text) : std::u32string(text);
  if (normalized_matcher_.empty()) return encode_words(normal, ids);
  return walk(
      normalized_matcher_, normal,
      [&](std::u32string_view part) { return encode_words(part, ids); },
      [&](int32_t id) { ids.push_back(id); });
}

Status Tokenizer::encode_words(std::u32string_view text, std::vector<int32_t>& ids) const {
  size_t at = 0;
  std::string word;
  for (size_t end : split_(text)) {
    word.clear();
    for (; at < end; ++at) append_utf8(text[at], word);
    LS_CHECK(bpe_.encode(word, ids));
  }
  return {};
}

}  // namespace loadstone::tokenizer
