#include <set>

#include "base/text.hpp"
#include "config/quant_config.hpp"
#include "plugin/foreign.hpp"
#include "plugin/library.hpp"

namespace loadstone::plugin {

namespace {

constexpr uint64_t kMaxMethods = 64, kMaxFields = 256, kMaxClaims = 256, kMaxAliases = 64;
constexpr uint64_t kMaxChoices = 256;

/// A method's table must reach at least to the last function that every method has.
constexpr size_t kLeastMethod = offsetof(ls_method, begin);
constexpr size_t kLeastPlugin = offsetof(ls_plugin, method_count) + sizeof(uint64_t);

class Checker {
 public:
  Checker(const Manifest& manifest) : manifest_(manifest) {}

  Error refuse(std::string detail) const {
    return Error{Code::invalid_argument, "plugin refused", escaped(manifest_.library),
                 std::move(detail), ""};
  }
  Error refuse(std::string_view method, std::string detail) const {
    return refuse("method " + loadstone::quoted(method) + ": " + std::move(detail));
  }

  Status plugin(const ls_plugin& plugin) const {
    if (foreign_text(plugin.name) != manifest_.name) {
      return refuse("found name " + loadstone::quoted(foreign_text(plugin.name)) + ", expected " +
                    loadstone::quoted(manifest_.name) + " as in its manifest");
    }
    if (foreign_text(plugin.version) != manifest_.version) {
      return refuse("found version " + loadstone::quoted(foreign_text(plugin.version)) +
                    ", expected " + loadstone::quoted(manifest_.version) + " as in its manifest");
    }
    if (foreign_text(plugin.licence) != manifest_.licence) {
      return refuse("found licence " + loadstone::quoted(foreign_text(plugin.licence)) +
                    ", expected " + loadstone::quoted(manifest_.licence) + " as in its manifest");
    }
    if (plugin.abi_major != manifest_.abi_major || plugin.abi_minor != manifest_.abi_minor) {
      return refuse("found ABI " + version(plugin.abi_major, plugin.abi_minor) + ", expected " +
                    version(manifest_.abi_major, manifest_.abi_minor) + " as in its manifest");
    }
    if (plugin.methods == nullptr || plugin.method_count == 0 ||
        plugin.method_count > kMaxMethods) {
      return refuse("found " + std::to_string(plugin.method_count) + " methods, expected 1 to 64");
    }
    return {};
  }

  /// Adds what the method offers to the sets that must equal the manifest's.
  Status method(const ls_method& method) {
    const std::string name(foreign_text(method.name));
    if (!is_plain_name(name))
      return refuse("found method " + loadstone::quoted(name) + ", expected [a-z0-9_]");
    if (!methods_.insert(name).second)
      return refuse("found method " + loadstone::quoted(name) + " twice");
    if (method.summary == nullptr) return refuse(name, "found no summary");
    LS_CHECK(functions(name, method));
    LS_CHECK(counts(name, method));
    for (uint64_t i = 0; i < method.alias_count; ++i) {
      aliases_.insert(std::string(foreign_text(method.aliases[i])) + " " + name);
    }
    for (uint64_t i = 0; i < method.field_count; ++i) LS_CHECK(field(name, method.fields[i]));
    for (uint64_t i = 0; i < method.claim_count; ++i) {
      const auto claim = read_foreign(method.claims[i]);
      if (!claim || claim->origin == nullptr) return refuse(name, "found a claim without origin");
      claims_.insert(text_of({name, std::string(foreign_text(claim->origin)),
                              std::string(foreign_text(claim->quant_method)),
                              std::string(foreign_text(claim->format)),
                              std::string(foreign_text(claim->algorithm))}));
    }
    return {};
  }

  Status agrees() const {
    std::set<std::string> claims;
    for (const Claim& claim : manifest_.claims) claims.insert(text_of(claim));
    for (const auto& [alias, fields] : manifest_.implied) {
      for (const auto& [field, text] : fields) {
        if (texts_.count(field) != 0) continue;
        return refuse("found " + loadstone::quoted(field) + " under alias " +
                      loadstone::quoted(alias) + ", expected a text field of the method");
      }
    }
    LS_CHECK(same("methods", methods_, {manifest_.methods.begin(), manifest_.methods.end()}));
    LS_CHECK(same("aliases", aliases_, {manifest_.aliases.begin(), manifest_.aliases.end()}));
    return same("claims", claims_, claims);
  }

  static std::string version(uint32_t major, uint32_t minor) {
    return std::to_string(major) + "." + std::to_string(minor);
  }

 private:
  static std::string text_of(const Claim& claim) {
    return claim.method + " (" + claim.origin + ", " + claim.quant_method + ", " + claim.format +
           ", " + claim.algorithm + ")";
  }

  Status same(const char* what, const std::set<std::string>& found,
              const std::set<std::string>& expected) const {
    for (const std::string& one : found) {
      if (!expected.contains(one)) {
        return refuse(std::string("manifest and library disagree on ") + what + ": found " +
                      loadstone::quoted(one) + " in the library alone");
      }
    }
    for (const std::string& one : expected) {
      if (!found.contains(one)) {
        return refuse(std::string("manifest and library disagree on ") + what + ": found " +
                      loadstone::quoted(one) + " in the manifest alone");
      }
    }
    return {};
  }

  Status functions(const std::string& name, const ls_method& method) const {
    if (method.configure == nullptr) return refuse(name, "found a null configure");
    if (method.config_destroy == nullptr) return refuse(name, "found a null config_destroy");
    if (method.plan_layer == nullptr) return refuse(name, "found a null plan_layer");
    if (method.claim_count > 0 && method.read_declaration == nullptr) {
      return refuse(name, "found claims and a null read_declaration");
    }
    if (method.begin != nullptr && (method.end == nullptr || method.abort == nullptr)) {
      return refuse(name, "found begin without end and abort");
    }
    if (method.bind != nullptr &&
        (method.unbind == nullptr || method.sizes == nullptr || method.apply == nullptr)) {
      return refuse(name, "found bind without unbind, sizes and apply");
    }
    if (method.save_layer != nullptr && method.save_read == nullptr) {
      return refuse(name, "found save_layer without save_read");
    }
    return {};
  }

  Status counts(const std::string& name, const ls_method& method) const {
    const auto bad = [](uint64_t count, uint64_t most, const void* at) {
      return count > most || (count > 0 && at == nullptr);
    };
    if (bad(method.alias_count, kMaxAliases, method.aliases) ||
        bad(method.field_count, kMaxFields, method.fields) ||
        bad(method.claim_count, kMaxClaims, method.claims)) {
      return refuse(name, "found a null or too long array of aliases, fields or claims");
    }
    return {};
  }

  Status field(const std::string& name, const ls_field* from) {
    const auto field = read_foreign(from, offsetof(ls_field, doc));
    if (!field) return refuse(name, "found a null or too short field");
    const std::string field_name(foreign_text(field->name));
    if (!is_plain_name(field_name)) {
      return refuse(name, "found field " + loadstone::quoted(field_name) + ", expected [a-z0-9_]");
    }
    if (field->type < LS_FIELD_BOOL || field->type > LS_FIELD_TREE) {
      return refuse(name, "field " + loadstone::quoted(field_name) + ": found type " +
                              std::to_string(field->type) + ", expected 1 to 7");
    }
    if (field->type == LS_FIELD_TEXT) texts_.insert(field_name);
    if (field->choice_count > kMaxChoices ||
        (field->choice_count > 0 && field->choices == nullptr)) {
      return refuse(name, "field " + loadstone::quoted(field_name) +
                              ": found a null or too long choice list");
    }
    if (field->fallback != nullptr) {
      const auto value = parse_json(foreign_text(field->fallback), "default");
      if (!value.ok()) {
        return refuse(name, "field " + loadstone::quoted(field_name) + ": " + value.error().text());
      }
    }
    return {};
  }

  const Manifest& manifest_;
  std::set<std::string> methods_, aliases_, claims_, texts_;
};

}  // namespace

Status check_descriptor(const ls_plugin* from, const Manifest& manifest,
                        std::vector<const ls_method*>& methods) {
  Checker checker(manifest);
  // The version first: of another major nothing else is known to lie where we look.
  const auto head = read_foreign(from, offsetof(ls_plugin, reserved));
  if (!head) return checker.refuse("found a descriptor without version");
  if (head->abi_major != LS_ABI_MAJOR) {
    return checker.refuse("found ABI " + Checker::version(head->abi_major, head->abi_minor) +
                          ", expected " + std::to_string(LS_ABI_MAJOR) + ".x (this host has " +
                          Checker::version(LS_ABI_MAJOR, LS_ABI_MINOR) + ")");
  }
  const auto plugin = read_foreign(from, kLeastPlugin);
  if (!plugin) {
    return checker.refuse("found a descriptor of " + std::to_string(from->struct_size) +
                          " bytes, expected at least " + std::to_string(kLeastPlugin));
  }
  LS_CHECK(checker.plugin(*plugin));
  for (uint64_t i = 0; i < plugin->method_count; ++i) {
    const auto method = read_foreign(plugin->methods[i], kLeastMethod);
    if (!method) {
      return checker.refuse("found method " + std::to_string(i) +
                            " null or shorter than its table up to plan_layer");
    }
    LS_CHECK(checker.method(*method));
    methods.push_back(plugin->methods[i]);
  }
  return checker.agrees();
}

}  // namespace loadstone::plugin
