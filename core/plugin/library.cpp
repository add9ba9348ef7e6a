#include "plugin/library.hpp"

#include <vector>
// Boost.DLL 1.74 with std::filesystem relies on these being there.
#include <cstring>
#include <fstream>
#include <string>
#define BOOST_DLL_USE_STD_FS
#include <boost/dll/shared_library.hpp>
#include <filesystem>

#include "base/file.hpp"
#include "base/text.hpp"
#include "plugin/elf_check.hpp"
#include "plugin/sinks.hpp"
#include "plugin/trust.hpp"

namespace loadstone::plugin {

namespace {

namespace dll = boost::dll;

Error refuse(const std::string& path, Code code, std::string detail) {
  return Error{code, "plugin refused", escaped(path), std::move(detail), ""};
}

/// The loader's own words: Boost puts an unrelated errno text in front, in parentheses behind it
/// what dlerror said.
std::string loader_text(std::string_view what) {
  const size_t open = what.find('(');
  const size_t close = what.rfind(')');
  if (open != std::string_view::npos && close != std::string_view::npos && close > open) {
    what = what.substr(open + 1, close - open - 1);
  }
  return escaped(what, 1000);
}

Result<std::unique_ptr<dll::shared_library>> load(const std::string& path) {
  auto library = std::make_unique<dll::shared_library>();
  try {
    library->load(std::filesystem::path(path),
                  dll::load_mode::rtld_now | dll::load_mode::rtld_local);
  } catch (const std::exception& error) {
    return refuse(path, Code::invalid_argument,
                  "found " + loader_text(error.what()) + ", expected a library that loads");
  } catch (...) {  // a static initialiser's own type
    return refuse(path, Code::invalid_argument,
                  "found an exception from its static initialisers, expected none");
  }
  return library;
}

Result<ls_plugin_query_fn> entry_of(const std::string& path, const dll::shared_library& library) {
  constexpr const char* kEntry = "loadstone_plugin_query";
  if (!library.has(kEntry)) {
    return refuse(path, Code::invalid_argument,
                  std::string("found no symbol ") + kEntry + ", expected the plugin's entry");
  }
  try {
    return &library.get<const ls_plugin*(const ls_host*)>(kEntry);
  } catch (const std::exception& error) {
    return refuse(path, Code::invalid_argument, "found " + loader_text(error.what()));
  }
}

Result<const ls_plugin*> ask(const std::string& path, ls_plugin_query_fn query) {
  forget_failure();
  const ls_plugin* plugin = nullptr;
  try {
    plugin = query(&host_table());
  } catch (...) {
    return refuse(path, Code::invalid_argument,
                  "found an exception out of loadstone_plugin_query, expected a descriptor");
  }
  if (plugin != nullptr) return plugin;
  const std::string why = take_failure();
  return refuse(path, Code::unsupported,
                "found no descriptor for this host: " + (why.empty() ? "no reason given" : why));
}

}  // namespace

Result<std::shared_ptr<Library>> Library::open(const Manifest& manifest, bool trust_writable) {
  const std::string& path = manifest.library;
  if (path.empty() || path.front() != '/') {
    return refuse(path, Code::invalid_argument, "found a relative path, expected an absolute one");
  }
  if (!trust_writable) {
    LS_CHECK(check_trusted(path));
    LS_CHECK(check_trusted(std::filesystem::path(path).parent_path().string()));
  }
  LS_TRY(const std::unique_ptr<File> checked, system_files().open(path));
  LS_CHECK(check_elf(*checked));
  LS_TRY(auto library, load(path));
  // The path is loaded, not the checked descriptor (the loader compares names: a reused
  // /proc/self/fd number would give an earlier library), so make sure that both were one file.
  LS_TRY(const FileIdentity before, checked->identity());
  LS_TRY(const std::unique_ptr<File> reopened, system_files().open(path));
  LS_TRY(const FileIdentity after, reopened->identity());
  if (!(before == after)) return refuse(path, Code::io, "found a file that changed while loading");
  std::shared_ptr<Library> out(new Library(manifest));
  LS_TRY(out->query_, entry_of(path, *library));
  LS_TRY(const ls_plugin* plugin, ask(path, out->query_));
  LS_CHECK(check_descriptor(plugin, manifest, out->methods_));
  library.release();  // stays open
  return out;
}

}  // namespace loadstone::plugin
