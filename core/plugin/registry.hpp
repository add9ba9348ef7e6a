// The host side of the plugin interface: manifests found, libraries opened, methods called.
#pragma once

#include <loadstone/plugin.h>

#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/parallel.hpp"
#include "base/result.hpp"
#include "config/quant_config.hpp"

namespace loadstone::plugin {

/// A claim of a manifest: which declarations a method reads ("" = any).
struct Claim {
  std::string method, origin, quant_method, format, algorithm;
};

/// `<name>.info` beside the library (Boost.PropertyTree INFO), read without opening it.
struct Manifest {
  std::string name, version, summary, licence;
  uint32_t abi_major = 0, abi_minor = 0;
  std::vector<std::string> methods;
  std::vector<std::string> aliases;  // "alias method"
  config::MethodSchema::Implied implied;
  std::vector<Claim> claims;
  std::string path;     // of the .info
  std::string library;  // resolved path of the .so
};

Result<Manifest> read_manifest(const std::string& info_path);

class Library;  // an opened plugin

/// A method of an opened plugin. Cheap to copy; lives until the process ends.
class Method {
 public:
  Method(const ls_method* table, std::shared_ptr<Library> library);

  std::string_view name() const { return table_->name; }
  const std::string& plugin() const;
  /// Entries beyond the plugin's struct_size read as null.
  const ls_method& table() const { return *table_; }
  config::MethodSchema schema() const;

 private:
  std::shared_ptr<const ls_method> owned_;  // copied to today's size, zero-filled
  const ls_method* table_;
  std::shared_ptr<Library> library_;
};

/// A configured method: ls_config with its owner.
class MethodConfig {
 public:
  static Result<std::shared_ptr<const MethodConfig>> make(const Method& method,
                                                          const config::MethodChoice& choice);
  ~MethodConfig();
  MethodConfig(const MethodConfig&) = delete;
  MethodConfig& operator=(const MethodConfig&) = delete;

  const Method& method() const { return method_; }
  const ls_config* handle() const { return handle_; }
  const config::MethodChoice& choice() const { return choice_; }

 private:
  MethodConfig(Method method, config::MethodChoice choice);
  Method method_;
  config::MethodChoice choice_;
  ls_config* handle_ = nullptr;
};

/// What plan_layer answered, copied and checked (indices, counts, overflow).
struct LayerAnswer {
  ls_work work{};  // reason and kernel point into the strings below
  std::string reason, kernel;
  std::vector<ls_source> sources;
  std::vector<ls_stored> stored;
  std::vector<std::string> stored_names;
  std::vector<ls_identity> identities;
  std::vector<ls_repack> repacks;
  std::vector<std::pair<uint32_t, std::string>> unused;  // tensor, reason
};

/// Calls plan_layer and checks the answer; errors name plugin, layer and tensor. needs_value
/// sources come back in the answer unanswered: the planner reads them and asks again.
/// `handed` (conformance kit): the struct that the plugin sees in place of `layer`.
Result<LayerAnswer> ask_plan(const MethodConfig& config, const ls_layer& layer,
                             const ls_target& target, const ls_layer* handed = nullptr);

/// What read_declaration said.
struct DeclaredField {
  std::string pattern;  // "" : all layers
  uint32_t style = LS_STYLE_EXACT;
  std::string name;
  Node value;
};
struct DeclaredScope {
  std::string pattern;
  uint32_t style = LS_STYLE_EXACT;
  bool keep = true;
};
struct DeclarationReading {
  std::string method;
  std::vector<DeclaredField> fields;
  std::vector<DeclaredScope> scopes;
};

struct RegistryOptions {
  std::vector<std::string> dirs;  // absolute, in order; later ones may not repeat a method name
  bool trust_writable = false;    // tests only: skip the owner and mode checks
};

/// Where plugins are looked for: the build tree's or the install's folder, LOADSTONE_PLUGIN_PATH,
/// then `extra` (--plugin-dir). Errors: a relative entry in the variable.
Result<std::vector<std::string>> plugin_dirs(const std::string& program_dir,
                                             std::span<const std::string> extra);

class Registry {
 public:
  /// Reads every manifest; opens nothing. Errors: a folder or file writable by others, two plugins
  /// that offer one method, a manifest without library or the reverse.
  static Result<Registry> scan(const RegistryOptions& options);

  const std::vector<Manifest>& manifests() const { return manifests_; }
  /// All schemas, refused formats included. Opens every library (schemas live in descriptors).
  Result<config::Schemas> schemas();
  /// The method of a spelling; opens its library once. Errors: not_found with the nearest name.
  Result<Method> method(std::string_view spelling);
  /// The claim that a declaration matches, most specific first; null if none does.
  const Claim* claim_for(std::string_view origin, std::string_view quant_method,
                         std::string_view format, std::string_view algorithm) const;
  Result<DeclarationReading> read_declaration(const Claim& claim, const Node& declaration);

 private:
  struct State;
  std::vector<Manifest> manifests_;
  std::shared_ptr<State> state_;
};

/// Opens one library by itself (conformance kit, plugins check).
Result<std::vector<Method>> open_library(const Manifest& manifest);

/// The host table given to plugins. Threads, cancel and gemm are process-wide: set them once.
const ls_host& host_table();
void forget_failure();  // this thread's text of `fail`
void set_host_threads(ThreadPool* pool);
void set_host_cancel(const CancelToken* token);
/// Replaces the built-in product (the runtime installs LibTorch's).
void set_host_gemm(int32_t (*gemm)(const ls_gemm*));

/// Makes a call into a plugin: forgets this thread's earlier text of `fail`, and turns an exception
/// that the plugin lets out into LS_INTERNAL. Every call of a method's function goes through it:
///   check_call(call_plugin([&] { return table.end(session, stat, trouble); }), method, "end",
///   where)
template <typename Call>
int32_t call_plugin(Call&& call) noexcept {
  forget_failure();
  try {
    return call();
  } catch (const std::exception& error) {
    return host_table().fail(LS_INTERNAL, error.what());
  } catch (...) {
    return host_table().fail(LS_INTERNAL, "an exception left the plugin");
  }
}

/// Turns a status into an Error with the text of `fail`.
Status check_call(int32_t status, const Method& method, std::string_view call,
                  std::string_view where);

}  // namespace loadstone::plugin
