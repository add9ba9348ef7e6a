// open_checkpoint: which layout a path has, and its components.
#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <new>
#include <stdexcept>

#include "base/text.hpp"
#include "formats/checkpoint.hpp"
#include "formats/component_reader.hpp"
#include "formats/content_kind.hpp"
#include "formats/declarations.hpp"
#include "formats/hub_cache.hpp"
#include "formats/model_files.hpp"
#include "formats/model_index.hpp"

namespace loadstone::formats {
namespace {

constexpr std::string_view kModelIndex = "model_index.json";
constexpr uint64_t kMaxModelIndexNbytes = 1u << 20;

// Classes that have files of their own but no tensors.
bool has_no_weights_by_nature(std::string_view class_name) {
  for (const std::string_view ending :
       {"Tokenizer", "TokenizerFast", "Processor", "Scheduler", "Extractor"}) {
    if (class_name.ends_with(ending)) return true;
  }
  return false;
}

class Opener {
 public:
  Opener(const ModelFiles& files, Checkpoint& checkpoint, const OpenOptions& options)
      : files_(files),
        checkpoint_(checkpoint),
        elsewhere_(options.elsewhere),
        reader_(files, checkpoint, options) {}

  Status open_folder(const std::string& folder) {
    LS_TRY(Node model_index,
           files_.read_json_if_present(join_path(folder, std::string(kModelIndex)),
                                       kMaxModelIndexNbytes));
    if (!model_index.is_null()) return open_diffusers(folder, std::move(model_index));
    LS_TRY(const FolderListing listing, reader_.list(folder));
    if (!listing.has_weights()) {
      LS_TRY(const bool found, open_component_folders(folder, listing));
      if (found) return {};
      return no_weights(folder, listing);
    }
    return open_root(folder, listing);
  }

  Status open_file(const std::string& path) {
    checkpoint_.layout = Layout::single_file;
    Component component;
    LS_CHECK(reader_.read_single_file(path, component));
    checkpoint_.components.push_back(std::move(component));
    return {};
  }

 private:
  Status open_diffusers(const std::string& folder, Node model_index) {
    checkpoint_.layout = Layout::diffusers;
    const std::string index_path = join_path(folder, std::string(kModelIndex));
    LS_TRY(const auto indexed, parse_model_index(model_index, index_path));
    checkpoint_.model_index = std::move(model_index);
    for (const IndexedComponent& entry : indexed) {
      const std::string path = join_path(folder, entry.name);
      const bool comes =
          std::find(elsewhere_.begin(), elsewhere_.end(), entry.name) != elsewhere_.end();
      if (comes && !files_.system().is_directory(path)) {
        add_placeholder(entry, Node());
        continue;
      }
      if (!files_.system().is_directory(path)) {
        return Error{Code::invalid_checkpoint, "component folder is missing",
                     escaped(path, PATH_MAX),
                     fmt::format("found no folder, expected one for {} of {} (an incomplete "
                                 "download?)",
                                 loadstone::quoted(entry.name), escaped(index_path, PATH_MAX))};
      }
      LS_TRY(const FolderListing listing, reader_.list(path));
      if (!listing.has_weights() && comes) {
        LS_TRY(Node config,
               files_.read_json_if_present(join_path(path, "config.json"), kMaxConfigNbytes));
        add_placeholder(entry, std::move(config));
        continue;
      }
      if (!listing.has_weights()) {
        LS_CHECK(accept_without_weights(entry, path, listing));
        continue;
      }
      Component component;
      component.name = component.folder = entry.name;
      LS_CHECK(reader_.read_folder(path, listing, component));
      component.class_name = entry.class_name;
      component.library = entry.library;
      checkpoint_.components.push_back(std::move(component));
    }
    if (!checkpoint_.components.empty()) return {};
    return Error{Code::invalid_checkpoint, "model has no weights", escaped(index_path, PATH_MAX),
                 "found no component with tensors, expected at least one"};
  }

  /// What is known of a component whose files come from elsewhere.
  void add_placeholder(const IndexedComponent& entry, Node config) {
    Component component;
    component.name = component.folder = entry.name;
    component.class_name = entry.class_name;
    component.library = entry.library;
    component.config = std::move(config);
    checkpoint_.components.push_back(std::move(component));
  }

  Status accept_without_weights(const IndexedComponent& entry, const std::string& path,
                                const FolderListing& listing) {
    if (has_no_weights_by_nature(entry.class_name)) return {};
    if (listing.has_config || !listing.weights.pickles.empty()) return no_weights(path, listing);
    checkpoint_.notes.push_back(fmt::format("component {} ({}) has neither config.json nor weights",
                                            loadstone::quoted(entry.name),
                                            loadstone::quoted(entry.class_name)));
    return {};
  }

  // Folders of components without a model_index.json. False when there are none.
  Result<bool> open_component_folders(const std::string& folder, const FolderListing& listing) {
    for (const std::string& name : listing.folders) {
      const std::string path = join_path(folder, name);
      LS_TRY(const FolderListing inner, reader_.list(path));
      if (!inner.has_weights()) continue;
      Component component;
      component.name = component.folder = name;
      LS_CHECK(reader_.read_folder(path, inner, component));
      checkpoint_.components.push_back(std::move(component));
    }
    checkpoint_.layout = Layout::cascade;
    return !checkpoint_.components.empty();
  }

  // One root: its files are the component "", or one component a file; folders below that have
  // config and weights of their own are further components.
  Status open_root(const std::string& folder, const FolderListing& listing) {
    checkpoint_.layout = listing.has_config ? Layout::transformers : Layout::single_file;
    if (listing.weights.several.empty()) {
      Component component;
      LS_CHECK(reader_.read_folder(folder, listing, component));
      checkpoint_.components.push_back(std::move(component));
    } else {
      LS_CHECK(reader_.read_files_as_components(folder, listing));
    }
    if (!listing.has_config) return {};
    for (const std::string& name : listing.folders) {
      const std::string path = join_path(folder, name);
      if (!files_.system().is_regular(join_path(path, "config.json"))) continue;
      LS_TRY(const FolderListing inner, reader_.list(path));
      if (!inner.has_weights()) continue;
      Component component;
      component.name = component.folder = name;
      LS_CHECK(reader_.read_folder(path, inner, component));
      checkpoint_.components.push_back(std::move(component));
    }
    return {};
  }

  // Nothing to read: says what lies there instead.
  Error no_weights(const std::string& folder, const FolderListing& listing) {
    if (!listing.weights.pickles.empty()) {
      const std::string path = join_path(folder, listing.weights.pickles.front());
      return reader_.refuse(path);
    }
    return Error{Code::invalid_checkpoint, "model has no weights", escaped(folder, PATH_MAX),
                 "found no *.safetensors or *.gguf file, expected weights (an incomplete "
                 "download?)"};
  }

  const ModelFiles& files_;
  Checkpoint& checkpoint_;
  const std::vector<std::string>& elsewhere_;
  ComponentReader reader_;
};

Error not_found(FileSystem& files, const std::string& path) {
  const size_t slash = path.find_last_of('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  Error error{Code::not_found, "model not found", escaped(path, PATH_MAX),
              "found no such file or folder, expected a model's folder or file, or a hub name "
              "ORGANISATION/NAME"};
  const auto siblings = files.list(folder);
  if (!siblings.ok()) return error;
  std::vector<std::string> names;
  for (const DirectoryEntry& entry : *siblings) names.push_back(entry.name);
  const std::string near = nearest(base_name(path), names);
  if (!near.empty()) {
    error.hint = loadstone::quoted(slash == std::string::npos ? near : folder + near, PATH_MAX);
  }
  return error;
}

Result<Checkpoint> open_at(FileSystem& files, const std::string& path, const OpenOptions& options) {
  Checkpoint checkpoint;
  checkpoint.path = path;
  LS_TRY(const std::string resolved, files.resolve(path));
  if (files.is_directory(resolved)) {
    checkpoint.root = resolved;
    const ModelFiles model_files(files, Boundary::of_folder(resolved));
    LS_CHECK(Opener(model_files, checkpoint, options).open_folder(path));
    return checkpoint;
  }
  // The folder as the user names it: a link to one file does not make its target's folder the
  // model.
  const size_t slash = path.find_last_of('/');
  LS_TRY(checkpoint.root,
         files.resolve(slash == std::string::npos ? "." : path.substr(0, slash + 1)));
  Boundary boundary = Boundary::of_folder(checkpoint.root);
  boundary.allow_file(resolved);
  const ModelFiles model_files(files, std::move(boundary));
  LS_CHECK(Opener(model_files, checkpoint, options).open_file(path));
  return checkpoint;
}

Result<Checkpoint> open_path_or_name(FileSystem& files, const std::string& path,
                                     const OpenOptions& options) {
  if (path.empty()) {
    return Error{Code::invalid_argument, "model not named", "",
                 "found \"\", expected a path or a hub name"};
  }
  if (files.resolve(path).ok()) return open_at(files, path, options);
  const auto name = parse_hub_name(path);
  if (!name) return not_found(files, path);
  LS_TRY(const std::string snapshot, find_in_hub_cache(files, *name, HubEnvironment::of_process()));
  LS_TRY(Checkpoint checkpoint, open_at(files, snapshot, options));
  checkpoint.path = path;
  return checkpoint;
}

// The message fits into the string itself; the rest is added if there is memory for it.
Error out_of_memory(const std::string& path) {
  Error error{Code::resource, "out of memory"};
  try {
    error.where = escaped(path, PATH_MAX);
    error.detail = "found no memory for its headers, expected a few times their size";
  } catch (const std::bad_alloc&) {
    error.where.clear();
  }
  return error;
}

}  // namespace

Result<Checkpoint> open_checkpoint(FileSystem& files, const std::string& path,
                                   const OpenOptions& options) {
  try {
    return open_path_or_name(files, path, options);
  } catch (const std::bad_alloc&) {
    return out_of_memory(path);
  } catch (const std::length_error&) {
    return out_of_memory(path);
  }
}

}  // namespace loadstone::formats
