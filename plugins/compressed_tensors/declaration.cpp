#include "compressed_tensors/declaration.hpp"

#include <algorithm>

namespace loadstone::compressed_tensors {
namespace {

// Who wrote the file and how well it packed: nothing that a loader acts on. Whether weights are
// compressed, the tensors tell: older files say "frozen" of codes too.
constexpr std::string_view kWithoutEffect[] = {"quant_method",
                                               "method",
                                               "version",
                                               "provider",
                                               "quantization_status",
                                               "global_compression_ratio"};

[[noreturn]] void refuse(int32_t status, const std::string& key, const std::string& found,
                         const std::string& expected) {
  sdk::fail(status, "declaration rejected: " + key + ": found " + found + ", expected " + expected);
}

[[noreturn]] void malformed(const std::string& key, const sdk::Node& found, const char* expected) {
  refuse(LS_INVALID_CHECKPOINT, key, std::string(found.text().substr(0, 80)), expected);
}

Json json_of(const sdk::Node& node) { return Json::parse(node.text(), nullptr, false); }

void check_sparsity(const sdk::Node& node) {
  if (!node.is_map()) malformed("sparsity_config", node, "a map");
  const sdk::Node format = node.get("format");
  if (node.size() == 0 || format.text() == "dense") return;
  refuse(LS_UNSUPPORTED, "sparsity_config",
         format ? "format \"" + std::string(format.text()) + "\"" : std::string(node.text()),
         "{} or format \"dense\": sparse weights are not implemented");
}

void check_transforms(const sdk::Node& node) {
  if (!node.is_map()) malformed("transform_config", node, "a map");
  const sdk::Node groups = node.get("config_groups");
  const bool none = node.size() == 0 || (node.size() == 1 && groups.is_map() && groups.size() == 0);
  if (none) return;
  std::string types;
  for (uint64_t i = 0; groups.is_map() && i < groups.size(); ++i) {
    const auto [name, group] = groups.entry(i);
    types += (types.empty() ? "" : ", ") + std::string(name) + " of type \"" +
             std::string(group.get("type").text()) + "\"";
  }
  refuse(LS_UNSUPPORTED, "transform_config", types.empty() ? std::string(node.text()) : types,
         "{}: rotations of activations (Hadamard and others) are not implemented");
}

/// Keys of the dictionary; the host keeps what `ignore` names.
void keep_modules(const sdk::Node& list, sdk::Declaration& out) {
  if (!list.is_list()) malformed("ignore", list, "a list of module names");
  for (uint64_t i = 0; i < list.size(); ++i) {
    const sdk::Node one = list.at(i);
    if (one.kind() != LS_FIELD_TEXT) malformed("ignore", one, "module names");
    const std::string name(one.text());
    if (name.starts_with("re:")) {
      out.keep(("^(?:" + name.substr(3) + ")").c_str(), LS_STYLE_REGEX);
    } else {
      out.keep(name.c_str(), LS_STYLE_EXACT);
    }
  }
}

/// Read here, so that what is wrong is said of the checkpoint.
void declare_groups(const sdk::Node& node, sdk::Declaration& out) {
  const sdk::Node groups = node.get("config_groups"), format = node.get("format");
  if (format.kind() != 0 && format.kind() != LS_FIELD_TEXT) malformed("format", format, "a text");
  if (!groups.is_map()) {
    refuse(LS_INVALID_CHECKPOINT, "config_groups",
           groups ? std::string(groups.text().substr(0, 80)) : "nothing", "a map of groups");
  }
  try {
    read_format("format", std::string(format.text()));
    read_schemes(json_of(groups), std::string(format.text()));
  } catch (const sdk::Failure& failure) {
    const int32_t status = failure.status();
    sdk::fail(status == LS_INVALID_CONFIG ? int32_t{LS_INVALID_CHECKPOINT} : status,
              std::string("declaration rejected: ") + failure.what());
  }
  out.tree("config_groups", groups.text());
  if (format.kind() == LS_FIELD_TEXT) out.text("format", format.text());
}

}  // namespace

void read_declaration(const sdk::Node& node, sdk::Declaration& out) {
  declare_groups(node, out);
  for (uint64_t i = 0; i < node.size(); ++i) {
    const auto [key, value] = node.entry(i);
    const bool silent = std::find(std::begin(kWithoutEffect), std::end(kWithoutEffect), key) !=
                            std::end(kWithoutEffect) ||
                        key == "config_groups" || key == "format";
    if (value.kind() == 0 || silent) continue;
    if (key == "ignore") {
      keep_modules(value, out);
    } else if (key == "sparsity_config") {
      check_sparsity(value);
    } else if (key == "transform_config") {
      check_transforms(value);
    } else if (key == "kv_cache_scheme") {
      if (!value.is_map()) malformed("kv_cache_scheme", value, "a map");
      out.tree("kv_cache_scheme", value.text());
    } else {
      sdk::fail(LS_INVALID_CHECKPOINT,
                "declaration rejected: found unknown key \"" + std::string(key) +
                    "\", expected config_groups, format, ignore, kv_cache_scheme, "
                    "quantization_status, sparsity_config, transform_config, version, provider or "
                    "global_compression_ratio");
    }
  }
  out.boolean("is_checkpoint_compressed_tensors_serialized", true);
}

std::string declaration(const Config& config) {
  Json out = {{"quant_method", "compressed-tensors"},
              {"quantization_status", "compressed"},
              {"config_groups", Json::object()}};
  if (!config.format.empty()) out["format"] = config.format;
  if (!config.groups_json.empty()) out["config_groups"] = Json::parse(config.groups_json);
  if (!config.kv_cache.empty()) out["kv_cache_scheme"] = Json::parse(config.kv_cache);
  Json ignore = Json::array();
  for (const auto* list : {&config.ignored, &config.ignored_layers}) {
    for (const std::string& one : *list) ignore.push_back(one);
  }
  out["ignore"] = std::move(ignore);
  return out.dump();
}

}  // namespace loadstone::compressed_tensors
