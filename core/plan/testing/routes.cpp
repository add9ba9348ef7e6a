// Two methods that only route: what the cases of tests/cases/routing*.yaml configure and declare.
#include <loadstone/plugin.hpp>
#include <string>

namespace {

namespace sdk = loadstone::sdk;

/// Declarations: fields by name; "keep" and "quantize" are lists of patterns in the style that
/// "style" names, "keep_exact" and "quantize_exact" are whole names; "bits_of" is a map of exact
/// module to bits, "bits_like" of a pattern in that style.
void read(const sdk::Node& node, sdk::Declaration& out) {
  uint32_t style = LS_STYLE_SEGMENTS;
  if (const auto given = node.get("style")) {
    const std::string_view name = given.text();
    style = name == "exact"    ? LS_STYLE_EXACT
            : name == "suffix" ? LS_STYLE_SUFFIX
            : name == "glob"   ? LS_STYLE_GLOB
            : name == "regex"  ? LS_STYLE_REGEX
            : name == "prefix" ? LS_STYLE_PREFIX
                               : LS_STYLE_SEGMENTS;
  }
  if (const auto bits = node.get("bits")) out.integer("bits", std::stoll(std::string(bits.text())));
  for (const bool keep : {true, false}) {
    const auto list = node.get(keep ? "keep_exact" : "quantize_exact");
    for (uint64_t i = 0; list && i < list.size(); ++i) {
      const std::string name(list.at(i).text());
      keep ? out.keep(name.c_str(), LS_STYLE_EXACT) : out.quantize(name.c_str(), LS_STYLE_EXACT);
    }
  }
  for (const bool keep : {true, false}) {
    const auto list = node.get(keep ? "keep" : "quantize");
    for (uint64_t i = 0; list && i < list.size(); ++i) {
      const std::string pattern(list.at(i).text());
      keep ? out.keep(pattern.c_str(), style) : out.quantize(pattern.c_str(), style);
    }
  }
  if (const auto speed = node.get("speed")) {
    out.integer("speed", std::stoll(std::string(speed.text())));
  }
  const auto inside = node.get("quantize_inside");
  for (uint64_t i = 0; inside && i < inside.size(); ++i) {
    out.quantize(std::string(inside.at(i).text()).c_str(), LS_STYLE_SEGMENTS);
  }
  for (const bool exact : {true, false}) {
    const auto per = node.get(exact ? "bits_of" : "bits_like");
    for (uint64_t i = 0; per && i < per.size(); ++i) {
      const auto [module, bits] = per.entry(i);
      out.integer("bits", std::stoll(std::string(bits.text())), std::string(module).c_str(),
                  exact ? uint32_t{LS_STYLE_EXACT} : style);
    }
  }
}

template <int kWhich>
struct Routes {
  static constexpr const char* kName = kWhich == 0 ? "alpha" : "beta";
  static constexpr const char* kSummary = "routes only";
  static constexpr const char* kAliases[] = {kWhich == 0 ? "alpha-one" : "beta-two"};
  static constexpr ls_field speed() {
    ls_field out = sdk::integer_field("speed", "how to run", "1", 1, 9);
    out.user_wins = 1;
    return out;
  }
  static constexpr ls_field kFields[] = {sdk::integer_field("bits", "code width", "8", 2, 8),
                                         sdk::ignored_layers_field(), speed()};
  static constexpr ls_claim kClaims[] = {
      sdk::claim("quantization_config", kWhich == 0 ? "alpha" : "beta")};

  struct Config {};

  /// beta knows no codes of 7 bits.
  static Config configure(const sdk::Values& values) {
    if (kWhich == 1 && values.integer("bits") == 7) {
      sdk::fail(LS_INVALID_CONFIG, "found bits 7, expected another width");
    }
    return {};
  }

  /// beta never touches what is called "adamant".
  static const char* ignored(const Config&, const sdk::Layer& layer) {
    const bool its = kWhich == 1 && layer.path().find("adamant") != std::string_view::npos;
    return its ? "adamant" : nullptr;
  }

  static void read_declaration(const sdk::Node& node, uint64_t, sdk::Declaration& out) {
    read(node, out);
  }
  static void plan(const Config&, const sdk::Layer&, const sdk::Target&, sdk::Plan& out) {
    out.unsupported("routes only");
  }
};

}  // namespace

LOADSTONE_PLUGIN("routes", "1.0.0", "MIT", Routes<0>, Routes<1>)
