#include "config/attention.hpp"

#include <algorithm>
#include <charconv>

#include "base/text.hpp"
#include "config/choice.hpp"

namespace loadstone::config {
namespace {

constexpr uint64_t kMaxIndex = 99'999;
const std::vector<std::string> kKeys = {"kv_cache_dtype", "skip_steps", "skip_layers"};

std::string_view trim(std::string_view text) {
  const char* blanks = " \t\r\n";
  size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

Error bad_selector(const Node& value, std::string found) {
  return Error{Code::invalid_config,
               "selector rejected",
               value.mark().text(),
               "found " + std::move(found) + ", expected decimal integers up to " +
                   std::to_string(kMaxIndex) + " and ranges such as \"0,1,4-6\"",
               "",
               {}};
}

std::optional<uint64_t> decimal(std::string_view text) {
  uint64_t value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (!whole || value > kMaxIndex) return std::nullopt;
  return value;
}

Status read_token(const Node& value, std::string_view token, std::vector<uint64_t>& out) {
  size_t dash = token.find('-');
  std::string_view last_text = dash == std::string_view::npos ? token : token.substr(dash + 1);
  auto first = decimal(trim(token.substr(0, dash)));
  auto last = decimal(trim(last_text));
  if (!first || !last || *first > *last) return bad_selector(value, quoted(token));
  for (uint64_t i = *first; i <= *last; ++i) out.push_back(i);
  return {};
}

Status read_text_selector(const Node& value, std::vector<uint64_t>& out) {
  std::string_view rest = value.text();
  while (true) {
    size_t comma = rest.find(',');
    std::string_view token = trim(rest.substr(0, comma));
    if (!token.empty()) LS_CHECK(read_token(value, token, out));
    if (comma == std::string_view::npos) return {};
    if (out.size() > kMaxIndex) return bad_selector(value, "more than 100000 indices");
    rest.remove_prefix(comma + 1);
  }
}

const std::vector<std::string> kDtypes = {"fp8", "auto", "float"};

void check_dtype(const std::string& name, const Node& value, Problems& problems) {
  if (name == "fp8") return;
  const std::string hint = nearest(name, kDtypes);
  const bool of_vendor = name == "mxfp8" || name == "mxfp4";  // names that the reference knows
  problems.add(Error{Code::unsupported,
                     "attention quantization refused",
                     value.mark().text(),
                     "found " + quoted(name) +
                         (of_vendor ? ", which only Ascend's library has" : "") +
                         ", expected \"fp8\", \"auto\" or \"float\"",
                     hint.empty() ? "" : quoted(hint),
                     {}});
}

}  // namespace

Result<std::optional<std::vector<uint64_t>>> parse_selector(const Node& value) {
  std::vector<uint64_t> out;
  if (value.is_null()) return std::optional<std::vector<uint64_t>>();
  if (value.is_text()) {
    if (trim(value.text()).empty()) return std::optional<std::vector<uint64_t>>();
    LS_CHECK(read_text_selector(value, out));
  } else if (value.is_integer() && !value.raw().empty()) {  // YAML: skip_steps: 3
    LS_CHECK(read_token(value, value.raw(), out));
  } else if (value.is_list()) {
    for (const Node& item : value.items()) {
      const auto index = item.is_integer() ? static_cast<uint64_t>(item.integer()) : UINT64_MAX;
      if (index > kMaxIndex) return bad_selector(value, item.describe());  // a negative one too
      out.push_back(index);
    }
  } else {
    return bad_selector(value, value.describe());
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return std::optional(std::move(out));
}

Attention read_attention(const Node& map, Problems& problems) {
  Attention attention;
  if (map.is_null()) return attention;
  if (!map.is_map()) {
    problems.add("attention rejected", map.mark(), "found " + map.describe() + ", expected a map");
    return attention;
  }
  for (const auto& [key, value] : map.entries()) {
    if (key == "kv_cache_dtype") {
      const std::string* text = value.is_null() ? nullptr : name_text(value);
      if (!text && !value.is_null()) {
        problems.add("value of \"kv_cache_dtype\" rejected", value.mark(),
                     "found " + value.describe() + ", expected a dtype's name");
      } else if (text && *text != "auto" && *text != "float") {
        attention.kv_cache_dtype = *text;
        attention.dtype_mark = value.mark();
        check_dtype(*text, value, problems);
      }
    } else if (key == "skip_steps" || key == "skip_layers") {
      auto selector = parse_selector(value);
      if (!selector.ok()) {
        problems.add(std::move(selector).error());
      } else {
        (key == "skip_steps" ? attention.skip_steps : attention.skip_layers) = *selector;
        if (key == "skip_layers") attention.layers_mark = value.mark();
      }
    } else {
      std::string hint = nearest(key, kKeys);
      problems.add("unknown key of attention", value.key_mark(),
                   "found " + quoted(key) + ", expected one of " + join(kKeys),
                   hint.empty() ? "" : quoted(hint));
    }
  }
  if (attention.kv_cache_dtype.empty() && (attention.skip_steps || attention.skip_layers)) {
    problems.add("attention decides nothing", map.mark(),
                 "found steps or layers to skip without \"kv_cache_dtype\", expected both or none");
  }
  return attention;
}

}  // namespace loadstone::config
