// One opened plugin library and its checked descriptor.
#pragma once

#include <loadstone/plugin.h>

#include <memory>
#include <string>
#include <vector>

#include "plugin/registry.hpp"

namespace loadstone::plugin {

/// An opened library. Never closed once its descriptor has been accepted: its code, threads and
/// statics live until the process ends.
class Library {
 public:
  /// Checks owner and mode (unless `trust_writable`), the ELF file, loads it with
  /// RTLD_NOW | RTLD_LOCAL, asks for the descriptor and holds it against the manifest.
  /// Errors name the file, what was found and what was wanted.
  static Result<std::shared_ptr<Library>> open(const Manifest& manifest, bool trust_writable);

  const Manifest& manifest() const { return manifest_; }
  /// The plugin's own tables, as it handed them over.
  const std::vector<const ls_method*>& methods() const { return methods_; }
  ls_plugin_query_fn query() const { return query_; }

 private:
  explicit Library(Manifest manifest) : manifest_(std::move(manifest)) {}

  Manifest manifest_;
  ls_plugin_query_fn query_ = nullptr;
  std::vector<const ls_method*> methods_;
};

/// Everything of a descriptor that a host relies on, held against the manifest. Errors as Library.
Status check_descriptor(const ls_plugin* plugin, const Manifest& manifest,
                        std::vector<const ls_method*>& methods);

}  // namespace loadstone::plugin
