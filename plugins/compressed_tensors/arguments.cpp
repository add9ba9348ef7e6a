#include "compressed_tensors/arguments.hpp"

#include <algorithm>
#include <loadstone/plugin.hpp>

namespace loadstone::compressed_tensors {
namespace {

constexpr int64_t kMaxGroup = 1 << 24;

// What a scheme may say; the last ones tell how the tool measured, nothing that a loader acts on.
constexpr const char* kKeys[] = {
    "num_bits", "type",        "symmetric", "group_size", "strategy", "block_structure",
    "dynamic",  "scale_dtype", "actorder",  "zp_dtype",   "observer", "observer_kwargs"};

struct StrategyName {
  const char* name;
  Strategy strategy;
};
constexpr StrategyName kStrategies[] = {
    {"tensor", Strategy::tensor}, {"channel", Strategy::channel}, {"group", Strategy::group},
    {"block", Strategy::block},   {"token", Strategy::token},     {"tensor_group", Strategy::group},
};

int64_t integer(const std::string& key, const Json& value, int64_t low, int64_t high) {
  const int64_t out = value.is_number_integer() ? value.get<int64_t>() : low - 1;
  if (out >= low && out <= high) return out;
  malformed(key, value, "an integer from " + std::to_string(low) + " to " + std::to_string(high));
}

bool boolean(const std::string& key, const Json& value, bool otherwise) {
  if (value.is_null()) return otherwise;
  if (!value.is_boolean()) malformed(key, value, "true or false");
  return value;
}

std::string text(const std::string& key, const Json& value) {
  if (!value.is_string()) malformed(key, value, "a text");
  std::string out = value;
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

bool is_float(const std::string& key, const Json& value) {
  if (value.is_null()) return false;
  const std::string name = text(key, value);
  if (name != "int" && name != "float") malformed(key, value, "int or float");
  return name == "float";
}

Dynamic read_dynamic(const std::string& key, const Json& value) {
  if (value.is_null()) return Dynamic::no;
  if (value.is_boolean()) return value.get<bool>() ? Dynamic::yes : Dynamic::no;
  if (text(key, value) != "local") malformed(key, value, "true, false or local");
  return Dynamic::local;
}

/// Whether columns were reordered so that their groups must be stored; "weight" leaves no trace.
bool read_order(const std::string& key, const Json& value) {
  if (value.is_null()) return false;
  if (value.is_boolean()) return value;
  const std::string name = text(key, value);
  if (name == "group" || name == "dynamic") return true;
  if (name != "weight" && name != "static") malformed(key, value, "group, weight or null");
  return false;
}

/// [128, 128], or "128x128" as older versions write it.
void read_block(const std::string& key, const Json& value, Arguments& out) {
  const char* expected = "[rows, columns]";
  if (value.is_array()) {
    if (value.size() != 2) malformed(key, value, expected);
    out.block_rows = static_cast<uint64_t>(integer(key, value[0], 1, kMaxGroup));
    out.block_columns = static_cast<uint64_t>(integer(key, value[1], 1, kMaxGroup));
    return;
  }
  const std::string pair = text(key, value);
  const size_t cross = pair.find('x');
  const auto number = [&](const std::string& digits) -> uint64_t {
    const bool plain = !digits.empty() && digits.size() < 8 &&
                       std::all_of(digits.begin(), digits.end(),
                                   [](unsigned char c) { return std::isdigit(c) != 0; });
    if (!plain || std::stoull(digits) == 0) malformed(key, value, expected);
    return std::stoull(digits);
  };
  out.block_rows = number(pair.substr(0, cross));
  out.block_columns = number(cross == std::string::npos ? "" : pair.substr(cross + 1));
}

Strategy read_strategy(const std::string& key, const Json& value, int64_t group_size) {
  if (value.is_null()) {
    return group_size > 0    ? Strategy::group
           : group_size == 0 ? Strategy::tensor
                             : Strategy::channel;
  }
  const std::string name = text(key, value);
  std::string names;
  for (const StrategyName& one : kStrategies) {
    if (name == one.name) return one.strategy;
    const bool last = &one == std::end(kStrategies) - 1;
    names += (names.empty() ? "" : last ? " or " : ", ") + std::string(one.name);
  }
  if (name == "attn_head") {
    sdk::fail(LS_UNSUPPORTED, key + " rejected: found \"attn_head\", expected " + names +
                                  ": scales of attention heads are not a layer's");
  }
  malformed(key, value, names);
}

/// The keys that say something, for errors.
std::string summary(const Json& arguments) {
  Json out = Json::object();
  for (const char* key : {"num_bits", "type", "strategy", "group_size", "dynamic", "symmetric"}) {
    const Json value = arguments.value(key, Json());
    if (!value.is_null()) out[key] = value;
  }
  return out.dump();
}

}  // namespace

void malformed(const std::string& key, const Json& found, const std::string& expected) {
  std::string text = found.is_null() ? "nothing" : found.dump();
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  sdk::fail(LS_INVALID_CONFIG, key + " rejected: found " + text + ", expected " + expected);
}

Arguments read_arguments(const std::string& key, const Json& arguments) {
  if (!arguments.is_object()) malformed(key, arguments, "a map of num_bits, type, strategy …");
  for (const auto& [name, value] : arguments.items()) {
    const bool known = std::any_of(std::begin(kKeys), std::end(kKeys),
                                   [&](const char* one) { return name == one; });
    if (known) continue;
    sdk::fail(LS_INVALID_CONFIG, key + " rejected: found unknown key " + Json(name).dump() +
                                     ", expected num_bits, type, symmetric, strategy, group_size, "
                                     "block_structure, dynamic, actorder, scale_dtype, zp_dtype, "
                                     "observer or observer_kwargs");
  }
  const auto at = [&](const char* name) { return arguments.value(name, Json()); };
  Arguments out;
  out.text = summary(arguments);
  if (const Json bits = at("num_bits"); !bits.is_null()) {
    out.bits = static_cast<uint32_t>(integer(key + ".num_bits", bits, 1, 16));
  }
  out.is_float = is_float(key + ".type", at("type"));
  out.symmetric = boolean(key + ".symmetric", at("symmetric"), true);
  out.ordered = read_order(key + ".actorder", at("actorder"));
  out.dynamic = read_dynamic(key + ".dynamic", at("dynamic"));
  const Json size = at("group_size");
  const int64_t group = size.is_null() ? 0 : integer(key + ".group_size", size, -1, kMaxGroup);
  out.strategy = read_strategy(key + ".strategy", at("strategy"), group);
  out.group_size = group > 0 ? static_cast<uint64_t>(group) : 0;
  if (out.strategy == Strategy::group && out.group_size == 0) {
    malformed(key + ".group_size", size, "a positive number with strategy group");
  }
  if (const Json block = at("block_structure"); !block.is_null()) {
    read_block(key + ".block_structure", block, out);
  } else if (out.strategy == Strategy::block) {
    malformed(key + ".block_structure", block, "[rows, columns] with strategy block");
  }
  const Json scale = at("scale_dtype");
  out.is_e8m0 = scale.is_string() && (scale == "torch.uint8" || scale == "torch.float8_e8m0fnu");
  return out;
}

}  // namespace loadstone::compressed_tensors
