#include "common/mx/autoround.hpp"

#include "common/layer/declared.hpp"

namespace loadstone::common::mx {
namespace {

using sdk::Node;

constexpr int64_t kPlain = 16;  // bits of what isn't quantized, and more

int64_t bits_of(const Node& node, const std::string& key) {
  if (node.kind() != LS_FIELD_INTEGER) {
    sdk::fail(LS_INVALID_CHECKPOINT, "declaration rejected: " + key + ": found " +
                                         std::string(node.text()) + ", expected an integer");
  }
  const int64_t bits = sdk::detail::parse_integer(std::string(node.text()), key.c_str());
  if (bits == 4 || bits == 8 || bits >= kPlain) return bits;
  sdk::fail(LS_UNSUPPORTED, "declaration rejected: " + key + ": found " + std::to_string(bits) +
                                ", expected 4, 8 or 16");
}

/// A key of extra_config is a layer's name, or its end, or an expression.
template <typename Declare>
void for_styles(const std::string& key, const Declare& declare) {
  if (key.find_first_of("*+?^$()[]{}|\\") != std::string::npos) return declare(LS_STYLE_REGEX);
  declare(LS_STYLE_SUFFIX);
  declare(LS_STYLE_EXACT);
}

}  // namespace

void read_autoround(const Node& node, sdk::Declaration& out) {
  read_autoround_scopes(node, out);
  if (const Node bits = node.get("act_bits"); bits.kind() != 0) {
    out.integer("activation_bits", bits_of(bits, "act_bits"));
  }
  const Node extra = node.get("extra_config");
  for (uint64_t i = 0; extra.is_map() && i < extra.size(); ++i) {
    const auto [layer, says] = extra.entry(i);
    const std::string name(layer), key = "extra_config." + name;
    for (const auto& [field, own] :
         {std::pair("weight_bits", "bits"), std::pair("activation_bits", "act_bits")}) {
      const Node bits = says.get(own);
      if (bits.kind() == 0) continue;
      const int64_t value = bits_of(bits, key + "." + own);
      if (value >= kPlain && std::string_view(own) == "bits") continue;  // kept, by its scope
      for_styles(name,
                 [&, f = field](uint32_t style) { out.integer(f, value, name.c_str(), style); });
    }
  }
}

void configure_bits(const sdk::Values& values, Config& config) {
  const int64_t weights = values.integer("weight_bits");
  const int64_t activations = values.integer("activation_bits");
  const MxElement own = config.element;
  if (weights == 4) config.element = MxElement::e2m1;
  if (weights == 8) config.element = MxElement::e4m3;
  if (config.element != own) config.rule = MxRule::ocp;  // the method's other rule is its own's
  if (weights == 4) config.codes_name = "weight_packed";
  config.weights_only = activations >= kPlain;
  const bool wide = config.element == MxElement::e4m3;
  config.w4a8 = !wide && activations == 8;
  if (wide && activations == 4) {
    sdk::fail(LS_INVALID_CONFIG,
              "act_bits rejected: found 4 under weights of 8 bits, expected 8 or 16");
  }
}

std::string declared_bits(const Config& config, MxElement own) {
  std::string out;
  if (config.element != own) {
    out += config.element == MxElement::e4m3 ? ",\"weight_bits\":8" : ",\"weight_bits\":4";
  }
  if (config.weights_only) out += ",\"activation_bits\":16";
  if (config.w4a8) out += ",\"activation_bits\":8";
  return out;
}

}  // namespace loadstone::common::mx
