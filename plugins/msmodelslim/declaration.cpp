#include "msmodelslim/declaration.hpp"

#include <map>
#include <unordered_set>

#include "common/layer/declared.hpp"

namespace loadstone::msmodelslim {
namespace {

constexpr std::string_view kWeight = ".weight", kWrapped = ".linear", kSmooth = ".div.mul_scale";

std::string quoted(std::string_view text) {
  std::string out;
  sdk::detail::append_json_text(out, std::string(text));
  return out;
}

[[noreturn]] void refuse(std::string_view key, std::string_view type) {
  const std::string where = "declaration rejected: " + std::string(key) + ": found ";
  if (const char* reason = why_refused(type)) {
    sdk::fail(LS_UNSUPPORTED, where + quoted(type) + ", which is not read: " + reason);
  }
  sdk::fail(LS_INVALID_CHECKPOINT, where + quoted(type) + ", expected FLOAT, " + type_names());
}

/// Modules X whose weight stands as X.linear.weight, for a scale X.div.mul_scale stands beside it.
std::unordered_set<std::string> wrapped_modules(const sdk::Node& node) {
  std::unordered_set<std::string> out;
  for (uint64_t i = 0; i < node.size(); ++i) {
    const std::string_view key = node.entry(i).first;
    if (key.ends_with(kSmooth)) out.emplace(key.substr(0, key.size() - kSmooth.size()));
  }
  return out;
}

}  // namespace

void read_description(const sdk::Node& node, sdk::Declaration& out) {
  out.boolean(kSerialized, true);
  const auto wrapped = wrapped_modules(node);
  std::map<std::string, std::vector<std::string>> modules;  // by type
  for (uint64_t i = 0; i < node.size(); ++i) {
    const auto [key, value] = node.entry(i);
    if (value.kind() != LS_FIELD_TEXT) continue;
    const std::string_view name = value.text();
    if (key == "model_quant_type") {
      out.text("model_quant_type", name);
      continue;
    }
    if (why_refused(name) != nullptr) refuse(key, name);
    if (!key.ends_with(kWeight)) continue;
    std::string module(key.substr(0, key.size() - kWeight.size()));
    if (module.ends_with(kWrapped)) {
      const std::string outer = module.substr(0, module.size() - kWrapped.size());
      if (wrapped.contains(outer)) module = outer;
    }
    if (is_float(name)) {
      out.keep(module.c_str(), LS_STYLE_EXACT);
    } else if (const auto type = find_type(name)) {
      modules[name_of(*type)].push_back(std::move(module));
    } else {
      refuse(key, name);
    }
  }
  std::string json;
  for (const auto& [type, names] : modules) {
    json += (json.empty() ? "{" : ",") + quoted(type) + ":" + common::json_list(names);
  }
  out.tree("quant_description", json.empty() ? "{}" : json + "}");
}

void read_dictionary(const sdk::Node& node, sdk::Declaration& out) {
  common::read_declared(node, kFields, kSerialized, out);
}

std::string declaration(const Config& config) {
  std::string out = "{\"quant_method\":\"msmodelslim\"";
  if (config.type) out += ",\"quant_type\":" + quoted(name_of(*config.type));
  return out + ",\"ignored_layers\":" + common::json_list(config.ignored_layers) + "}";
}

}  // namespace loadstone::msmodelslim
