#include "common/layer/declared.hpp"

#include <algorithm>

namespace loadstone::common {
namespace {

using sdk::Node;

constexpr std::string_view kSkipLists[] = {"ignored_layers", "modules_to_not_convert"};
// Who wrote the file and how it was rounded: nothing that a loader acts on.
constexpr std::string_view kWithoutEffect[] = {"quant_method", "method",    "provider",
                                               "version",      "scale_fmt", "quantization_status"};

template <size_t N>
bool is_one_of(std::string_view key, const std::string_view (&names)[N]) {
  return std::find(std::begin(names), std::end(names), key) != std::end(names);
}

[[noreturn]] void refuse(std::string_view key, const Node& found, const char* expected) {
  sdk::fail(LS_INVALID_CHECKPOINT, "declaration rejected: " + std::string(key) + ": found " +
                                       std::string(found.text()) + ", expected " + expected);
}

void keep_layers(std::string_view key, const Node& list, sdk::Declaration& out) {
  if (!list.is_list()) refuse(key, list, "a list of layer names");
  for (uint64_t i = 0; i < list.size(); ++i) {
    const std::string name(list.at(i).text());
    const bool regex = name.rfind("re:", 0) == 0;
    const bool glob = name.find_first_of("*?") != std::string::npos;
    const uint32_t style = regex ? LS_STYLE_REGEX : glob ? LS_STYLE_GLOB : LS_STYLE_SEGMENTS;
    out.keep(name.c_str() + (regex ? 3 : 0), style);
  }
}

[[noreturn]] void refuse_key(std::string_view key, std::span<const ls_field> fields) {
  std::string known;
  for (const ls_field& field : fields) {
    if (field.declared_only == 0) known += std::string(field.name) + ", ";
  }
  sdk::fail(LS_INVALID_CHECKPOINT, "declaration rejected: found unknown key \"" + std::string(key) +
                                       "\", expected " + known + "or modules_to_not_convert");
}

}  // namespace

void read_declared(const Node& node, std::span<const ls_field> fields, const char* serialized,
                   sdk::Declaration& out) {
  out.boolean(serialized, true);
  const Node ignored = node.get("ignored_layers");
  const bool has_ignored = ignored.is_list() && ignored.size() != 0;
  for (uint64_t i = 0; i < node.size(); ++i) {
    const auto [key, value] = node.entry(i);
    if (value.kind() == 0 || is_one_of(key, kWithoutEffect)) continue;
    if (key == serialized) {
      if (value.kind() != LS_FIELD_BOOL) refuse(key, value, "true or false");
    } else if (is_one_of(key, kSkipLists)) {
      if (key == "ignored_layers" || !has_ignored) keep_layers(key, value, out);
    } else {
      const auto known =
          std::find_if(fields.begin(), fields.end(),
                       [&name = key](const ls_field& field) { return name == field.name; });
      if (known == fields.end()) refuse_key(key, fields);
      sdk::detail::declare(out, *known, value);
    }
  }
}

void read_autoround_scopes(const Node& node, sdk::Declaration& out) {
  const auto quantize = [&](std::string_view name) {
    while (!name.empty() && name.front() == ' ') name.remove_prefix(1);
    if (!name.empty()) out.quantize(std::string(name).c_str(), LS_STYLE_PREFIX);
  };
  const Node blocks = node.get("block_name_to_quantize");
  for (uint64_t i = 0; blocks.is_list() && i < blocks.size(); ++i) quantize(blocks.at(i).text());
  if (blocks.kind() == LS_FIELD_TEXT) {
    const std::string_view all = blocks.text();
    for (size_t at = 0; at <= all.size();) {
      const size_t end = std::min(all.find(',', at), all.size());
      quantize(all.substr(at, end - at));
      at = end + 1;
    }
  }
  const Node extra = node.get("extra_config");
  for (uint64_t i = 0; extra.is_map() && i < extra.size(); ++i) {
    const auto [layer, says] = extra.entry(i);
    const Node bits = says.get("bits");
    if (bits.kind() != LS_FIELD_INTEGER) continue;
    if (sdk::detail::parse_integer(std::string(bits.text()), "bits") < 16) continue;
    out.keep(std::string(layer).c_str(), LS_STYLE_EXACT);
  }
}

std::string json_list(const std::vector<std::string>& texts) {
  std::string out = "[";
  for (const std::string& text : texts) {
    if (out.size() > 1) out += ',';
    sdk::detail::append_json_text(out, text);
  }
  return out + "]";
}

}  // namespace loadstone::common
