#include "compressed_tensors/scheme.hpp"

#include <algorithm>
#include <loadstone/plugin.hpp>

#include "compressed_tensors/arguments.hpp"

namespace loadstone::compressed_tensors {
namespace {

struct FormatName {
  const char* name;
  std::optional<Format> format;
};
constexpr FormatName kFormats[] = {
    {"float-quantized", Format::floats},
    {"int-quantized", Format::integers},
    {"naive-quantized", std::nullopt},  // by the type of its weights
    {"pack-quantized", Format::packed},
    {"nvfp4-pack-quantized", Format::nvfp4},
    {"mxfp4-pack-quantized", Format::mxfp4},
    {"mxfp8-quantized", Format::mxfp8},
    {"mixed-precision", std::nullopt},  // by each group's
    {"dense", std::nullopt},            // nothing is quantized
};

struct Refused {
  const char *name, *reason;
};
constexpr Refused kRefusedFormats[] = {
    {"marlin-24", "2:4 sparse weights in the order of one kernel are not implemented"},
    {"sparse-24-bitmask", "sparse weights are not implemented"},
    {"sparse-bitmask", "sparse weights are not implemented"},
    {"mxfp6-pack-quantized", "floats of 6 bits are not implemented"},
    {"fakequant", "its weights are plain and rounded while running"},
};

constexpr uint64_t kNvfp4Group = 16, kMxGroup = 32;

[[noreturn]] void unsupported(const std::string& key, const std::string& found,
                              const std::string& expected) {
  sdk::fail(LS_UNSUPPORTED, key + " rejected: found " + found + ", expected " + expected);
}

/// The format that the tool writes such weights in.
Format inferred(const Arguments& weights, bool quantizes_activations) {
  if (weights.is_float && weights.bits == 4) {
    return weights.group_size == kNvfp4Group ? Format::nvfp4 : Format::mxfp4;
  }
  if (weights.is_float) return weights.is_e8m0 ? Format::mxfp8 : Format::floats;
  return quantizes_activations ? Format::integers : Format::packed;
}

void check_weights(const std::string& key, const Arguments& weights, const Scheme& scheme) {
  const std::string of = std::string(" of ") + format_name(scheme.format);
  const auto need = [&](bool holds, const char* field, const std::string& found,
                        const std::string& expected) {
    if (!holds) unsupported(key + "." + field, found, expected + of);
  };
  const std::string bits = std::to_string(weights.bits);
  const std::string group = std::to_string(weights.group_size);
  const bool integers = scheme.format == Format::integers || scheme.format == Format::packed;
  need(weights.is_float != integers, "type", weights.is_float ? "float" : "int",
       integers ? "int" : "float");
  need(weights.dynamic == Dynamic::no, "dynamic", "a dynamic weight", "false");
  need(weights.symmetric || integers, "symmetric", "false", "true");
  need(weights.strategy != Strategy::token, "strategy", "token", "tensor, channel, group or block");
  need(!weights.ordered || scheme.format == Format::packed, "actorder", "group",
       "null or weight (\"weight_g_idx\" is a tensor of pack-quantized)");
  switch (scheme.format) {
    case Format::floats:
      return need(weights.bits == 8, "num_bits", bits, "8");
    case Format::integers:
    case Format::packed:
      need(weights.bits >= 1 && weights.bits <= 8, "num_bits", bits, "1 to 8");
      need(weights.strategy != Strategy::block, "strategy", "block", "tensor, channel or group");
      return need(weights.symmetric || weights.strategy != Strategy::tensor ||
                      scheme.format == Format::integers,
                  "symmetric", "false with one scale", "true");
    case Format::nvfp4:
      need(weights.bits == 4, "num_bits", bits, "4");
      return need(weights.group_size == kNvfp4Group, "group_size", group, "16");
    case Format::mxfp4:
    case Format::mxfp8:
      need(weights.bits == (scheme.format == Format::mxfp4 ? 4 : 8), "num_bits", bits,
           scheme.format == Format::mxfp4 ? "4" : "8");
      return need(weights.group_size == kMxGroup, "group_size", group, "32");
  }
}

Activation mx_activation(const std::string& key, const Arguments& input) {
  const bool fits = input.is_float && input.group_size == kMxGroup && input.dynamic == Dynamic::yes;
  if (fits && input.bits == 4) return Activation::mx_e2m1;
  if (fits && input.bits == 8) return Activation::mx_e4m3;
  unsupported(key, input.text, "floats of 4 or 8 bits in dynamic groups of 32");
}

Activation int_activation(const std::string& key, const Arguments& input) {
  if (input.bits != 8 && input.bits != 4) {
    unsupported(key + ".num_bits", std::to_string(input.bits), "4 or 8");
  }
  if (!input.symmetric) {
    unsupported(key + ".symmetric", "false",
                "true: zero points of activations are not implemented");
  }
  if (input.strategy == Strategy::token && input.dynamic == Dynamic::yes) {
    return input.bits == 8 ? Activation::int8_token : Activation::int4_token;
  }
  if (input.bits == 8 && input.strategy == Strategy::tensor && input.dynamic == Dynamic::no) {
    return Activation::int8_static;
  }
  unsupported(key, input.text, "a dynamic scale a token, or a static one of 8 bits");
}

Activation fp8_activation(const std::string& key, const Arguments& input, const Scheme& scheme) {
  if (input.bits != 8) {
    unsupported(key + ".num_bits", std::to_string(input.bits),
                "8 with weights of " + std::string(format_name(scheme.format)));
  }
  if (input.strategy == Strategy::token && input.dynamic == Dynamic::yes) {
    return Activation::fp8_token;
  }
  if (input.strategy == Strategy::tensor && input.dynamic == Dynamic::no) {
    return Activation::fp8_static;
  }
  const bool groups = input.strategy == Strategy::group && input.dynamic == Dynamic::yes;
  if (groups && scheme.strategy == Strategy::block && input.group_size == scheme.block_columns) {
    return Activation::fp8_group;
  }
  unsupported(key, input.text,
              "a dynamic scale a token, a static one, or dynamic groups as wide as the weight's "
              "blocks");
}

Activation read_activation(const std::string& key, const Arguments& input, const Scheme& scheme) {
  if (scheme.format == Format::mxfp4 || scheme.format == Format::mxfp8) {
    const Activation out = mx_activation(key, input);
    if (scheme.format == Format::mxfp8 && out == Activation::mx_e2m1) {
      unsupported(key + ".num_bits", "4", "8 with weights of mxfp8-quantized");
    }
    return out;
  }
  const bool fours = scheme.format == Format::nvfp4 && input.is_float && input.bits == 4;
  if (fours && input.group_size == kNvfp4Group && input.dynamic != Dynamic::yes) {
    return Activation::nvfp4;
  }
  if (fours) unsupported(key, input.text, "groups of 16 under a static \"input_global_scale\"");
  const bool integers = scheme.format == Format::integers || scheme.format == Format::packed;
  if (!input.is_float && !integers) {
    unsupported(key + ".type", "int",
                "float with weights of " + std::string(format_name(scheme.format)));
  }
  return input.is_float ? fp8_activation(key, input, scheme) : int_activation(key, input);
}

std::vector<std::string> read_targets(const std::string& key, const Json& targets) {
  if (!targets.is_array())
    malformed(key, targets, "a list of module names, classes or re: patterns");
  std::vector<std::string> out;
  for (const Json& one : targets) {
    if (!one.is_string()) malformed(key, one, "module names, classes or re: patterns");
    out.push_back(one);
  }
  return out;
}

void set_weights(const std::string& key, const Json& group, const std::string& format,
                 Scheme& out) {
  const Arguments weights = read_arguments(key + ".weights", group.at("weights"));
  const Json input = group.value("input_activations", Json());
  std::string name = format;
  std::string format_key = "format";
  if (const Json own = group.value("format", Json()); !own.is_null()) {
    format_key = key + ".format";
    if (!own.is_string()) malformed(format_key, own, "the name of a format");
    name = own;
  }
  const auto declared = read_format(format_key, name);
  out.format = declared ? *declared : inferred(weights, !input.is_null());
  if (name == "naive-quantized") out.format = weights.is_float ? Format::floats : Format::integers;
  const bool older_mxfp8 = out.format == Format::floats && weights.is_e8m0;
  if (older_mxfp8) out.format = Format::mxfp8;
  out.strategy = weights.strategy;
  out.bits = weights.bits;
  out.symmetric = weights.symmetric;
  out.ordered = weights.ordered;
  out.group_size = weights.group_size;
  out.block_rows = weights.block_rows;
  out.block_columns = weights.block_columns;
  check_weights(key + ".weights", weights, out);
  if (input.is_null()) return;
  const std::string input_key = key + ".input_activations";
  out.activation = read_activation(input_key, read_arguments(input_key, input), out);
}

Scheme read_scheme(const std::string& name, const Json& group, const std::string& format) {
  const std::string key = "config_groups." + name;
  if (!group.is_object()) {
    malformed(key, group,
              "a map of targets, weights and input_activations (names of presets are "
              "written out by the tool)");
  }
  constexpr const char* kKeys[] = {"targets", "weights", "input_activations", "output_activations",
                                   "format"};
  for (const auto& [field, value] : group.items()) {
    const bool known = std::any_of(std::begin(kKeys), std::end(kKeys),
                                   [&](const char* one) { return field == one; });
    if (!known) {
      sdk::fail(LS_INVALID_CONFIG, key + " rejected: found unknown key " + Json(field).dump() +
                                       ", expected targets, weights, input_activations, "
                                       "output_activations or format");
    }
  }
  if (!group.value("output_activations", Json()).is_null()) {
    unsupported(key + ".output_activations", "a scheme",
                "null: outputs of layers are not quantized here");
  }
  Scheme out;
  out.name = name;
  out.targets = read_targets(key + ".targets", group.value("targets", Json()));
  out.quantizes = !group.value("weights", Json()).is_null();
  if (out.quantizes) set_weights(key, group, format, out);
  return out;
}

}  // namespace

const char* format_name(Format format) {
  for (const FormatName& one : kFormats) {
    if (one.format == format) return one.name;
  }
  return "";
}

std::optional<Format> read_format(const std::string& key, const std::string& name) {
  if (name.empty()) return std::nullopt;
  std::string names;
  for (const FormatName& one : kFormats) {
    if (name == one.name) return one.format;
    const bool last = &one == std::end(kFormats) - 1;
    names += (names.empty() ? "" : last ? " or " : ", ") + std::string(one.name);
  }
  for (const Refused& one : kRefusedFormats) {
    if (name == one.name) unsupported(key, Json(name).dump(), names + ": " + one.reason);
  }
  unsupported(key, Json(name).dump(), names);
}

std::vector<Scheme> read_schemes(const Json& groups, const std::string& format) {
  if (!groups.is_object()) malformed("config_groups", groups, "a map of groups");
  std::vector<Scheme> out;
  for (const auto& [name, group] : groups.items()) {
    out.push_back(read_scheme(name, group, format));
  }
  return out;
}

}  // namespace loadstone::compressed_tensors
