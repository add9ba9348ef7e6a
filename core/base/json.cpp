// parse_json: simdjson's on-demand walk over the whole document. On-demand validates what it
// visits, so every value is visited; it keeps no duplicates check and no depth of its own.
#define SIMDJSON_EXCEPTIONS 0  // an unchecked result does not compile
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <cmath>
#include <optional>

#include "base/text.hpp"
#include "base/tree.hpp"

namespace loadstone {
namespace {

namespace ondemand = simdjson::ondemand;

struct LineCounter {
  uint32_t line = 1;
  size_t line_begin = 0;
  size_t counted_to = 0;

  void advance(std::string_view text, size_t offset) {
    for (; counted_to < offset; ++counted_to) {
      if (text[counted_to] != '\n') continue;
      ++line;
      line_begin = counted_to + 1;
    }
  }

  Mark mark(std::shared_ptr<const std::string> file, size_t offset) const {
    return Mark{std::move(file), line, static_cast<uint32_t>(offset - line_begin + 1)};
  }
};

class JsonReader {
 public:
  JsonReader(std::string_view text, std::string file, const JsonLimits& limits)
      : nbytes_(text.size()),
        json_(text),
        file_(std::make_shared<const std::string>(std::move(file))),
        limits_(limits) {}

  Result<Node> read() {
    if (json_.size() != nbytes_) return failure(simdjson::MEMALLOC, 0);
    ondemand::parser parser(limits_.max_nbytes);
    ondemand::document document;
    if (const auto error = parser.iterate(json_).get(document)) return failure(error, 0);
    const std::string_view text = trimmed({json_.data(), json_.size()});
    const std::string_view token = trimmed_token(document);
    LS_TRY(Node root, read_value(document, 1));
    const char* rest = nullptr;
    if (root.is_list() || root.is_map()) {
      if (document.current_location().get(rest) == simdjson::OUT_OF_BOUNDS) return root;
    } else {
      // simdjson leaves the position behind a scalar root open.
      if (token.data() + token.size() == text.data() + text.size()) return root;
      rest = token.data() + token.size();
    }
    return rejected(offset_of(rest), "found bytes after the document, expected its end");
  }

 private:
  // Value: ondemand::document for the root, ondemand::value below. Recursion is bounded by
  // max_depth.
  template <typename Value>
  Result<Node> read_value(Value& value, uint32_t depth) {
    const size_t offset = offset_of(raw_token(value).data());
    if (++nodes_ > limits_.max_nodes) {
      return rejected(offset,
                      fmt::format("found more than {} values, expected fewer", limits_.max_nodes));
    }
    ondemand::json_type type{};
    if (const auto error = value.type().get(type)) return failure(error, offset);
    switch (type) {
      case ondemand::json_type::array:
        return read_list(value, depth, offset);
      case ondemand::json_type::object:
        return read_map(value, depth, offset);
      case ondemand::json_type::string: {
        std::string_view text;
        if (const auto error = value.get_string().get(text)) return failure(error, offset);
        return Node::of_text(std::string(text), mark(offset));
      }
      case ondemand::json_type::number:
        return read_number(value, offset);
      case ondemand::json_type::boolean:
        return read_bool(value, offset);
      case ondemand::json_type::null:
        return read_null(value, offset);
    }
    return failure(simdjson::TAPE_ERROR, offset);
  }

  template <typename Value>
  Result<Node> read_list(Value& value, uint32_t depth, size_t offset) {
    LS_CHECK(check_depth(depth, offset));
    ondemand::array array;
    if (const auto error = value.get_array().get(array)) return failure(error, offset);
    Node node = Node::of_list({}, mark(offset));
    for (auto item : array) {
      ondemand::value child;
      if (const auto error = std::move(item).get(child)) return failure(error, last_offset_);
      LS_TRY(Node read, read_value(child, depth + 1));
      node.items().push_back(std::move(read));
    }
    return node;
  }

  template <typename Value>
  Result<Node> read_map(Value& value, uint32_t depth, size_t offset) {
    LS_CHECK(check_depth(depth, offset));
    ondemand::object object;
    if (const auto error = value.get_object().get(object)) return failure(error, offset);
    Node node = Node::of_map({}, mark(offset));
    for (auto item : object) {
      ondemand::field field;
      if (const auto error = std::move(item).get(field)) return failure(error, last_offset_);
      // raw() points behind the opening quote.
      const size_t key_offset = offset_of(field.key().raw() - 1);
      const Mark key_mark = mark(key_offset);
      std::string_view key_view;
      if (const auto error = field.unescaped_key().get(key_view)) {
        return failure(error, key_offset);
      }
      std::string key(key_view);
      LS_TRY(Node read, read_value(field.value(), depth + 1));
      read.set_key_mark(key_mark);
      node.entries().emplace_back(std::move(key), std::move(read));
    }
    LS_CHECK(check_duplicates(node.entries()));
    return node;
  }

  template <typename Value>
  Result<Node> read_number(Value& value, size_t offset) {
    const std::string token(trimmed_token(value));
    ondemand::number number;
    const auto error = value.get_number().get(number);
    if (!error && number.is_int64()) return Node::of_integer(number.get_int64(), mark(offset));
    if (!error && number.is_double()) return Node::of_number(number.get_double(), mark(offset));
    // Whole numbers beyond 64 bits ("model_max_length": 1e30 written out) are legal JSON.
    if (const auto wide = whole_number(token)) return Node::of_number(*wide, mark(offset));
    return failure(error ? error : simdjson::NUMBER_ERROR, offset);
  }

  // simdjson 3.0's answers for a bool or null at the root depend on what follows ("falsex" passes,
  // "true\n" does not): the token decides, and the call only moves on to the next value.
  template <typename Value>
  Result<Node> read_bool(Value& value, size_t offset) {
    const std::string_view token = trimmed_token(value);
    if (token != "true" && token != "false") return failure(simdjson::T_ATOM_ERROR, offset);
    (void)value.get_bool();
    return Node::of_bool(token == "true", mark(offset));
  }

  template <typename Value>
  Result<Node> read_null(Value& value, size_t offset) {
    if (trimmed_token(value) != "null") return failure(simdjson::N_ATOM_ERROR, offset);
    (void)value.is_null();
    Node node;
    node.set_mark(mark(offset));
    return node;
  }

  static std::optional<double> whole_number(std::string_view token) {
    std::string_view digits = token.starts_with('-') ? token.substr(1) : token;
    if (digits.empty() || (digits.size() > 1 && digits[0] == '0')) return std::nullopt;
    if (digits.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
    double value = 0;
    const auto parsed = std::from_chars(token.data(), token.data() + token.size(), value);
    if (parsed.ec != std::errc() || !std::isfinite(value)) return std::nullopt;
    return value;
  }

  // From the first byte of a value to the next token.
  static std::string_view raw_token(ondemand::document& document) {
    std::string_view token;
    return document.raw_json_token().get(token) ? std::string_view() : token;
  }
  static std::string_view raw_token(ondemand::value& value) { return value.raw_json_token(); }

  static std::string_view trimmed(std::string_view token) {
    return token.substr(0, token.find_last_not_of(" \t\r\n") + 1);
  }

  template <typename Value>
  std::string_view trimmed_token(Value& value) const {
    const std::string_view token = raw_token(value);
    // The last token of a text runs into the padding.
    return trimmed(token.substr(0, json_.size() - offset_of(token.data())));
  }

  Status check_depth(uint32_t depth, size_t offset) const {
    if (depth <= limits_.max_depth) return {};
    return rejected(offset, fmt::format("found nesting deeper than {} levels, expected less",
                                        limits_.max_depth));
  }

  Status check_duplicates(const std::vector<Node::Entry>& entries) const {
    std::vector<const Node::Entry*> sorted;
    sorted.reserve(entries.size());
    for (const Node::Entry& entry : entries) sorted.push_back(&entry);
    std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) {
      return a->first != b->first ? a->first < b->first : a < b;
    });
    for (size_t i = 1; i < sorted.size(); ++i) {
      if (sorted[i]->first != sorted[i - 1]->first) continue;
      const Mark& first = sorted[i - 1]->second.key_mark();
      return Error{Code::invalid_config, "duplicate key", sorted[i]->second.key_mark().text(),
                   fmt::format("found {} again, expected it once (first at line {}, column {})",
                               loadstone::quoted(sorted[i]->first), first.line, first.column)};
    }
    return {};
  }

  size_t offset_of(const char* at) const {
    if (at < json_.data()) return 0;
    return std::min(static_cast<size_t>(at - json_.data()), json_.size());
  }

  // Line and column of an offset; offsets grow while reading, so lines are counted once.
  Mark mark(size_t offset) {
    last_offset_ = offset;
    lines_.advance({json_.data(), json_.size()}, offset);
    return lines_.mark(file_, offset);
  }

  Error rejected(size_t offset, std::string detail) const {
    LineCounter counter;
    counter.advance({json_.data(), json_.size()}, offset);
    return Error{Code::invalid_config, "invalid JSON", counter.mark(file_, offset).text(),
                 std::move(detail)};
  }

  Error failure(simdjson::error_code error, size_t offset) const {
    switch (error) {
      case simdjson::INCOMPLETE_ARRAY_OR_OBJECT:
        return rejected(trimmed({json_.data(), json_.size()}).size() - 1,
                        "found an unfinished document or bytes behind it, expected a list or map "
                        "that ends here");
      case simdjson::EMPTY:
        return rejected(0, "found nothing, expected a JSON document");
      case simdjson::UTF8_ERROR:
        return rejected(valid_utf8_prefix({json_.data(), json_.size()}),
                        "found invalid UTF-8, expected UTF-8");
      case simdjson::MEMALLOC:
        return Error{Code::resource, "out of memory", escaped(*file_, PATH_MAX),
                     fmt::format("found no memory to parse {} bytes of JSON", nbytes_)};
      case simdjson::CAPACITY:
        return rejected(0, fmt::format("found {} bytes, expected at most {}", json_.size(),
                                       limits_.max_nbytes));
      case simdjson::NUMBER_ERROR:
        return rejected(offset,
                        "found a number that is malformed or beyond 64 bits, expected "
                        "a JSON number");
      default:
        break;
    }
    // simdjson's text goes on about its own use after the first clause.
    std::string text = simdjson::error_message(error);
    text = text.substr(0, text.find_first_of(".:("));
    return rejected(offset, fmt::format("found no valid JSON ({}), expected JSON",
                                        text.substr(0, text.find_last_not_of(' ') + 1)));
  }

  const size_t nbytes_;
  const simdjson::padded_string json_;  // empty when there was no memory for it
  const std::shared_ptr<const std::string> file_;
  const JsonLimits limits_;
  uint64_t nodes_ = 0;
  LineCounter lines_;
  size_t last_offset_ = 0;
};

}  // namespace

Result<Node> parse_json(std::string_view text, std::string file, const JsonLimits& limits) {
  if (text.size() > limits.max_nbytes) {
    return Error{
        Code::invalid_config, "invalid JSON", escaped(file, PATH_MAX),
        fmt::format("found {} bytes, expected at most {}", text.size(), limits.max_nbytes)};
  }
  return JsonReader(text, std::move(file), limits).read();
}

}  // namespace loadstone
