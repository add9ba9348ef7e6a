#include "autoround/config.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace loadstone::autoround {
namespace {

using Json = nlohmann::ordered_json;

[[noreturn]] void refuse(const std::string& field, const std::string& found,
                         const std::string& expected) {
  sdk::fail(LS_INVALID_CONFIG, field + " rejected: found " + found + ", expected " + expected);
}

/// Keys of an entry that describe activations or the tool's run, not the stored weight.
bool says_nothing(std::string_view key) {
  for (const std::string_view known :
       {"sym", "data_type", "rotation_config", "super_bits", "super_group_size", "scale_dtype"}) {
    if (key == known) return true;
  }
  return key.substr(0, 4) == "act_";
}

int64_t integer(const Json& value, const std::string& where) {
  if (value.is_number_integer()) return value.get<int64_t>();
  refuse(where, value.dump(), "an integer");
}

void check_setting(int64_t bits, int64_t group_size, const std::string& where) {
  if (bits < 2 || (bits > 8 && bits < 16)) {
    refuse(where + "bits", std::to_string(bits), "2 to 8, or 16 and more for a kept layer");
  }
  if (bits < 16 && group_size != -1 && group_size < 1) {
    refuse(where + "group_size", std::to_string(group_size), "a positive number, or -1 for a row");
  }
}

Override read_override(const std::string& key, const Json& entry) {
  const std::string where = "extra_config." + key;
  if (!entry.is_object()) refuse(where, entry.dump(), "a map of bits, group_size and sym");
  Override out{key, is_regex(key), {}, {}};
  for (const auto& [name, value] : entry.items()) {
    if (name == "bits" || name == "weight_bits") {
      out.bits = integer(value, where + "." + name);
    } else if (name == "group_size") {
      out.group_size = integer(value, where + ".group_size");
    } else if (!says_nothing(name)) {
      refuse(where, "unknown key \"" + name + "\"", "bits, group_size or sym");
    }
  }
  check_setting(out.bits.value_or(4), out.group_size.value_or(1), where + ".");
  return out;
}

std::vector<Override> read_overrides(std::string_view text) {
  const Json tree = Json::parse(text, nullptr, false);
  if (tree.is_null()) return {};
  if (!tree.is_object()) refuse("extra_config", std::string(text.substr(0, 80)), "a map");
  std::vector<Override> out;
  for (const auto& [key, entry] : tree.items()) out.push_back(read_override(key, entry));
  return out;
}

struct PackingName {
  const char* name;
  int_packs::Packing packing;
  uint32_t zero_bias;
};
constexpr PackingName kPackings[] = {
    {"auto_round:auto_gptq", int_packs::Packing::gptq, 1},
    {"auto_round:auto_awq", int_packs::Packing::awq, 0},
    {"auto_round:gptqmodel", int_packs::Packing::gptq, 0},
    {"auto_round", int_packs::Packing::gptq, 0},
};

/// Formats of the same tool that other methods read.
std::string other_method(std::string_view data_type, std::string_view packing) {
  if (data_type.find("mx_fp") != std::string_view::npos) return "the mxfp8 or mxfp4 method";
  if (data_type != "int") return "the fp8 method";
  return packing == "auto_round:llm_compressor" ? "a compressed-tensors method" : "";
}

void check_floats(const sdk::Values& values, const Config& config, bool eight, int64_t group_size,
                  const std::string& data_type) {
  const std::string with = " with data_type " + data_type;
  const uint32_t bits = config.all.bits;
  if (bits != 0 && bits != 4 && !(eight && bits == 8)) {
    refuse("bits", std::to_string(bits), (eight ? "4 or 8" : "4") + with);
  }
  if (config.all.group_size != 0 && config.all.group_size != group_size) {
    refuse("group_size", std::to_string(config.all.group_size), std::to_string(group_size) + with);
  }
  if (!values.boolean("sym")) refuse("sym", "false", "true" + with);
  if (config.packing_format != "auto_round:llm_compressor") {
    refuse("packing_format", config.packing_format, "auto_round:llm_compressor" + with);
  }
}

/// nv_fp has one kind of codes.
void check_overrides(const std::vector<Override>& overrides) {
  for (const Override& one : overrides) {
    const int64_t bits = one.bits.value_or(4), group_size = one.group_size.value_or(16);
    if (bits >= 16 || (bits == 4 && group_size == 16)) continue;
    refuse("extra_config." + one.key,
           std::to_string(bits) + " bits in groups of " + std::to_string(group_size),
           "4 bits in groups of 16, or a kept layer, with data_type nv_fp");
  }
}

/// Activations of nv_fp: e2m1, or as they are.
bool reads_activations(const sdk::Values& values) {
  if (!values.has("act_bits")) return false;
  const int64_t bits = values.integer("act_bits");
  if (bits != 4 && bits < 16) {
    refuse("act_bits", std::to_string(bits), "4, or 16 and more, with data_type nv_fp");
  }
  return bits == 4;
}

void read_packing(const sdk::Values& values, Config& out) {
  const std::string_view data_type = values.text("data_type");
  out.packing_format = values.text("packing_format");
  out.nvfp4 = data_type == "nv_fp";
  if (out.nvfp4) {
    check_floats(values, out, false, 16, "nv_fp");
    out.quantizes_activations = reads_activations(values);
    return;
  }
  const std::string other = other_method(data_type, out.packing_format);
  if (data_type.find("mx_fp") != std::string_view::npos) {
    check_floats(values, out, true, 32, "mx_fp");
  } else if (data_type != "int") {
    refuse("data_type", "\"" + std::string(data_type) + "\"",
           "int, nv_fp or mx_fp (" + other + " reads such tensors)");
  }
  if (!other.empty()) {
    out.refusal = "found data_type " + std::string(data_type) + ", packing_format " +
                  out.packing_format + ", expected integers: " + other + " reads such tensors";
    return;
  }
  for (const PackingName& known : kPackings) {
    if (out.packing_format != known.name) continue;
    out.packing = known.packing;
    out.zero_bias = known.zero_bias;
  }
  if (out.packing == int_packs::Packing::awq && out.all.bits != 0 && out.all.bits != 4) {
    refuse("bits", std::to_string(out.all.bits), "4 with packing_format auto_round:auto_awq");
  }
}

/// block_name_to_quantize: "a,b" or ["a", "b"].
std::vector<std::string> read_blocks(std::string_view text) {
  const Json tree = Json::parse(text, nullptr, false);
  std::vector<std::string> out;
  if (tree.is_string()) {
    const std::string all = tree.get<std::string>();
    for (size_t begin = 0; begin <= all.size();) {
      const size_t comma = std::min(all.find(',', begin), all.size());
      const size_t first = all.find_first_not_of(' ', begin);
      if (first < comma)
        out.push_back(all.substr(first, all.find_last_not_of(" ,", comma) + 1 - first));
      begin = comma + 1;
    }
    return out;
  }
  if (tree.is_null()) return out;
  if (!tree.is_array()) {
    refuse("block_name_to_quantize", std::string(text.substr(0, 80)), "a text or a list of texts");
  }
  for (const Json& item : tree) {
    if (!item.is_string()) refuse("block_name_to_quantize", item.dump(), "a text");
    out.push_back(item.get<std::string>());
  }
  return out;
}

/// Whole leading segments: "blocks.1" begins "blocks.1.x", not "blocks.10".
bool begins(std::string_view module, std::string_view block) {
  return module.substr(0, block.size()) == block &&
         (module.size() == block.size() || module[block.size()] == '.');
}

bool ends(std::string_view module, std::string_view suffix) {
  return module.size() > suffix.size() && module.substr(module.size() - suffix.size()) == suffix &&
         module[module.size() - suffix.size() - 1] == '.';
}

bool regex_matches(const std::string& pattern, const std::string& module) {
  if (sdk::host().match == nullptr) {
    sdk::fail(LS_UNSUPPORTED, "extra_config rejected: this host has no regular expressions");
  }
  const int32_t answer = sdk::host().match(LS_STYLE_REGEX, pattern.c_str(), module.c_str());
  if (answer < 0) sdk::fail(-answer, "extra_config rejected: found \"" + pattern + "\"");
  return answer != 0;
}

const Override* find(const std::vector<Override>& overrides, std::string_view module) {
  const Override* suffix = nullptr;
  for (const Override& one : overrides) {
    if (one.is_regex) continue;
    if (module == one.key) return &one;
    if (ends(module, one.key) && (suffix == nullptr || one.key.size() > suffix->key.size())) {
      suffix = &one;
    }
  }
  if (suffix != nullptr) return suffix;
  for (const Override& one : overrides) {
    if (one.is_regex && regex_matches(one.key, std::string(module))) return &one;
  }
  return nullptr;
}

}  // namespace

bool is_regex(std::string_view key) {
  return key.find_first_of("*+?^$()[]{}|\\") != std::string_view::npos;
}

Setting Config::of(std::string_view module) const {
  Setting out = all;
  const Override* own = find(overrides, module);
  if (own == nullptr) {
    bool inside = blocks.empty();
    for (const std::string& block : blocks) inside = inside || begins(module, block);
    out.kept = !inside;
    return out;
  }
  if (own->bits) {
    out.kept = *own->bits >= 16;
    if (!out.kept) out.bits = static_cast<uint32_t>(*own->bits);
  }
  if (own->group_size) out.group_size = *own->group_size;
  return out;
}

Config configure(const sdk::Values& values) {
  Config out;
  const char* bits = values.has("weight_bits") ? "weight_bits" : "bits";
  if (values.has(bits)) {
    const int64_t width = values.integer(bits);
    check_setting(width, 1, "");
    out.all.kept = width >= 16;
    if (!out.all.kept) out.all.bits = static_cast<uint32_t>(width);
  }
  if (values.has("group_size")) {
    out.all.group_size = values.integer("group_size");
    check_setting(4, out.all.group_size, "");
  }
  read_packing(values, out);
  out.desc_act = values.boolean("desc_act");
  out.declared = values.boolean("is_checkpoint_autoround_serialized");
  if (values.has("block_name_to_quantize")) {
    out.blocks = read_blocks(values.text("block_name_to_quantize"));
  }
  if (values.has("extra_config")) out.overrides = read_overrides(values.text("extra_config"));
  if (out.nvfp4) check_overrides(out.overrides);
  return out;
}

}  // namespace loadstone::autoround
