// YAML text → tree, through yaml-cpp's events: YAML::Node would expand aliases, keep the first of
// two equal keys, drop a second document and carry no kinds (security checklist S35, S36).
#include <re2/re2.h>
#include <simdjson.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>
#include <unordered_map>

#include "base/text.hpp"
#include "config/problems.hpp"
#include "config/quant_config.hpp"

namespace loadstone::config {
namespace {

constexpr uint64_t kMaxNbytes = 1u << 20;
constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxProblems = 20;
constexpr std::string_view kNodeAsKey = "found a list or map as a key";

/// Thrown out of yaml-cpp's event callbacks, caught in parse_yaml.
struct Stop {};

/// Integers are decimal without leading zeros; a number has a fraction, an exponent or both.
const RE2 kInteger("-?(?:0|[1-9][0-9]*)");
const RE2 kNumber("-?[0-9]+(?:\\.[0-9]+(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)");

/// As the type holds it; null where it can't.
template <typename Number>
std::optional<Number> value_of(const std::string& text) {
  Number value{};
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  return read.ec == std::errc() ? std::optional(value) : std::nullopt;
}

/// A plain scalar by its look: only true/false are booleans, numbers are those that fit their type;
/// everything else is text. The characters stay available as raw().
Node plain_scalar(const std::string& text, Mark mark) {
  Node node = Node::of_text(text, mark);
  if (text == "true" || text == "false") {
    node = Node::of_bool(text == "true", mark);
  } else if (RE2::FullMatch(text, kInteger)) {
    if (const auto value = value_of<int64_t>(text)) node = Node::of_integer(*value, mark);
  } else if (RE2::FullMatch(text, kNumber)) {
    if (const auto value = value_of<double>(text)) node = Node::of_number(*value, mark);
  }
  node.set_raw(text);
  return node;
}

class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view source, std::shared_ptr<const std::string> file)
      : source_(source), file_(std::move(file)) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0) refuse(mark, "found a second document", "one document");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    Node node;
    node.set_mark(place(mark));
    node.set_raw(null_spelling(mark));
    accept(std::move(node), mark);
  }
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}  // its anchor was refused
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    if (tag == "?") {
      accept(plain_scalar(value, place(mark)), mark);
    } else {
      accept(Node::of_text(value, place(mark)), mark);
    }
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::of_list({}, place(mark)));
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::of_map({}, place(mark)));
  }
  void OnMapEnd() override { close(); }

  Problems& problems() { return problems_; }
  /// Where the innermost list or map that is open begins.
  const Mark& innermost() const { return stack_.back().node.mark(); }
  Node take_root() { return std::move(root_); }

  Mark place(const YAML::Mark& mark) const {
    return Mark{file_, static_cast<uint32_t>(mark.line + 1),
                static_cast<uint32_t>(mark.column + 1)};
  }
  [[noreturn]] void refuse(const Mark& mark, const std::string& found,
                           const std::string& expected) {
    problems_.add("yaml refused", mark, found + ", expected " + expected);
    throw Stop{};
  }
  [[noreturn]] void refuse(const YAML::Mark& mark, const std::string& found,
                           const std::string& expected) {
    refuse(place(mark), found, expected);
  }

 private:
  struct Open {
    Node node;
    bool has_key = false;
    std::string key;
    Mark key_mark;
    std::unordered_map<std::string, Mark> keys;  // of a map: where each was first seen
    bool is_key = false;                         // refused when it ends, if it does
  };

  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) refuse(mark, "found an anchor", "a plain value");
  }
  void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag != "?" && tag != "!") {
      refuse(mark, "found the tag " + loadstone::quoted(tag), "a value without a tag");
    }
  }

  /// The characters that yaml-cpp read as null: "null", "Null", "NULL", "~" or nothing.
  std::string null_spelling(const YAML::Mark& mark) const {
    // Behind the end where nothing follows a colon.
    std::string_view rest = source_.substr(std::min(static_cast<size_t>(mark.pos), source_.size()));
    for (std::string_view word : {"null", "Null", "NULL", "~"}) {
      if (rest.substr(0, word.size()) == word) return std::string(word);
    }
    return "";
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Node node) {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    // A bracket that nothing closes reads as a key too: what is wrong then is its missing end.
    const bool bracket = mark.pos >= 0 && static_cast<size_t>(mark.pos) < source_.size() &&
                         std::string_view("[{").find(source_[mark.pos]) != std::string_view::npos;
    const bool is_key = expects_key();
    if (is_key && !bracket) refuse(mark, std::string(kNodeAsKey), "a name");
    if (stack_.size() >= kMaxDepth) {
      refuse(mark, "found nesting deeper than " + std::to_string(kMaxDepth),
             "at most " + std::to_string(kMaxDepth));
    }
    stack_.push_back(Open{std::move(node), false, {}, {}, {}, is_key});
  }

  void close() {
    if (stack_.back().is_key) refuse(innermost(), std::string(kNodeAsKey), "a name");
    Node node = std::move(stack_.back().node);
    stack_.pop_back();
    place_value(std::move(node));
  }

  bool expects_key() const {
    return !stack_.empty() && stack_.back().node.is_map() && !stack_.back().has_key;
  }

  void accept(Node node, const YAML::Mark& mark) {
    if (!expects_key()) {
      place_value(std::move(node));
      return;
    }
    Open& map = stack_.back();
    map.key = node.raw();
    map.has_key = true;
    map.key_mark = node.mark();
    if (map.key == "<<") refuse(mark, "found a merge key \"<<\"", "the keys themselves");
    if (node.is_null() && map.key.empty()) refuse(mark, "found an empty key", "a name");
    auto [first, fresh] = map.keys.emplace(map.key, map.key_mark);
    if (!fresh && problems_.size() < kMaxProblems) {
      problems_.add("duplicate key", map.key_mark,
                    "found " + loadstone::quoted(map.key) + " again, first at line " +
                        std::to_string(first->second.line) + " column " +
                        std::to_string(first->second.column) + ", expected each key once");
    }
  }

  void place_value(Node node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = stack_.back();
    if (parent.node.is_list()) {
      parent.node.items().push_back(std::move(node));
      return;
    }
    node.set_key_mark(parent.key_mark);
    parent.node.entries().emplace_back(std::move(parent.key), std::move(node));
    parent.has_key = false;
  }

  std::string_view source_;
  std::shared_ptr<const std::string> file_;
  Problems problems_;
  std::vector<Open> stack_;
  Node root_;
  int documents_ = 0;
};

Error unreadable(const Mark& mark, const std::string& detail) {
  return Error{Code::invalid_config, "yaml refused", mark.text(), detail, "", {}};
}

/// Bytes that no configuration needs and that yaml-cpp handles oddly.
Status check_bytes(std::string_view text, const std::shared_ptr<const std::string>& file) {
  if (text.size() > kMaxNbytes) {
    return unreadable(Mark{file, {}, {}}, "found " + std::to_string(text.size()) +
                                              " bytes, expected at most " +
                                              std::to_string(kMaxNbytes));
  }
  if (!simdjson::validate_utf8(text.data(), text.size())) {
    return unreadable(Mark{file, {}, {}}, "found bytes that are not UTF-8, expected UTF-8 text");
  }
  uint32_t line = 1;
  size_t line_begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned char c = static_cast<unsigned char>(text[i]);
    if (c == '\n') {
      ++line;
      line_begin = i + 1;
    }
    bool byte_order_mark = text.substr(i, 3) == "\xEF\xBB\xBF";
    if ((c >= 0x20 && c != 0x7F && !byte_order_mark) || c == '\t' || c == '\n' || c == '\r')
      continue;
    return unreadable(Mark{file, line, static_cast<uint32_t>(i - line_begin + 1)},
                      byte_order_mark
                          ? "found a byte order mark, expected plain UTF-8 text"
                          : "found the control character " + loadstone::quoted(text.substr(i, 1)) +
                                ", expected text");
  }
  return {};
}

}  // namespace

Result<Node> parse_yaml(std::string_view text, std::string file) {
  auto name = std::make_shared<const std::string>(std::move(file));
  LS_CHECK(check_bytes(text, name));
  TreeBuilder builder(text, name);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    if (parser.HandleNextDocument(builder)) parser.HandleNextDocument(builder);
  } catch (const Stop&) {
    return builder.problems().take();
  } catch (const YAML::Exception& error) {
    if (error.msg == YAML::ErrorMsg::END_OF_SEQ_FLOW) {
      return unreadable(builder.innermost(), "found \"[\" without its end, expected \"]\"");
    }
    if (error.msg == YAML::ErrorMsg::END_OF_MAP_FLOW) {
      return unreadable(builder.innermost(), "found \"{\" without its end, expected \"}\"");
    }
    return unreadable(builder.place(error.mark),
                      "found " + escaped(error.msg) + ", expected a YAML document");
  } catch (const std::exception& error) {
    return unreadable(Mark{name, {}, {}},
                      "found " + escaped(error.what()) + ", expected a YAML document");
  }
  if (!builder.problems().empty()) return builder.problems().take();
  return builder.take_root();
}

Result<Node> parse_inline(std::string_view text) {
  size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos &&
      std::string_view("{[\"").find(text[first]) != std::string_view::npos) {
    return parse_json(text, "--quantization");
  }
  return Node::of_text(std::string(text),
                       Mark{std::make_shared<const std::string>("--quantization"), {}, {}});
}

}  // namespace loadstone::config
