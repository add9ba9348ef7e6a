#include "plugin/registry.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>

#include "base/file.hpp"
#include "base/text.hpp"
#include "config/quant_config.hpp"
#include "plugin/foreign.hpp"
#include "plugin/library.hpp"
#include "plugin/sinks.hpp"
#include "plugin/trust.hpp"

namespace loadstone::plugin {

namespace {

namespace fs = std::filesystem;

constexpr const char* kRefusedFile = "refused_formats.yaml";

std::string absolute(const std::string& path) {
  std::error_code failed;
  const fs::path full = fs::absolute(path);
  const fs::path plain = fs::weakly_canonical(full, failed);
  return failed ? full.string() : plain.string();
}

/// The build tree's plugins, the install's beside the program, or the install's.
std::string default_dir(const std::string& program_dir) {
  const std::string candidates[] = {program_dir + "/../plugins",
                                    program_dir + "/../" LOADSTONE_LIBDIR "/loadstone/plugins",
                                    LOADSTONE_FULL_LIBDIR "/loadstone/plugins"};
  for (const std::string& candidate : candidates) {
    if (candidate.front() == '/' && system_files().is_directory(candidate)) {
      return absolute(candidate);
    }
  }
  return {};
}

void add_once(std::vector<std::string>& dirs, std::string dir) {
  if (std::find(dirs.begin(), dirs.end(), dir) == dirs.end()) dirs.push_back(std::move(dir));
}

/// 0: no match; more for each text that the claim demands.
int specificity(const Claim& claim, std::string_view origin, std::string_view quant_method,
                std::string_view format, std::string_view algorithm) {
  int score = 1;
  const auto fits = [&score](std::string_view wanted, std::string_view given) {
    if (wanted.empty()) return true;
    ++score;
    return config::fold_name(wanted) == config::fold_name(given);
  };
  const bool all = fits(claim.origin, origin) && fits(claim.quant_method, quant_method) &&
                   fits(claim.format, format) && fits(claim.algorithm, algorithm);
  return all ? score : 0;
}

Status read_refused(const std::string& dir, std::map<std::string, std::string>& out) {
  const std::string path = dir + "/" + kRefusedFile;
  if (!system_files().is_regular(path)) return {};
  LS_TRY(const std::string text, read_text(system_files(), path, 1u << 20));
  LS_TRY(const Node node, config::parse_yaml(text, path));
  if (!node.is_map()) {
    return Error{Code::invalid_argument, "list of refused formats rejected", escaped(path),
                 "found " + node.describe() + ", expected a map of name to reason", ""};
  }
  for (const auto& [name, reason] : node.entries()) {
    if (!reason.is_text()) {
      return Error{Code::invalid_argument, "list of refused formats rejected", reason.mark().text(),
                   "found " + reason.describe() + ", expected a reason", ""};
    }
    out[config::fold_name(name)] = reason.text();
  }
  return {};
}

}  // namespace

Result<std::vector<std::string>> plugin_dirs(const std::string& program_dir,
                                             std::span<const std::string> extra) {
  std::vector<std::string> out;
  if (std::string dir = default_dir(program_dir); !dir.empty()) add_once(out, std::move(dir));
  const char* variable = std::getenv("LOADSTONE_PLUGIN_PATH");
  std::string_view rest = variable == nullptr ? "" : variable;
  while (!rest.empty()) {
    const size_t colon = rest.find(':');
    const std::string entry(rest.substr(0, colon));
    rest = colon == std::string_view::npos ? "" : rest.substr(colon + 1);
    if (entry.empty()) continue;
    if (entry.front() != '/') {
      return Error{
          Code::invalid_argument, "plugin path rejected", "LOADSTONE_PLUGIN_PATH",
          "found relative entry " + loadstone::quoted(entry) + ", expected an absolute one",
          absolute(entry)};
    }
    add_once(out, absolute(entry));
  }
  for (const std::string& dir : extra) add_once(out, absolute(dir));
  return out;
}

struct Registry::State {
  RegistryOptions options;
  std::map<std::string, std::string> refused;
  std::map<std::string, size_t> manifest_of;     // folded method name or alias → manifest
  std::map<std::string, std::string> method_of;  // folded spelling → canonical name
  std::mutex mutex;
  std::map<size_t, std::shared_ptr<Library>> libraries;
};

namespace {

/// Manifests of one folder, in name order.
Result<std::vector<Manifest>> scan_dir(const std::string& dir, bool trust_writable) {
  if (!system_files().is_directory(dir)) {
    return Error{Code::not_found, "plugin folder not found", escaped(dir),
                 "found no folder, expected plugins in it", ""};
  }
  if (!trust_writable) LS_CHECK(check_trusted(dir, dir));
  LS_TRY(const std::vector<DirectoryEntry> entries, system_files().list(dir));
  std::set<std::string> manifests, libraries;
  for (const DirectoryEntry& entry : entries) {
    const fs::path name(entry.name);
    if (entry.kind == EntryKind::directory) continue;
    if (name.extension() == ".info") manifests.insert(name.stem().string());
    if (name.extension() == ".so") libraries.insert(name.stem().string());
  }
  for (const std::string& library : libraries) {
    if (manifests.contains(library)) continue;
    return Error{Code::not_found, "plugin without manifest", escaped(dir + "/" + library + ".so"),
                 "expected " + library + ".info beside it", ""};
  }
  std::vector<Manifest> out;
  for (const std::string& name : manifests) {
    const std::string path = dir + "/" + name + ".info";
    if (!trust_writable) LS_CHECK(check_trusted(path, path));
    LS_TRY(Manifest manifest, read_manifest(path));
    if (!trust_writable) LS_CHECK(check_trusted(manifest.library, manifest.library));
    out.push_back(std::move(manifest));
  }
  return out;
}

}  // namespace

Result<Registry> Registry::scan(const RegistryOptions& options) {
  Registry out;
  out.state_ = std::make_shared<State>();
  State& state = *out.state_;
  state.options = options;
  for (const std::string& dir : options.dirs) {
    if (dir.empty() || dir.front() != '/') {
      return Error{Code::invalid_argument, "plugin path rejected", escaped(dir),
                   "found a relative folder, expected an absolute one", ""};
    }
    LS_TRY(std::vector<Manifest> found, scan_dir(dir, options.trust_writable));
    LS_CHECK(read_refused(dir, state.refused));
    for (Manifest& manifest : found) {
      const size_t index = out.manifests_.size();
      std::vector<std::pair<std::string, std::string>> spellings;
      for (const std::string& method : manifest.methods) spellings.emplace_back(method, method);
      for (const std::string& alias : manifest.aliases) {
        const size_t space = alias.rfind(' ');
        spellings.emplace_back(alias.substr(0, space), alias.substr(space + 1));
      }
      for (const auto& [spelling, method] : spellings) {
        const std::string folded = config::fold_name(spelling);
        const auto [at, fresh] = state.manifest_of.emplace(folded, index);
        if (!fresh) {
          const std::string& other =
              at->second == index ? manifest.path : out.manifests_[at->second].path;
          return Error{Code::invalid_argument, "method offered twice", escaped(manifest.path),
                       "found " + loadstone::quoted(spelling) + " in " + escaped(other) +
                           " too, expected one plugin for it",
                       ""};
        }
        state.method_of[folded] = method;
      }
      out.manifests_.push_back(std::move(manifest));
    }
  }
  return out;
}

Result<Method> Registry::method(std::string_view spelling) {
  const std::string folded = config::fold_name(spelling);
  const auto at = state_->manifest_of.find(folded);
  if (at == state_->manifest_of.end()) {
    if (const auto known = state_->refused.find(folded); known != state_->refused.end()) {
      return Error{Code::unsupported, "format not supported", loadstone::quoted(spelling),
                   known->second, ""};
    }
    std::vector<std::string> names;
    for (const auto& [name, index] : state_->manifest_of) names.push_back(name);
    const std::string near = nearest(folded, names);
    return Error{Code::not_found, "unknown method", "",
                 "found " + loadstone::quoted(spelling) + ", expected " +
                     (names.empty() ? "a plugin (none is installed)" : join(names)),
                 near.empty() ? "" : loadstone::quoted(near)};
  }
  const Manifest& manifest = manifests_[at->second];
  std::shared_ptr<Library> library;
  {
    const std::lock_guard lock(state_->mutex);
    auto& slot = state_->libraries[at->second];
    if (!slot) {
      LS_TRY(slot, Library::open(manifest, state_->options.trust_writable));
    }
    library = slot;
  }
  const std::string& wanted = state_->method_of[folded];
  for (const ls_method* table : library->methods()) {
    Method method(table, library);
    if (method.name() == wanted) return method;
  }
  return Error{Code::internal, "method lost", escaped(manifest.library), "found no " + wanted, ""};
}

Result<config::Schemas> Registry::schemas() {
  config::Schemas out;
  out.refused = state_->refused;
  for (const Manifest& manifest : manifests_) {
    for (const std::string& name : manifest.methods) {
      LS_TRY(const Method method, this->method(name));
      out.methods.push_back(method.schema());
      out.methods.back().implied = manifest.implied;
      out.refused.erase(config::fold_name(name));
    }
  }
  return out;
}

const Claim* Registry::claim_for(std::string_view origin, std::string_view quant_method,
                                 std::string_view format, std::string_view algorithm) const {
  const Claim* best = nullptr;
  int best_score = 0;
  for (const Manifest& manifest : manifests_) {
    for (const Claim& claim : manifest.claims) {
      const int score = specificity(claim, origin, quant_method, format, algorithm);
      if (score > best_score) {
        best = &claim;
        best_score = score;
      }
    }
  }
  return best;
}

Result<DeclarationReading> Registry::read_declaration(const Claim& claim, const Node& declaration) {
  LS_TRY(const Method method, this->method(claim.method));
  const ls_method& table = method.table();
  uint64_t index = UINT64_MAX;
  for (uint64_t i = 0; i < table.claim_count; ++i) {
    const auto own = read_foreign(table.claims[i]);
    if (own && foreign_text(own->origin) == claim.origin &&
        foreign_text(own->quant_method) == claim.quant_method &&
        foreign_text(own->format) == claim.format &&
        foreign_text(own->algorithm) == claim.algorithm) {
      index = i;
    }
  }
  if (index == UINT64_MAX || table.read_declaration == nullptr) {
    return Error{Code::internal, "claim lost", claim.method, "found no such claim", ""};
  }
  DeclarationReading out;
  out.method = claim.method;
  ls_sink sink{ls_sink::Kind::declaration};
  sink.declaration = &out;
  const ls_node root(declaration);
  const int32_t status = call_plugin([&] { return table.read_declaration(&root, index, &sink); });
  LS_CHECK(check_call(status, method, "read_declaration", declaration.mark().text()));
  const config::MethodSchema schema = method.schema();
  for (const DeclaredField& field : out.fields) {
    const bool known = std::any_of(schema.fields.begin(), schema.fields.end(),
                                   [&](auto& f) { return f.name == field.name; });
    if (!known) {
      return Error{Code::internal, claim.method + " read_declaration failed",
                   declaration.mark().text(),
                   "found unknown field " + loadstone::quoted(field.name), ""};
    }
  }
  return out;
}

Result<std::vector<Method>> open_library(const Manifest& manifest) {
  LS_TRY(const std::shared_ptr<Library> library, Library::open(manifest, true));
  std::vector<Method> out;
  for (const ls_method* table : library->methods()) out.emplace_back(table, library);
  return out;
}

}  // namespace loadstone::plugin
