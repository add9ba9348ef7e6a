#include "config/pattern.hpp"

#include <re2/re2.h>
#include <re2/set.h>

#include <algorithm>
#include <charconv>

#include "base/text.hpp"

namespace loadstone::config {
namespace {

constexpr uint64_t kMaxRange = 4096;
constexpr size_t kMaxPatternNbytes = 4096;
constexpr size_t kMaxSourceNbytes = 65536;
constexpr size_t kPatternsPerAutomaton = 128;
constexpr int64_t kMaxAutomatonNbytes = 64 << 20;

Error bad_pattern(std::string_view pattern, std::string detail) {
  return Error{
      Code::invalid_config, "pattern rejected", quoted(pattern), std::move(detail), "", {}};
}

/// A pattern of a few bytes may stand for thousands of alternatives.
Status check_nbytes(std::string_view pattern, std::string_view source) {
  if (pattern.size() > kMaxPatternNbytes) {
    return bad_pattern(pattern, "found " + std::to_string(pattern.size()) +
                                    " bytes, expected at most " +
                                    std::to_string(kMaxPatternNbytes));
  }
  if (source.size() > kMaxSourceNbytes) {
    return bad_pattern(pattern, "found " + std::to_string(source.size()) +
                                    " bytes of alternatives, expected at most " +
                                    std::to_string(kMaxSourceNbytes));
  }
  return {};
}

RE2::Options options() {
  RE2::Options made(RE2::Latin1);
  made.set_log_errors(false);
  made.set_max_mem(kMaxAutomatonNbytes);
  made.set_dot_nl(true);
  return made;
}

bool parse_decimal(std::string_view text, uint64_t* value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

/// "{0..59}" without braces → alternatives.
Result<std::string> range_regex(std::string_view glob, std::string_view body, size_t dots) {
  uint64_t low{}, high{};
  if (!parse_decimal(body.substr(0, dots), &low) || !parse_decimal(body.substr(dots + 2), &high)) {
    return bad_pattern(glob, "found range " + quoted(body) + ", expected two decimal integers");
  }
  if (high - low >= kMaxRange) {  // a descending one is huge
    return bad_pattern(glob, "found range " + quoted(body) + ", expected at most " +
                                 std::to_string(kMaxRange) + " ascending integers");
  }
  std::string out = "(?:";
  for (uint64_t i = low; i <= high; ++i) out += (i == low ? "" : "|") + std::to_string(i);
  return out + ")";
}

/// The text up to the bracket that closes `glob[at]`, or npos.
size_t closing(std::string_view glob, size_t at, char close) {
  return glob.find(close, at + (close == ']' ? 2 : 1));  // "[]a]": a class is never empty
}

Result<std::string> braces_regex(std::string_view glob, std::string_view body) {
  size_t dots = body.find("..");
  if (dots != std::string_view::npos && body.find(',') == std::string_view::npos) {
    return range_regex(glob, body, dots);
  }
  std::string out = "(?:";
  for (size_t begin = 0;;) {
    size_t comma = std::min(body.find(',', begin), body.size());
    LS_TRY(std::string one, glob_to_regex(body.substr(begin, comma - begin)));
    out += one;
    if (comma == body.size()) return out + ")";
    out += "|";
    begin = comma + 1;
  }
}

/// "[!a-c]" without brackets → a regex class.
std::string class_regex(std::string_view body) {
  std::string out = "[";
  if (body[0] == '!' || body[0] == '^') {
    out += "^";
    body.remove_prefix(1);
  }
  for (char c : body) out += c == '-' ? "-" : RE2::QuoteMeta(re2::StringPiece(&c, 1));
  return out + "]";
}

/// The whole segments, at most two, that all matches begin with: "blocks.3." of "blocks.3.attn.*".
std::string beginning_of_glob(std::string_view glob) {
  static const RE2 kSegments(R"(((?:[^.*?[{]*\.){1,2}).*)", options());
  std::string out;
  RE2::FullMatch(re2::StringPiece(glob.data(), glob.size()), kSegments, &out);
  return out;
}

/// The same of an expression: "blocks.3." of "blocks\.3\.attn.*"; none where it has alternatives.
std::string beginning_of_regex(std::string_view expression) {
  static const RE2 kSegments(R"(\^?((?:\w+\\\.){1,2})(?:[^|*+?{][^|]*)?)", options());
  std::string out;
  RE2::FullMatch(re2::StringPiece(expression.data(), expression.size()), kSegments, &out);
  std::erase(out, '\\');
  return out;
}

/// Calls visit(begin, end) for each run of at most `longest` whole segments of `name`.
template <typename Visit>
void for_each_run(std::string_view name, size_t longest, Visit visit) {
  for (size_t begin = 0; begin != std::string_view::npos;) {
    size_t end = begin;
    for (size_t length = 1; length <= longest && end != std::string_view::npos; ++length) {
      end = name.find('.', length == 1 ? begin : end + 1);
      visit(begin, end == std::string_view::npos ? name.size() : end);
    }
    size_t dot = name.find('.', begin);
    begin = dot == std::string_view::npos ? dot : dot + 1;
  }
}

}  // namespace

bool is_pattern(std::string_view text) {
  return text.substr(0, 3) == "re:" || text.find_first_of("*?[{") != std::string_view::npos;
}

Result<std::string> glob_to_regex(std::string_view glob) {
  std::string out;
  for (size_t i = 0; i < glob.size(); ++i) {
    char c = glob[i];
    if (c == '*') {
      out += ".*";
    } else if (c == '?') {
      out += '.';
    } else if (c == '[' || c == '{') {
      size_t end = closing(glob, i, c == '[' ? ']' : '}');
      if (end == std::string_view::npos) {
        return bad_pattern(glob, "found " + quoted(std::string(1, c)) +
                                     " without its end, expected a closing bracket");
      }
      std::string_view body = glob.substr(i + 1, end - i - 1);
      if (c == '[') {
        out += class_regex(body);
      } else {
        LS_TRY(std::string inner, braces_regex(glob, body));
        out += inner;
      }
      i = end;
    } else {
      out += RE2::QuoteMeta(re2::StringPiece(&c, 1));
    }
  }
  return out;
}

Status check_pattern(std::string_view text) {
  if (text.empty()) return bad_pattern(text, "found nothing, expected a name or a pattern");
  const bool regex = text.substr(0, 3) == "re:";
  // Only a class of a glob can give a regular expression that RE2 refuses.
  if (regex || text.find('[') != std::string_view::npos) {
    PatternSet probe;
    return probe.add_layer(text, {});
  }
  if (!is_pattern(text)) return {};
  LS_TRY(std::string source, glob_to_regex(text));
  return check_nbytes(text, source);
}

bool glob_matches(std::string_view glob, std::string_view text) {
  const auto source = glob_to_regex(glob);
  return source.ok() &&
         RE2::FullMatch(re2::StringPiece(text.data(), text.size()), RE2(*source, options()));
}

struct PatternSet::Automaton {
  Automaton() : set(options(), RE2::ANCHOR_BOTH) {}

  void match(std::string_view text, std::vector<uint32_t>* out) const {
    std::vector<int> hits;
    // Compile refuses what twenty states of don't fit its memory, so a search can't run out of it.
    set.Match(re2::StringPiece(text.data(), text.size()), &hits);
    for (int hit : hits) out->push_back(ids[static_cast<size_t>(hit)]);
  }

  RE2::Set set;
  std::vector<uint32_t> ids;
};

PatternSet::PatternSet() = default;
PatternSet::~PatternSet() = default;
PatternSet::PatternSet(PatternSet&&) noexcept = default;
PatternSet& PatternSet::operator=(PatternSet&&) noexcept = default;

void PatternSet::add_exact(std::string_view name, uint32_t id) {
  exact_[std::string(name)].push_back(id);
}
void PatternSet::add_segments(std::string_view entry, uint32_t id) {
  add_run(&segments_, entry, id);
}
void PatternSet::add_prefix(std::string_view entry, uint32_t id) { add_run(&leading_, entry, id); }
void PatternSet::add_suffix(std::string_view entry, uint32_t id) { add_run(&trailing_, entry, id); }

void PatternSet::add_run(Table* table, std::string_view entry, uint32_t id) {
  (*table)[std::string(entry)].push_back(id);
  size_t segments = 1 + static_cast<size_t>(std::count(entry.begin(), entry.end(), '.'));
  longest_run_ = std::max(longest_run_, segments);
}

Status PatternSet::add_source(Automata& automata, std::string_view pattern, std::string source,
                              uint32_t id, std::string_view expected) {
  LS_CHECK(check_nbytes(pattern, source));
  if (automata.empty() || automata.back()->ids.size() == kPatternsPerAutomaton) {
    automata.push_back(std::make_unique<Automaton>());
  }
  Automaton& automaton = *automata.back();
  std::string error;
  if (automaton.set.Add(source, &error) < 0) {
    return bad_pattern(pattern, "found " + escaped(error) + ", expected " + std::string(expected));
  }
  automaton.ids.push_back(id);
  return {};
}

Status PatternSet::add_glob(std::string_view glob, uint32_t id) {
  LS_TRY(std::string source, glob_to_regex(glob));
  const std::string beginning = beginning_of_glob(glob);
  Automata& automata = !beginning.empty()      ? beginning_[beginning]
                       : glob.starts_with('*') ? starred_
                                               : others_;
  return add_source(automata, glob, std::move(source), id, "a glob");
}

Status PatternSet::add_regex(std::string_view expression, uint32_t id, bool search) {
  // A stray ')' must not close our own group.
  LS_CHECK(check_nbytes(expression, expression));
  const std::string expected =
      "a regular expression in RE2 syntax (no look-around, no back-references)";
  RE2::Set alone(options(), RE2::ANCHOR_BOTH);  // only parses
  std::string error;
  if (alone.Add(re2::StringPiece(expression.data(), expression.size()), &error) < 0) {
    return bad_pattern(expression, "found " + escaped(error) + ", expected " + expected);
  }
  std::string source = (search ? ".*(?:" : "(?:") + std::string(expression) + ").*";
  const std::string beginning = search ? "" : beginning_of_regex(expression);
  Automata& automata = beginning.empty() ? others_ : beginning_[beginning];
  return add_source(automata, expression, std::move(source), id, expected);
}

Status PatternSet::add_layer(std::string_view text, uint32_t id) {
  if (text.substr(0, 3) == "re:") return add_regex(text.substr(3), id);
  if (is_pattern(text)) return add_glob(text, id);
  add_exact(text, id);
  return {};
}

Status PatternSet::add_entry(std::string_view text, uint32_t id) {
  if (text.substr(0, 3) == "re:") return add_regex(text.substr(3), id);
  if (is_pattern(text)) return add_glob(text, id);
  add_segments(text, id);
  return {};
}

Status PatternSet::compile() {
  std::vector<Automata*> all = {&starred_, &others_};
  for (auto& [beginning, automata] : beginning_) all.push_back(&automata);
  for (Automata* automata : all) {
    for (const auto& automaton : *automata) {
      if (automaton->set.Compile()) continue;
      return Error{Code::resource,
                   "patterns rejected",
                   "",
                   "found patterns that need more than " + human_nbytes(kMaxAutomatonNbytes) +
                       ", expected smaller ones",
                   "",
                   {}};
    }
  }
  return {};
}

void PatternSet::match(std::string_view component, std::string_view name,
                       std::vector<uint32_t>* ids) const {
  ids->clear();
  const std::string prefix = component.empty() ? "" : std::string(component) + ".";
  const bool prefixed = name.substr(0, prefix.size()) == prefix;
  const std::string whole = prefixed ? std::string(name) : prefix + std::string(name);
  const std::string_view full = whole;
  const std::string_view inner = full.substr(prefix.size());
  auto collect = [&](const Table& table, std::string_view key) {
    auto found = table.find(key);
    if (found != table.end()) ids->insert(ids->end(), found->second.begin(), found->second.end());
  };
  collect(exact_, full);
  if (!prefix.empty()) collect(exact_, inner);
  for_each_run(full, longest_run_, [&](size_t begin, size_t end) {
    if (end + 1 == prefix.size()) return;  // the component's name alone
    std::string_view run = full.substr(begin, end - begin);
    collect(segments_, run);
    if (begin == 0 || begin == prefix.size()) collect(leading_, run);
    if (end == full.size()) collect(trailing_, run);
  });
  const auto run = [&](const Automata& automata, std::string_view text) {
    for (const auto& automaton : automata) automaton->match(text, ids);
  };
  for (const Automata* automata : {&starred_, &others_}) run(*automata, full);
  if (!prefix.empty()) run(others_, inner);
  for (const std::string_view text : {full, inner}) {
    const size_t first = text.find('.');
    for (const size_t dot : {first, text.find('.', first + 1)}) {
      const auto found = beginning_.find(text.substr(0, dot + 1));
      if (found != beginning_.end()) run(found->second, text);
    }
  }
  std::sort(ids->begin(), ids->end());
  ids->erase(std::unique(ids->begin(), ids->end()), ids->end());
}

}  // namespace loadstone::config
