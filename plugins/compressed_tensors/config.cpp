#include "compressed_tensors/config.hpp"

#include <algorithm>

#include "compressed_tensors/arguments.hpp"

namespace loadstone::compressed_tensors {
namespace {

bool is_regex(std::string_view target) { return target.starts_with("re:"); }

/// Patterns are the host's business, so that every plugin reads them alike.
bool names(const std::string& target, std::string_view module) {
  if (!is_regex(target)) return target == module;
  if (sdk::host().match == nullptr) {
    sdk::fail(LS_UNSUPPORTED,
              "pattern rejected: found \"" + target + "\", expected plain names from this host");
  }
  const std::string anchored = "^(?:" + target.substr(3) + ")";
  const int32_t answer =
      sdk::host().match(LS_STYLE_REGEX, anchored.c_str(), std::string(module).c_str());
  if (answer < 0) {
    sdk::fail(-answer,
              "pattern rejected: found \"" + target + "\", expected an RE2 expression after re:");
  }
  return answer != 0;
}

/// By the module's name inside the component, or with the component in front.
bool names_module(const std::string& target, const sdk::Layer& layer, std::string_view module) {
  if (names(target, module)) return true;
  if (layer.component().empty()) return false;
  return names(target, std::string(layer.component()) + "." + std::string(module));
}

/// Class names as the tool writes them: of the module's own class ("Linear"), or of one that ends
/// so ("QKVParallelLinear").
bool names_class(const std::string& target, const sdk::Layer& layer) {
  if (is_regex(target)) return false;
  const bool multiplies = layer.kind() == LS_KIND_LINEAR || layer.kind() == LS_KIND_GROUPED;
  if (multiplies) return target.ends_with("Linear");
  return layer.kind() == LS_KIND_GATHER && target.ends_with("Embedding");
}

template <typename Fits>
const Scheme* find_scheme(const Config& config, const Fits& fits) {
  for (const Scheme& scheme : config.schemes) {
    if (std::any_of(scheme.targets.begin(), scheme.targets.end(), fits)) return &scheme;
  }
  return nullptr;
}

Json tree(const sdk::Values& values, const char* key) {
  if (!values.has(key)) return Json();
  Json out = Json::parse(values.text(key), nullptr, false);
  if (out.is_discarded()) malformed(key, Json(std::string(values.text(key))), "a map");
  return out;
}

}  // namespace

Config configure(const sdk::Values& values) {
  Config out;
  if (values.has("format")) {
    out.format = values.text("format");
    read_format("format", out.format);
  }
  if (const Json groups = tree(values, "config_groups"); !groups.is_null()) {
    out.schemes = read_schemes(groups, out.format);
    out.groups_json = groups.dump();
  }
  if (const Json kv = tree(values, "kv_cache_scheme"); !kv.is_null()) out.kv_cache = kv.dump();
  out.ignored = values.texts("ignore");
  for (const std::string& one : out.ignored) names(one, "");  // patterns that aren't any
  for (const Scheme& scheme : out.schemes) {
    for (const std::string& one : scheme.targets) names(one, "");
  }
  out.ignored_layers = values.texts("ignored_layers");
  out.serialized = values.boolean("is_checkpoint_compressed_tensors_serialized");
  return out;
}

const Scheme* scheme_of(const Config& config, const sdk::Layer& layer, std::string_view module) {
  const Scheme* named = find_scheme(
      config, [&](const std::string& target) { return names_module(target, layer, module); });
  if (named != nullptr) return named;
  return find_scheme(config, [&](const std::string& target) { return names_class(target, layer); });
}

const char* left_out_by(const std::vector<std::string>& entries, const sdk::Layer& layer) {
  const auto by = [&](std::string_view module) -> const char* {
    for (const std::string& entry : entries) {
      if (names_module(entry, layer, module)) return entry.c_str();
    }
    return nullptr;
  };
  if (const char* own = by(layer.path())) return own;
  const char* first = nullptr;
  for (uint64_t i = 0; i < layer.part_count(); ++i) {
    const char* part = by(layer.part(i).path());
    if (part == nullptr) return nullptr;
    if (first == nullptr) first = part;
  }
  return first;
}

}  // namespace loadstone::compressed_tensors
