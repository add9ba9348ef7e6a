#include "plugin/library.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <vector>
// Boost.DLL 1.74 with std::filesystem relies on these being there.
#include <cstring>
#include <fstream>
#include <string>
#define BOOST_DLL_USE_STD_FS
#include <boost/dll/shared_library.hpp>
#include <filesystem>
#include <mutex>

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

struct Close {
  void operator()(void* handle) const { dlclose(handle); }
};
using Handle = std::unique_ptr<void, Close>;

/// An open library file, and the name that the loader knows it by. The loader compares names before
/// files: under its path a library that was replaced on disk would be taken for the earlier one. An
/// open descriptor's name is unique, so once it was handed to the loader it stays open, whatever
/// became of it: closing a library doesn't always unload it (unique symbols pin it).
class LibraryFile {
 public:
  static Result<LibraryFile> open(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
      return refuse(path, Code::io, std::string("found ") + std::strerror(errno));
    }
    return LibraryFile(descriptor);
  }
  LibraryFile(LibraryFile&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  LibraryFile& operator=(LibraryFile&&) = delete;
  ~LibraryFile() {
    if (descriptor_ >= 0 && !keep_) close(descriptor_);
  }
  std::string name() const { return "/proc/self/fd/" + std::to_string(descriptor_); }
  void keep_open() { keep_ = true; }

 private:
  explicit LibraryFile(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
  bool keep_ = false;
};

/// Runs the library's static initialisers where what they throw can be caught: <dlfcn.h> declares
/// dlopen as non-throwing, so that an exception through a plain call of it, Boost's included, ends
/// the process. Through a pointer that the compiler can't see behind it arrives. The loader keeps
/// its lock then: such a process must not load anything else on other threads.
Result<Handle> initialise(const std::string& path, LibraryFile& file) {
  void* (*volatile open_library)(const char*, int) = dlopen;
  Handle handle;
  file.keep_open();
  try {
    handle.reset(open_library(file.name().c_str(), RTLD_NOW | RTLD_LOCAL));
  } catch (const std::exception& error) {
    return refuse(path, Code::invalid_argument,
                  "found an exception from its static initialisers (" + escaped(error.what()) +
                      "), expected none");
  } catch (...) {
    return refuse(path, Code::invalid_argument,
                  "found an exception from its static initialisers, expected none");
  }
  if (handle == nullptr) {
    const char* why = dlerror();
    return refuse(path, Code::invalid_argument,
                  "found " + escaped(why == nullptr ? "no reason" : why, 1000) +
                      ", expected a library that loads");
  }
  return handle;
}

Result<std::unique_ptr<dll::shared_library>> load(const std::string& path, LibraryFile& file) {
  LS_TRY(const Handle initialised, initialise(path, file));  // until Boost has its own handle
  auto library = std::make_unique<dll::shared_library>();
  try {
    library->load(std::filesystem::path(file.name()),
                  dll::load_mode::rtld_now | dll::load_mode::rtld_local);
  } catch (const std::exception& error) {
    return refuse(path, Code::invalid_argument, "found " + escaped(error.what(), 1000));
  }
  return library;
}

/// Never destroyed, so that no library is closed, not even while the process ends.
void keep_forever(std::unique_ptr<dll::shared_library> library) {
  static std::mutex mutex;
  static auto* const kept = new std::vector<std::unique_ptr<dll::shared_library>>;
  const std::lock_guard lock(mutex);
  kept->push_back(std::move(library));
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
    return refuse(path, Code::invalid_argument, "found " + escaped(error.what(), 1000));
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
  LS_TRY(LibraryFile file, LibraryFile::open(path));
  if (!trust_writable) {
    LS_CHECK(check_trusted(file.name(), path));
    const std::string folder = std::filesystem::path(path).parent_path().string();
    LS_CHECK(check_trusted(folder, folder));
  }
  LS_TRY(const std::unique_ptr<File> content, system_files().open(file.name()));
  LS_CHECK(check_elf(*content, path));
  LS_TRY(auto library, load(path, file));
  std::shared_ptr<Library> out(new Library(manifest));
  LS_TRY(out->query_, entry_of(path, *library));
  LS_TRY(const ls_plugin* plugin, ask(path, out->query_));
  LS_CHECK(check_descriptor(plugin, manifest, out->methods_));
  keep_forever(std::move(library));
  return out;
}

}  // namespace loadstone::plugin
