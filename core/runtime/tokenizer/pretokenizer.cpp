#include "runtime/tokenizer/pretokenizer.hpp"

#include "base/text.hpp"
#include "runtime/tokenizer/unicode.hpp"

namespace loadstone::tokenizer {
namespace {

constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

bool is_break(char32_t c) { return c == '\r' || c == '\n'; }
bool is_symbol(char32_t c) { return !is_space(c) && !is_letter(c) && !is_number(c); }

/// Simple case folding, as far as the contractions' letters go: U+017F (long s) folds to s.
char32_t folded(char32_t c) {
  if (c >= 'A' && c <= 'Z') return c + 0x20;
  return c == 0x17F ? U's' : c;
}

class Scanner {
 public:
  explicit Scanner(std::u32string_view text) : text_(text) {}

  /// End of the word that starts at `at` (< size). Alternatives in the pattern's order.
  size_t word_end(size_t at) {
    if (size_t end = contraction(at)) return end;
    if (size_t end = letters(at)) return end;
    if (is_number(text_[at])) return at + 1;
    if (size_t end = symbols(at)) return end;
    return blanks(at);
  }

 private:
  size_t contraction(size_t at) const {
    if (text_[at] != '\'' || at + 1 >= text_.size()) return 0;
    const char32_t first = folded(text_[at + 1]);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
    if (at + 2 >= text_.size()) return 0;
    const char32_t second = folded(text_[at + 2]);
    const bool two = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
                     (first == 'l' && second == 'l');
    return two ? at + 3 : 0;
  }

  size_t letters(size_t at) const {
    size_t end = at;
    if (!is_letter(text_[at])) {
      if (is_break(text_[at]) || is_number(text_[at])) return 0;
      ++end;
    }
    const size_t first = end;
    while (end < text_.size() && is_letter(text_[end])) ++end;
    return end > first ? end : 0;
  }

  size_t symbols(size_t at) const {
    size_t end = text_[at] == ' ' ? at + 1 : at;
    const size_t first = end;
    while (end < text_.size() && is_symbol(text_[end])) ++end;
    if (end == first) return 0;
    while (end < text_.size() && is_break(text_[end])) ++end;
    return end;
  }

  /// At white space: through its last line break; else all but the last blank before a word; else
  /// all of it.
  size_t blanks(size_t at) {
    // A run is measured once: runs of blanks before symbols come back one character later.
    if (run_end_ <= at) {
      run_end_ = at;
      last_break_ = 0;
      while (run_end_ < text_.size() && is_space(text_[run_end_])) {
        if (is_break(text_[run_end_])) last_break_ = run_end_ + 1;
        ++run_end_;
      }
    }
    if (last_break_ > at) return last_break_;
    if (run_end_ < text_.size() && run_end_ - at > 1) return run_end_ - 1;
    return run_end_;
  }

  std::u32string_view text_;
  size_t run_end_ = 0;     // of the white space last measured
  size_t last_break_ = 0;  // behind its last line break; 0: none
};

}  // namespace

std::vector<size_t> split_qwen2(std::u32string_view text) {
  std::vector<size_t> ends;
  Scanner scanner(text);
  for (size_t at = 0; at < text.size();) {
    at = scanner.word_end(at);
    ends.push_back(at);
  }
  return ends;
}

Result<Splitter> splitter_of(std::string_view pattern) {
  if (pattern == kQwen2Pattern) return Splitter{&split_qwen2};
  return Error{Code::unsupported,
               "pre-tokenizer pattern is not known",
               "",
               "found " + quoted(pattern) + ", expected " + quoted(kQwen2Pattern, 300),
               "",
               {}};
}

}  // namespace loadstone::tokenizer
