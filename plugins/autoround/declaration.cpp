#include "autoround/declaration.hpp"

#include <string>
#include <string_view>
#include <vector>

#include "autoround/config.hpp"

namespace loadstone::autoround {
namespace {

[[noreturn]] void refuse(int32_t status, const std::string& key, const std::string& found,
                         const std::string& expected) {
  sdk::fail(status, "declaration rejected: " + key + ": found " + found + ", expected " + expected);
}

int64_t integer(const sdk::Node& node, const std::string& key) {
  if (node.kind() != LS_FIELD_INTEGER) {
    refuse(LS_INVALID_CHECKPOINT, key, node ? std::string(node.text()) : "nothing", "an integer");
  }
  return std::stoll(std::string(node.text()));
}

bool is_true(const sdk::Node& node) {
  return node.kind() == LS_FIELD_BOOL && node.text() == "true";
}
bool is_false(const sdk::Node& node) {
  return node.kind() == LS_FIELD_BOOL && node.text() == "false";
}

/// "a,b" or ["a", "b"].
std::vector<std::string> names(const sdk::Node& node) {
  std::vector<std::string> out;
  for (uint64_t i = 0; node.is_list() && i < node.size(); ++i) {
    out.emplace_back(node.at(i).text());
  }
  if (node.kind() != LS_FIELD_TEXT) return out;
  std::string_view rest = node.text();
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    std::string_view one = rest.substr(0, comma);
    while (!one.empty() && one.front() == ' ') one.remove_prefix(1);
    while (!one.empty() && one.back() == ' ') one.remove_suffix(1);
    if (!one.empty()) out.emplace_back(one);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
  return out;
}

std::string first_text(const sdk::Node& node, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    const sdk::Node value = node.get(key);
    if (value.kind() == LS_FIELD_TEXT) return std::string(value.text());
  }
  return "";
}

/// Packing of a plain GPTQ declaration.
std::string gptq_packing(const sdk::Node& node) {
  if (is_true(node.get("is_marlin_format"))) {
    refuse(LS_UNSUPPORTED, "is_marlin_format", "true", "the gptq layout");
  }
  const std::string pack = first_text(node, {"pack_dtype"});
  if (!pack.empty() && pack != "int32") refuse(LS_UNSUPPORTED, "pack_dtype", pack, "int32");
  const std::string format = first_text(node, {"checkpoint_format", "format"});
  if (format == "gptq_v2") return "auto_round:gptqmodel";
  if (format.empty() || format == "gptq") return "auto_round:auto_gptq";
  refuse(LS_UNSUPPORTED, "checkpoint_format", format, "gptq or gptq_v2");
}

std::string awq_packing(const sdk::Node& node) {
  const std::string version = first_text(node, {"version"});
  if (!version.empty() && version != "gemm" && version != "GEMM") {
    refuse(LS_UNSUPPORTED, "version", version, "gemm");
  }
  return "auto_round:auto_awq";
}

std::string packing_of(const sdk::Node& node, const std::string& method) {
  if (method == "awq") return awq_packing(node);
  if (method.empty() || method == "gptq") return gptq_packing(node);
  const std::string format = first_text(node, {"packing_format"});
  return format.empty() ? "auto_round:auto_gptq" : format;
}

/// A module pattern of extra_config: exact and suffix, or a regular expression.
template <typename Declare>
void for_styles(const std::string& key, const Declare& declare) {
  if (is_regex(key)) return declare(LS_STYLE_REGEX);
  declare(LS_STYLE_SUFFIX);
  declare(LS_STYLE_EXACT);
}

void read_entry(const std::string& key, const sdk::Node& entry, bool quantize_scopes,
                sdk::Declaration& out) {
  const std::string where = "extra_config." + key;
  if (!entry.is_map()) {
    refuse(LS_INVALID_CHECKPOINT, where, std::string(entry.text()), "a map of bits and group_size");
  }
  const char* bits_key = entry.get("bits") ? "bits" : "weight_bits";
  const sdk::Node bits = entry.get(bits_key), group = entry.get("group_size");
  const bool kept = bits && integer(bits, where + ".bits") >= 16;
  for_styles(key, [&](uint32_t style) {
    if (kept) return out.keep(key.c_str(), style);
    if (quantize_scopes) out.quantize(key.c_str(), style);
    if (bits) out.integer("bits", integer(bits, where + ".bits"), key.c_str(), style);
    if (group) out.integer("group_size", integer(group, where + ".group_size"), key.c_str(), style);
  });
}

/// GPTQModel's per-module rules: "+:expression" (or bare) changes values, "-:expression" keeps.
void read_dynamic(const sdk::Node& dynamic, sdk::Declaration& out) {
  for (uint64_t i = 0; dynamic.is_map() && i < dynamic.size(); ++i) {
    const auto [key, entry] = dynamic.entry(i);
    const bool keep = key.substr(0, 2) == "-:";
    const bool marked = keep || key.substr(0, 2) == "+:";
    const std::string pattern = "^(?:" + std::string(marked ? key.substr(2) : key) + ")";
    if (keep) {
      out.keep(pattern.c_str(), LS_STYLE_REGEX);
      continue;
    }
    for (const char* field : {"bits", "group_size"}) {
      const sdk::Node value = entry.get(field);
      if (!value) continue;
      out.integer(field, integer(value, "dynamic." + std::string(key)), pattern.c_str(),
                  LS_STYLE_REGEX);
    }
  }
}

/// What nv_fp says of activations; without a word they stay as they are.
void read_activations(const sdk::Node& node, sdk::Declaration& out) {
  out.text("data_type", "nv_fp");
  const sdk::Node bits = node.get("act_bits");
  if (bits.kind() == 0) return;
  out.integer("act_bits", integer(bits, "act_bits"));
  const std::string kind = first_text(node, {"act_data_type"});
  if (integer(bits, "act_bits") < 16 && kind.find("nv_fp") == std::string::npos) {
    refuse(LS_UNSUPPORTED, "act_data_type", kind.empty() ? "nothing" : kind, "nv_fp");
  }
}

void read_scopes(const sdk::Node& node, sdk::Declaration& out) {
  std::vector<std::string> blocks = names(node.get("block_name_to_quantize"));
  if (blocks.empty()) blocks = names(node.get("to_quant_block_names"));
  for (const std::string& block : blocks) out.quantize(block.c_str(), LS_STYLE_PREFIX);
  for (const std::string& kept : names(node.get("modules_to_not_convert"))) {
    out.keep(kept.c_str(), LS_STYLE_SEGMENTS);
  }
  if (is_false(node.get("lm_head"))) out.keep("lm_head", LS_STYLE_SUFFIX);
  const sdk::Node extra = node.get("extra_config");
  for (uint64_t i = 0; extra.is_map() && i < extra.size(); ++i) {
    const auto [key, entry] = extra.entry(i);
    read_entry(std::string(key), entry, !blocks.empty(), out);
  }
  read_dynamic(node.get("dynamic"), out);
}

}  // namespace

void read_declaration(const sdk::Node& node, sdk::Declaration& out) {
  std::string method = first_text(node, {"quant_method", "method"});
  const std::string data_type = first_text(node, {"data_type"});
  const sdk::Node bits = node.get("bits") ? node.get("bits") : node.get("w_bit");
  const sdk::Node group =
      node.get("group_size") ? node.get("group_size") : node.get("q_group_size");
  const bool floats = data_type == "nv_fp";
  if (!data_type.empty() && data_type != "int" && !floats) {
    refuse(LS_UNSUPPORTED, "data_type", data_type, "int or nv_fp");
  }
  out.integer("bits", integer(bits, "bits"));
  out.integer("group_size", integer(group, "group_size"));
  if (node.get("sym").kind() == LS_FIELD_BOOL) out.boolean("sym", is_true(node.get("sym")));
  out.text("packing_format", packing_of(node, method));
  if (floats) read_activations(node, out);
  if (is_true(node.get("desc_act"))) out.boolean("desc_act", true);
  out.boolean("is_checkpoint_autoround_serialized", true);
  read_scopes(node, out);
}

}  // namespace loadstone::autoround
