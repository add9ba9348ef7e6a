#include "modelopt/config.hpp"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

namespace loadstone::modelopt {
namespace {

using Json = nlohmann::json;

struct Name {
  const char* name;
  Algorithm algorithm;
};
constexpr Name kNames[] = {
    {"FP8", Algorithm::fp8},
    {"FP8_PER_CHANNEL_PER_TOKEN", Algorithm::fp8_channel},
    {"FP8_PB_WO", Algorithm::fp8_block},
    {"FP8_BLOCK_SCALES", Algorithm::fp8_block},
    {"NVFP4", Algorithm::nvfp4},
    {"NVFP4_AWQ", Algorithm::nvfp4},
    {"W4A16_NVFP4", Algorithm::nvfp4_weights},
    {"W4A8_NVFP4_FP8", Algorithm::nvfp4_fp8},
    {"MXFP8", Algorithm::mxfp8},
    {"MXFP4", Algorithm::mxfp4},
    {"W4A8_MXFP4_FP8", Algorithm::mxfp4_fp8},
    {"W8A8_SQ_PER_CHANNEL", Algorithm::int8},
    {"W8A16", Algorithm::int8_weights},
    {"W4A16_AWQ", Algorithm::int4_weights},
    {"INT4_AWQ", Algorithm::int4_weights},
    {"W4A8_AWQ", Algorithm::int4_fp8},
    {"MIXED_PRECISION", Algorithm::mixed},
};

[[noreturn]] void refuse(const std::string& field, const std::string& found,
                         const std::string& expected) {
  sdk::fail(LS_INVALID_CONFIG, field + " rejected: found " + found + ", expected " + expected);
}

std::string quoted(const std::string& text) { return Json(text).dump(); }

Algorithm algorithm_of(const std::string& field, const std::string& name) {
  if (const auto found = find_algorithm(name)) return *found;
  refuse(field, quoted(name), algorithm_names());
}

Json parsed(const char* field, std::string_view text) {
  Json out = Json::parse(text, nullptr, false);
  if (!out.is_object()) refuse(field, std::string(text), "a map");
  return out;
}

int64_t group_size_of(const std::string& field, const Json& value) {
  if (value.is_null()) return 0;
  int64_t out = value.is_number_integer() ? value.get<int64_t>() : 0;
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const bool digits =
        !text.empty() && text.size() < 10 &&
        std::all_of(text.begin(), text.end(), [](char c) { return std::isdigit(c); });
    if (digits) out = std::stoll(text);
  }
  if (out < 1) refuse(field, value.dump(), "a positive number");
  return out;
}

void read_layers(const Json& layers, Config& out) {
  if (!layers.is_object() || layers.empty()) {
    refuse("quantized_layers", layers.is_null() ? "nothing" : layers.dump(),
           "a map of layers to {quant_algo: …}, as quant_algo MIXED_PRECISION needs it");
  }
  for (const auto& [name, entry] : layers.items()) {
    const std::string field = "quantized_layers." + name;
    if (!entry.is_object() || !entry.contains("quant_algo") || !entry["quant_algo"].is_string()) {
      refuse(field, entry.dump(), "a map with quant_algo");
    }
    Setting& setting = out.layers[name];
    setting.algorithm = algorithm_of(field + ".quant_algo", entry["quant_algo"]);
    if (setting.algorithm == Algorithm::mixed) {
      refuse(field + ".quant_algo", "MIXED_PRECISION", "the algorithm of one layer");
    }
    setting.group_size = group_size_of(field + ".group_size", entry.value("group_size", Json()));
  }
  out.layers_json = layers.dump();
}

void append(const char* field, const Json& list, std::vector<std::string>& out) {
  if (list.is_null()) return;
  if (!list.is_array()) refuse(field, list.dump(), "a list of module names");
  for (const Json& one : list) {
    if (!one.is_string()) refuse(field, one.dump(), "module names");
    out.push_back(one);
  }
}

/// W4A16 by its groups: every one of config_groups leaves activations alone.
bool weights_only(const Json& groups) {
  return groups.is_object() && !groups.empty() &&
         std::all_of(groups.begin(), groups.end(), [](const Json& group) {
           return group.is_object() && group.value("input_activations", Json()).is_null();
         });
}

/// The dictionary as one document: keys beside `quantization` and those in it.
Json document_of(const sdk::Values& values) {
  Json out = values.has("quantization") ? parsed("quantization", values.text("quantization"))
                                        : Json::object();
  for (const char* key : {"quant_algo", "kv_cache_quant_algo"}) {
    if (values.has(key)) out[key] = std::string(values.text(key));
  }
  if (values.has("group_size")) out["group_size"] = values.integer("group_size");
  for (const char* key : {"quantized_layers", "config_groups"}) {
    if (values.has(key)) out[key] = parsed(key, values.text(key));
  }
  return out;
}

}  // namespace

std::optional<Algorithm> find_algorithm(const std::string& name) {
  std::string upper = name;
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  for (const Name& known : kNames) {
    if (upper == known.name) return known.algorithm;
  }
  return std::nullopt;
}

std::string algorithm_names() {
  std::string out;
  for (const Name& known : kNames) {
    const bool last = &known == std::end(kNames) - 1;
    out += (out.empty() ? "" : last ? " or " : ", ") + std::string(known.name);
  }
  return out;
}

Config configure(const sdk::Values& values) {
  Config out;
  const Json document = document_of(values);
  const Json name = document.value("quant_algo", Json());
  if (!name.is_null()) {
    if (!name.is_string()) refuse("quant_algo", name.dump(), algorithm_names());
    out.algorithm_name = name;
    out.setting.algorithm = algorithm_of("quant_algo", out.algorithm_name);
  }
  out.setting.group_size = group_size_of("group_size", document.value("group_size", Json()));
  const Json layers = document.value("quantized_layers", Json());
  if (out.setting.algorithm == Algorithm::mixed) read_layers(layers, out);
  if (out.setting.algorithm == Algorithm::nvfp4 &&
      weights_only(document.value("config_groups", Json()))) {
    out.setting.algorithm = Algorithm::nvfp4_weights;
  }
  const Json kv = document.value("kv_cache_quant_algo", Json());
  if (kv.is_string()) out.kv_cache = kv;
  append("quantization.exclude_modules", document.value("exclude_modules", Json()), out.excluded);
  append("quantization.ignore", document.value("ignore", Json()), out.excluded);
  for (const char* key : {"exclude_modules", "ignore"}) {
    for (std::string& one : values.texts(key)) out.excluded.push_back(std::move(one));
  }
  out.ignored_layers = values.texts("ignored_layers");
  out.serialized = values.boolean("is_checkpoint_modelopt_serialized");
  out.dynamic = values.text("activation_scheme") == "dynamic";
  return out;
}

namespace {

/// A module's name and the ones that multimodal models also write it under.
std::vector<std::string> spellings(const std::string& module) {
  constexpr std::string_view kOuter = "model.language_model.", kInner = "language_model.model.";
  constexpr std::string_view kModel = "model.", kHead = "lm_head";
  const std::string_view all = module;
  std::vector<std::string> out = {module};
  const auto add = [&](std::string_view head, std::string_view rest) {
    out.push_back(std::string(head) + std::string(rest));
  };
  if (all.starts_with(kOuter)) {
    add(kInner, all.substr(kOuter.size()));
  } else if (all.starts_with(kInner)) {
    add(kOuter, all.substr(kInner.size()));
  } else if (all == "language_model.lm_head") {
    add("", kHead);
  } else if (all == kHead) {
    add("language_model.", kHead);
  } else if (all.starts_with(kModel)) {
    add(kOuter, all.substr(kModel.size()));
    add(kInner, all.substr(kModel.size()));
  }
  return out;
}

}  // namespace

std::optional<Setting> Config::of(const std::string& module) const {
  if (setting.algorithm != Algorithm::mixed) return setting;
  for (std::string name : spellings(module)) {
    while (!name.empty()) {
      const auto found = layers.find(name);
      if (found != layers.end()) return found->second;
      const size_t dot = name.rfind('.');
      name.resize(dot == std::string::npos ? 0 : dot);
    }
  }
  return std::nullopt;
}

std::vector<Pattern> patterns_of(const std::string& excluded) {
  std::string_view middle = excluded;
  const bool before = middle.starts_with('*') && !middle.starts_with("*.");
  if (before) middle.remove_prefix(1);
  const bool after = middle.ends_with('*') && !middle.ends_with(".*");
  if (after) middle.remove_suffix(1);
  const std::string text(middle);
  if (text.empty()) return {{LS_STYLE_GLOB, "*"}};
  if (text.find_first_of("*?[") == std::string::npos) {
    if (before && after) return {{LS_STYLE_SEGMENTS, text}};
    return {{before ? LS_STYLE_SUFFIX : LS_STYLE_PREFIX, text}, {LS_STYLE_EXACT, text}};
  }
  std::vector<Pattern> out = {{LS_STYLE_GLOB, text}};
  if (after) out.push_back({LS_STYLE_GLOB, text + ".*"});
  if (before) out.push_back({LS_STYLE_GLOB, "*." + text});
  if (before && after) out.push_back({LS_STYLE_GLOB, "*." + text + ".*"});
  return out;
}

namespace {

bool matches(const std::vector<Pattern>& patterns, std::string_view path) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const Pattern& one) {
    if (one.style == LS_STYLE_EXACT) return path == one.text;
    return sdk::detail::pattern_matches(one.style, one.text, path);
  });
}

}  // namespace

const char* excluded_by(const std::vector<std::string>& excluded, const sdk::Layer& layer) {
  const auto named = [&](std::string_view path) -> const char* {
    for (const std::string& one : excluded) {
      if (matches(patterns_of(one), path)) return one.c_str();
    }
    return nullptr;
  };
  if (const char* own = named(layer.path())) return own;
  const char* first = nullptr;
  std::string missing;
  for (uint64_t i = 0; i < layer.part_count(); ++i) {
    const std::string path(layer.part(i).path());
    const char* part = named(path);
    if (first == nullptr) first = part;
    if (part == nullptr) missing += (missing.empty() ? "" : " and ") + quoted(path);
  }
  if (first != nullptr && !missing.empty()) {
    sdk::fail(LS_INVALID_CONFIG, "exclude_modules names part of a fused layer: found " +
                                     quoted(first) + ", expected " + missing + " too");
  }
  return first;
}

bool left_out(const Config& config, const sdk::Layer& layer) {
  if (config.setting.algorithm != Algorithm::mixed || config.algorithm_name.empty()) return false;
  std::optional<Setting> first;
  std::string listed, missing;
  for (uint64_t i = 0; i < layer.part_count(); ++i) {
    const std::string path(layer.part(i).path());
    auto own = config.of(path);
    if (!own) own = config.of(std::string(layer.path()));
    std::string& names = own ? listed : missing;
    names += (names.empty() ? "" : " and ") + quoted(path);
    if (!own) continue;
    if (first && !(*first == *own)) {
      refuse("quantized_layers", "different settings for " + listed,
             "equal ones, since " + std::string(layer.path()) + " fuses them");
    }
    first = own;
  }
  if (first && !missing.empty()) refuse("quantized_layers", listed, missing + " too");
  return !first;
}

}  // namespace loadstone::modelopt
