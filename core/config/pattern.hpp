// Patterns over module names, compiled once and matched in linear time (RE2; checklist S37).
//
// A name is a path of segments joined by dots, inside a component:
// "transformer_blocks.0.attn.to_q". Every pattern may be written with the component's name in front
// ("transformer.transformer_…").
//   glob      '*' any characters (dots too), '?' one, "[a-c]" a class, "{a,b}" alternatives,
//             "{0..59}" decimal integers; matches the whole name
//   re:EXPR   RE2 syntax, matched from the name's start (as compressed-tensors does)
//   segments  a bare entry of an ignore list: consecutive whole segments anywhere ("img_mlp")
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"

namespace loadstone::config {

/// Whether a text is more than a plain name: holds any of * ? [ { or starts with "re:".
bool is_pattern(std::string_view text);

/// Whether what a user writes under `layer:` compiles. Errors: invalid_config.
Status check_pattern(std::string_view text);

/// RE2 source of a glob, unanchored. Errors: invalid_config (an open bracket, a bad range).
Result<std::string> glob_to_regex(std::string_view glob);

/// Whether `text` matches `glob` as a whole; one that check_pattern refuses matches nothing. For
/// short lists only (component keys): compiles anew.
bool glob_matches(std::string_view glob, std::string_view text);

/// Many patterns against many names. Ids are the caller's; several patterns may share one.
class PatternSet {
 public:
  PatternSet();
  ~PatternSet();
  PatternSet(PatternSet&&) noexcept;
  PatternSet& operator=(PatternSet&&) noexcept;

  /// One whole name.
  void add_exact(std::string_view name, uint32_t id);
  /// Consecutive whole segments anywhere.
  void add_segments(std::string_view entry, uint32_t id);
  /// Whole leading segments.
  void add_prefix(std::string_view entry, uint32_t id);
  /// Whole trailing segments.
  void add_suffix(std::string_view entry, uint32_t id);
  Status add_glob(std::string_view glob, uint32_t id);
  /// RE2 expression, anchored at the start (`search`: found anywhere).
  Status add_regex(std::string_view expression, uint32_t id, bool search = false);
  /// What a user writes under `layer:`: an exact name, a glob or "re:…".
  Status add_layer(std::string_view text, uint32_t id);
  /// What a user writes into an ignore list: segments, a glob or "re:…".
  Status add_entry(std::string_view text, uint32_t id);

  /// Errors: resource (the automaton would be too large).
  Status compile();
  /// Ids that match `name` as it is or with `component` in front, ascending, each once. Where the
  /// name already begins with the component ("thinker.model…"), it matches without it too.
  /// Requires compile().
  void match(std::string_view component, std::string_view name, std::vector<uint32_t>* ids) const;

 private:
  struct Automaton;
  using Automata = std::vector<std::unique_ptr<Automaton>>;
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  template <typename Value>
  using ByText = std::unordered_map<std::string, Value, Hash, std::equal_to<>>;
  using Table = ByText<std::vector<uint32_t>>;

  void add_run(Table* table, std::string_view entry, uint32_t id);
  Status add_source(Automata& automata, std::string_view pattern, std::string source, uint32_t id,
                    std::string_view expected);

  Table exact_, segments_, leading_, trailing_;
  size_t longest_run_ = 0;  // segments of the longest entry of the last three
  // A name is run through few automata: patterns that begin with whole segments ("blocks.3.") lie
  // under them, a glob that begins with '*' needs no second look without the component.
  ByText<Automata> beginning_;
  Automata starred_, others_;
};

}  // namespace loadstone::config
