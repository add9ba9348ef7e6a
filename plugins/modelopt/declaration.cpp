#include "modelopt/declaration.hpp"

#include <nlohmann/json.hpp>

#include "common/layer/declared.hpp"

namespace loadstone::modelopt {
namespace {

[[noreturn]] void refuse(const std::string& key, const sdk::Node& found,
                         const std::string& expected) {
  const std::string text = found ? std::string(found.text()) : "nothing";
  sdk::fail(LS_INVALID_CHECKPOINT,
            "declaration rejected: " + key + ": found " + text + ", expected " + expected);
}

void keep_modules(const sdk::Node& node, const char* key, sdk::Declaration& out) {
  const sdk::Node list = node.get(key);
  if (list.kind() == 0) return;
  if (!list.is_list()) refuse(key, list, "a list of module names");
  for (uint64_t i = 0; i < list.size(); ++i) {
    for (const Pattern& pattern : patterns_of(std::string(list.at(i).text()))) {
      out.keep(pattern.text.c_str(), pattern.style);
    }
  }
}

void copy_tree(const sdk::Node& node, const char* key, sdk::Declaration& out) {
  const sdk::Node tree = node.get(key);
  if (tree.kind() == 0) return;
  if (!tree.is_map()) refuse(key, tree, "a map");
  out.tree(key, tree.text());
}

void read_group_size(const sdk::Node& node, sdk::Declaration& out) {
  const sdk::Node size = node.get("group_size");
  if (size.kind() == 0) return;
  const std::string text(size.text());
  const int64_t value = sdk::detail::parse_integer(text, "group_size");
  if (value < 1) refuse("group_size", size, "a positive number");
  out.integer("group_size", value);
}

/// The keys of one level: of the dictionary itself, or of its `quantization`.
void read_level(const sdk::Node& node, sdk::Declaration& out) {
  if (const auto algorithm = node.get("quant_algo"); algorithm.kind() == LS_FIELD_TEXT) {
    if (!find_algorithm(std::string(algorithm.text()))) {
      sdk::fail(LS_UNSUPPORTED, "declaration rejected: quant_algo: found \"" +
                                    std::string(algorithm.text()) + "\", expected " +
                                    algorithm_names());
    }
    out.text("quant_algo", algorithm.text());
  }
  read_group_size(node, out);
  if (const auto zero = node.get("has_zero_point"); zero.text() == "true") {
    sdk::fail(LS_UNSUPPORTED,
              "declaration rejected: has_zero_point: found true, expected false: zero points of "
              "weights are not read");
  }
  if (const auto kv = node.get("kv_cache_quant_algo"); kv.kind() == LS_FIELD_TEXT) {
    out.text("kv_cache_quant_algo", kv.text());
  }
  for (const char* key : {"kv_cache_scheme", "config_groups", "quantized_layers"}) {
    copy_tree(node, key, out);
  }
  for (const char* key : {"exclude_modules", "ignore"}) keep_modules(node, key, out);
}

}  // namespace

void read_declaration(const sdk::Node& node, sdk::Declaration& out) {
  const sdk::Node nested = node.get("quantization");
  if (node.get("quant_algo").kind() != LS_FIELD_TEXT &&
      nested.get("quant_algo").kind() != LS_FIELD_TEXT) {
    refuse("quant_algo", node.get("quant_algo"), algorithm_names());
  }
  read_level(node, out);
  if (nested.is_map()) read_level(nested, out);
  out.boolean("is_checkpoint_modelopt_serialized", true);
}

std::string declaration(const Config& config) {
  using Json = nlohmann::ordered_json;
  Json out = {{"quant_method", "modelopt"}, {"quant_algo", config.algorithm_name}};
  if (config.setting.group_size != 0) out["group_size"] = config.setting.group_size;
  if (!config.layers_json.empty()) out["quantized_layers"] = Json::parse(config.layers_json);
  if (!config.kv_cache.empty()) out["kv_cache_quant_algo"] = config.kv_cache;
  Json ignore = Json::array();
  for (const auto* list : {&config.excluded, &config.ignored_layers}) {
    for (const std::string& one : *list) ignore.push_back(one);
  }
  out["ignore"] = std::move(ignore);
  return out.dump();
}

}  // namespace loadstone::modelopt
