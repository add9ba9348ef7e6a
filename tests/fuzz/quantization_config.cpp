// Input: the text of a config.json; also holds parse_json against another parser.
#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "formats/declarations.hpp"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// Depth in brackets, strings skipped: ours is limited, the other parser's is not.
size_t depth_of(std::string_view text) {
  size_t depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      in_string = !in_string;
    } else if (!in_string && (text[i] == '[' || text[i] == '{')) {
      deepest = std::max(deepest, ++depth);
    } else if (!in_string && (text[i] == ']' || text[i] == '}') && depth > 0) {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t nbytes) {
  using namespace loadstone;
  const std::string_view text(reinterpret_cast<const char*>(bytes), nbytes);
  const auto json = parse_json(text, "config.json");
  const bool other = nlohmann::json::accept(text);
  if (!json.ok()) {
    const bool ours_alone = json.error().message == "duplicate key" || depth_of(text) > 32 ||
                            text.starts_with("\xEF\xBB\xBF") ||
                            text.find('\0') != text.npos;  // the other parser ends there
    require(!other || ours_alone);
    return 0;
  }
  require(other);
  const auto again = parse_json(json->to_json(), "config.json");
  require(again.ok() && *again == *json);
  const auto declarations = formats::declarations_of_config(*json, "config.json");
  if (!declarations.ok()) return 0;
  for (const formats::Declaration& declaration : *declarations) require(declaration.value.is_map());
  return 0;
}
