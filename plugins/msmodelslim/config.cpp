#include "msmodelslim/config.hpp"

#include <nlohmann/json.hpp>

namespace loadstone::msmodelslim {
namespace {

Type type_of(std::string_view name) {
  if (const auto type = find_type(name)) return *type;
  std::string text = "quant_type rejected: found ";
  sdk::detail::append_json_text(text, name);
  const char* reason = why_refused(name);
  if (reason != nullptr) sdk::fail(LS_INVALID_CONFIG, text + ", which is not read: " + reason);
  sdk::fail(LS_INVALID_CONFIG, text + ", expected " + type_names());
}

void read_types(std::string_view json, Config& out) {
  const auto tree = nlohmann::json::parse(json, nullptr, false);
  const auto wrong = [] {
    sdk::fail(LS_INVALID_CONFIG, "quant_description rejected: expected a map of types to modules");
  };
  if (!tree.is_object()) wrong();
  for (const auto& [name, modules] : tree.items()) {
    const Type type = type_of(name);
    if (out.type && *out.type != type) {
      sdk::fail(LS_INVALID_CONFIG, std::string("quant_type rejected: found ") + name_of(*out.type) +
                                       ", expected " + name_of(type) +
                                       " as quant_model_description.json says, or nothing");
    }
    if (!modules.is_array()) wrong();
    for (const auto& module : modules) {
      if (!module.is_string()) wrong();
      out.types[module.get<std::string>()] = type;
    }
  }
}

}  // namespace

Config configure(const sdk::Values& values) {
  Config out;
  if (values.has("quant_type")) out.type = type_of(values.text("quant_type"));
  if (values.has("quant_description")) read_types(values.text("quant_description"), out);
  out.serialized = values.boolean(kSerialized);
  out.ignored_layers = values.texts("ignored_layers");
  return out;
}

std::optional<Type> Config::of(std::string_view component, std::string_view module) const {
  const std::string own = std::string(component) + ".";
  for (const std::string_view prefix :
       {std::string_view(), std::string_view(own), std::string_view("model.diffusion_model."),
        std::string_view("diffusion_model.")}) {
    const auto found = types.find(std::string(prefix) + std::string(module));
    if (found != types.end()) return found->second;
  }
  return types.empty() ? type : std::nullopt;
}

}  // namespace loadstone::msmodelslim
