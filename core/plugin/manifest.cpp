#include <boost/property_tree/info_parser.hpp>
#include <boost/property_tree/ptree.hpp>
#include <filesystem>
#include <sstream>

#include "base/file.hpp"
#include "base/text.hpp"
#include "plugin/foreign.hpp"
#include "plugin/registry.hpp"

namespace loadstone::plugin {

namespace {

namespace pt = boost::property_tree;

constexpr uint64_t kMaxNbytes = 64u << 10;
constexpr int kMaxDepth = 8;
constexpr size_t kMaxMethods = 64;
constexpr size_t kMaxClaims = 256;

Error refuse(const std::string& path, std::string detail) {
  return Error{Code::invalid_argument, "plugin manifest rejected", escaped(path), std::move(detail),
               ""};
}

/// What the INFO parser would accept and we don't: deep nesting, and directives that read other
/// files.
Status check_text(const std::string& path, std::string_view text) {
  int depth = 0;
  bool in_quotes = false, in_comment = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') in_quotes = in_comment = false;
    if (in_comment) continue;
    if (c == '"' && (i == 0 || text[i - 1] != '\\')) in_quotes = !in_quotes;
    if (in_quotes) continue;
    if (c == ';') in_comment = true;
    if (c == '#') return refuse(path, "found a '#' directive, expected plain keys");
    if (c == '{' && ++depth > kMaxDepth) {
      return refuse(path, "found more than " + std::to_string(kMaxDepth) + " levels");
    }
    if (c == '}') --depth;
  }
  return {};
}

Result<pt::ptree> parse(const std::string& path, const std::string& text) {
  pt::ptree tree;
  std::istringstream stream(text);
  try {
    pt::read_info(stream, tree);
  } catch (const pt::info_parser_error& error) {
    return refuse(path, "line " + std::to_string(error.line()) + ": " + error.message());
  }
  return tree;
}

Status set_once(const std::string& path, std::string& field, const std::string& key,
                const pt::ptree& value) {
  if (!field.empty()) return refuse(path, "found a second " + loadstone::quoted(key));
  if (!value.empty() || value.data().empty()) {
    return refuse(path, "found no single value for " + loadstone::quoted(key));
  }
  field = value.data();
  return {};
}

Status read_abi(const std::string& path, const std::string& text, Manifest& out) {
  unsigned major = 0, minor = 0;
  int used = 0;
  if (std::sscanf(text.c_str(), "%5u.%5u%n", &major, &minor, &used) != 2 ||
      static_cast<size_t>(used) != text.size()) {
    return refuse(path, "found abi " + loadstone::quoted(text) + ", expected \"MAJOR.MINOR\"");
  }
  out.abi_major = major;
  out.abi_minor = minor;
  return {};
}

Status read_methods(const std::string& path, const pt::ptree& tree, Manifest& out) {
  for (const auto& [name, node] : tree) {
    if (!is_plain_name(name)) {
      return refuse(path, "found method " + loadstone::quoted(name) + ", expected [a-z0-9_]");
    }
    if (out.methods.size() == kMaxMethods) return refuse(path, "found more than 64 methods");
    out.methods.push_back(name);
    for (const auto& [key, value] : node) {
      if (key != "alias") {
        return refuse(path, "found " + loadstone::quoted(key) + " in a method, expected \"alias\"");
      }
      out.aliases.push_back(value.data() + " " + name);
      for (const auto& [field, text] : value) {
        out.implied[config::fold_name(value.data())][field] = text.data();
      }
    }
  }
  return {};
}

Status read_claims(const std::string& path, const pt::ptree& tree, Manifest& out) {
  for (const auto& [kind, node] : tree) {
    if (kind != "claim")
      return refuse(path, "found " + loadstone::quoted(kind) + ", expected \"claim\"");
    if (out.claims.size() == kMaxClaims) return refuse(path, "found more than 256 claims");
    Claim claim;
    for (const auto& [key, value] : node) {
      std::string* field = key == "method"         ? &claim.method
                           : key == "origin"       ? &claim.origin
                           : key == "quant_method" ? &claim.quant_method
                           : key == "format"       ? &claim.format
                           : key == "algorithm"    ? &claim.algorithm
                                                   : nullptr;
      if (field == nullptr)
        return refuse(path, "found unknown claim key " + loadstone::quoted(key));
      LS_CHECK(set_once(path, *field, key, value));
    }
    if (std::find(out.methods.begin(), out.methods.end(), claim.method) == out.methods.end()) {
      return refuse(path, "found a claim for " + loadstone::quoted(claim.method) +
                              ", expected one of its methods: " + join(out.methods));
    }
    out.claims.push_back(std::move(claim));
  }
  return {};
}

Status read_tree(const std::string& path, const pt::ptree& tree, Manifest& out) {
  std::string abi;
  const pt::ptree* claims = nullptr;
  for (const auto& [key, node] : tree) {
    if (key == "methods") {
      LS_CHECK(read_methods(path, node, out));
      continue;
    }
    if (key == "claims") {
      claims = &node;
      continue;
    }
    std::string* field = key == "name"      ? &out.name
                         : key == "version" ? &out.version
                         : key == "summary" ? &out.summary
                         : key == "licence" ? &out.licence
                         : key == "abi"     ? &abi
                                            : nullptr;
    if (field == nullptr) {
      const std::vector<std::string> known = {"name", "version", "licence", "summary",
                                              "abi",  "methods", "claims"};
      Error error =
          refuse(path, "found unknown key " + loadstone::quoted(key) + ", expected " + join(known));
      error.hint = nearest(key, known);
      return error;
    }
    LS_CHECK(set_once(path, *field, key, node));
  }
  LS_CHECK(read_abi(path, abi, out));
  if (claims != nullptr) LS_CHECK(read_claims(path, *claims, out));
  return {};
}

}  // namespace

Result<Manifest> read_manifest(const std::string& info_path) {
  namespace fs = std::filesystem;
  LS_TRY(const std::string text, read_text(system_files(), info_path, kMaxNbytes));
  LS_CHECK(check_text(info_path, text));
  LS_TRY(const pt::ptree tree, parse(info_path, text));
  Manifest out;
  out.path = info_path;
  LS_CHECK(read_tree(info_path, tree, out));
  if (out.version.empty() || out.summary.empty() || out.licence.empty()) {
    return refuse(info_path, "found no version, licence or summary");
  }
  const std::string stem = fs::path(info_path).stem().string();
  if (out.name != stem || !is_plain_name(out.name)) {
    return refuse(info_path, "found name " + loadstone::quoted(out.name) +
                                 ", expected the file's " + loadstone::quoted(stem) +
                                 " of [a-z0-9_]");
  }
  if (out.methods.empty()) return refuse(info_path, "found no method");
  LS_TRY(const std::string folder,
         system_files().resolve(fs::path(info_path).parent_path().string()));
  const std::string expected = folder + "/" + out.name + ".so";
  auto library = system_files().resolve(expected);
  if (!library.ok()) {
    return Error{Code::not_found, "plugin without library", escaped(info_path),
                 "expected " + out.name + ".so beside it", ""};
  }
  if (fs::path(*library).parent_path() != fs::path(folder)) {
    return Error{
        Code::invalid_argument, "plugin refused", escaped(expected),
        "found a link to " + loadstone::quoted(*library) + ", expected a file inside its folder",
        ""};
  }
  out.library = std::move(library).value();
  return out;
}

}  // namespace loadstone::plugin
