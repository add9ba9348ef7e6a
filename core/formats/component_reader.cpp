#include "formats/component_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <climits>

#include "base/text.hpp"
#include "formats/content_kind.hpp"
#include "formats/declarations.hpp"
#include "formats/gguf_set.hpp"
#include "formats/safetensors.hpp"

namespace loadstone::formats {
namespace {

// config.json tells the class and, by its keys, the library.
void read_class(const Node& config, Component& component) {
  const Node* class_name = config.find("_class_name");
  const Node* architectures = config.find("architectures");
  if (class_name != nullptr && class_name->is_text()) {
    component.class_name = class_name->text();
    component.library = "diffusers";
  } else if (architectures != nullptr && architectures->is_list() &&
             !architectures->items().empty() && architectures->items().front().is_text()) {
    component.class_name = architectures->items().front().text();
    component.library = "transformers";
  } else if (config.find("model_type") != nullptr) {
    component.library = "transformers";
  }
}

// Keys of later files don't replace those of the first.
void merge_metadata(const std::vector<std::pair<std::string, std::string>>& metadata,
                    Component& component) {
  for (const auto& [key, value] : metadata) {
    if (component.metadata.is_null()) component.metadata = Node::of_map({});
    if (component.metadata.find(key) == nullptr) {
      component.metadata.entries().emplace_back(key, Node::of_text(value));
    }
  }
}

bool is_component_stem(std::string_view stem) {
  return !stem.empty() && std::all_of(stem.begin(), stem.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
  });
}

}  // namespace

Result<FolderListing> ComponentReader::list(const std::string& folder) {
  LS_TRY(const std::vector<DirectoryEntry> entries, files_.system().list(folder));
  FolderListing listing;
  for (const DirectoryEntry& entry : entries) {
    const bool is_folder = entry.kind == EntryKind::directory ||
                           (entry.kind == EntryKind::symlink &&
                            files_.system().is_directory(join_path(folder, entry.name)));
    if (!is_folder) {
      listing.names.push_back(entry.name);
    } else if (!entry.name.starts_with('.')) {
      listing.folders.push_back(entry.name);
    }
  }
  listing.has_config =
      std::binary_search(listing.names.begin(), listing.names.end(), "config.json");
  LS_TRY(listing.weights, choose_weight_files(folder, listing.names));
  return listing;
}

Status ComponentReader::read_config(const std::string& folder, const FolderListing& listing,
                                    Component& component) {
  if (listing.has_config) {
    const std::string path = join_path(folder, "config.json");
    LS_TRY(component.config, files_.read_json(path, kMaxConfigNbytes));
    if (!component.config.is_map()) {
      return Error{Code::invalid_checkpoint, "config.json rejected", escaped(path, PATH_MAX),
                   fmt::format("found {}, expected a map", component.config.describe())};
    }
    read_class(component.config, component);
    LS_TRY(component.declarations, declarations_of_config(component.config, path));
  }
  return add_side_files(files_, folder, listing.names, component, checkpoint_.notes);
}

Status ComponentReader::read_folder(const std::string& folder, const FolderListing& listing,
                                    Component& component) {
  component.source = folder;
  LS_CHECK(read_config(folder, listing, component));
  if (!listing.weights.index.empty()) {
    LS_CHECK(read_index(folder, listing, component));
  } else {
    LS_CHECK(read_weight_file(join_path(folder, listing.weights.file), component));
    note_unread(folder, listing.weights.unread);
  }
  return add_embedded_declarations(checkpoint_.files, component);
}

Status ComponentReader::read_files_as_components(const std::string& folder,
                                                 const FolderListing& listing) {
  const auto& names = listing.weights.several;
  const bool named = std::all_of(names.begin(), names.end(), [](const std::string& name) {
    return is_component_stem(name.substr(0, name.find('.')));
  });
  if (!listing.has_config || !named) {
    return Error{Code::invalid_checkpoint, "weights are ambiguous", escaped(folder, PATH_MAX),
                 fmt::format("found {}, expected model.safetensors, "
                             "diffusion_pytorch_model.safetensors, an index or one file (name the "
                             "file instead of the folder)",
                             join(names, " and ", 10))};
  }
  Component shared;
  LS_CHECK(read_config(folder, listing, shared));
  for (const std::string& name : names) {
    Component component = shared;
    component.name = name.substr(0, name.find('.'));
    component.source = join_path(folder, name);
    LS_CHECK(read_weight_file(component.source, component));
    LS_CHECK(add_embedded_declarations(checkpoint_.files, component));
    checkpoint_.components.push_back(std::move(component));
  }
  return {};
}

Status ComponentReader::read_index(const std::string& folder, const FolderListing& listing,
                                   Component& component) {
  const std::string path = join_path(folder, listing.weights.index);
  LS_TRY(const Node json, files_.read_json(path, kMaxIndexNbytes));
  LS_TRY(const ShardIndex index, parse_shard_index(json, path));
  const auto first_file = static_cast<uint32_t>(checkpoint_.files.size());
  for (const std::string& shard : index.shards) {
    const std::string shard_path = join_path(folder, shard);
    auto opened = files_.open(shard_path);
    if (!opened.ok()) {
      if (opened.error().code != Code::not_found) return std::move(opened).error();
      return Error{Code::invalid_checkpoint, "shard is missing", escaped(shard_path, PATH_MAX),
                   fmt::format("found no file, expected the shard that {} names (an incomplete "
                               "download?)",
                               escaped(path, PATH_MAX))};
    }
    LS_CHECK(read_safetensors(std::move(opened).value(), component));
  }
  std::vector<TensorEntry>& tensors = component.tensors;
  for (TensorEntry& tensor : tensors) tensor.file -= first_file;
  LS_CHECK(check_against_shards(index, tensors, options_, checkpoint_.notes));
  uint64_t nbytes = 0;
  for (TensorEntry& tensor : tensors) {
    tensor.file += first_file;
    nbytes += tensor.nbytes;
  }
  auto& notes = checkpoint_.notes;
  notes.insert(notes.end(), index.notes.begin(), index.notes.end());
  if (index.total_nbytes && *index.total_nbytes != nbytes) {
    notes.push_back(fmt::format("{}: total_size is {}, the shards' tensors are {} bytes",
                                escaped(path, PATH_MAX), *index.total_nbytes, nbytes));
  }
  std::vector<std::string> unread;
  for (const std::string& name : listing.weights.unread) {
    if (std::find(index.shards.begin(), index.shards.end(), name) == index.shards.end()) {
      unread.push_back(name);
    }
  }
  note_unread(folder, unread);
  return {};
}

Status ComponentReader::read_safetensors(std::unique_ptr<File> file, Component& component) {
  LS_TRY(const FileIdentity identity, file->identity());
  LS_TRY(const ContentKind kind, read_content_kind(*file, identity.nbytes));
  // Unknown content goes to the reader, whose error says what is wrong with the header.
  if (kind != ContentKind::safetensors && kind != ContentKind::unknown) {
    return refused_content(kind, file->path(), "safetensors", identity.nbytes);
  }
  LS_TRY(SafetensorsHeader header, read_safetensors_header(*file, identity.nbytes, options_));
  const auto index = static_cast<uint32_t>(checkpoint_.files.size());
  for (TensorEntry& tensor : header.tensors) tensor.file = index;
  std::move(header.tensors.begin(), header.tensors.end(), std::back_inserter(component.tensors));
  merge_metadata(header.metadata, component);
  std::move(header.notes.begin(), header.notes.end(), std::back_inserter(checkpoint_.notes));
  std::string path = file->path();
  checkpoint_.files.push_back({std::move(path), std::move(file), identity});
  return {};
}

// The content decides; a name that says another container is refused, so that nobody is surprised.
Status ComponentReader::read_weight_file(const std::string& path, Component& component) {
  LS_TRY(std::unique_ptr<File> file, files_.open(path));
  LS_TRY(const FileIdentity identity, file->identity());
  LS_TRY(const ContentKind kind, read_content_kind(*file, identity.nbytes));
  const bool named_gguf = path.ends_with(".gguf");
  if (kind == ContentKind::gguf && !path.ends_with(".safetensors")) {
    return read_gguf_set(path, component);
  }
  if (named_gguf) return refused_content(kind, path, "GGUF", identity.nbytes);
  return read_safetensors(std::move(file), component);
}

Status ComponentReader::read_gguf_set(const std::string& path, Component& component) {
  return GgufSetReader(files_, checkpoint_, options_).read(path, component);
}

Status ComponentReader::read_single_file(const std::string& path, Component& component) {
  if (is_numbered_shard(base_name(path))) {
    return Error{Code::invalid_checkpoint, "file is one shard of several", escaped(path, PATH_MAX),
                 "found a numbered shard, expected the folder that holds all of them and their "
                 "index"};
  }
  component.source = path;
  LS_CHECK(read_weight_file(path, component));
  const size_t slash = path.find_last_of('/');
  const std::string beside = path.substr(0, slash == std::string::npos ? 0 : slash + 1);
  if (files_.system().is_regular(beside + "config.json")) {
    checkpoint_.notes.push_back(fmt::format("{}config.json was not read: the file alone was named",
                                            escaped(beside, PATH_MAX)));
  }
  return add_embedded_declarations(checkpoint_.files, component);
}

Error ComponentReader::refuse(const std::string& path) {
  const auto refused = [&]() -> Status {
    LS_TRY(const std::unique_ptr<File> file, files_.open(path));
    LS_TRY(const FileIdentity identity, file->identity());
    LS_TRY(const ContentKind kind, read_content_kind(*file, identity.nbytes));
    return refused_content(kind, path, "safetensors", identity.nbytes);
  };
  return refused().error();
}

void ComponentReader::note_unread(const std::string& folder,
                                  const std::vector<std::string>& unread) {
  if (unread.empty()) return;
  std::vector<std::string> shown;
  for (const std::string& name : unread) shown.push_back(escaped(name));
  checkpoint_.notes.push_back(
      fmt::format("{}: not read: {}", escaped(folder, PATH_MAX), join(shown, " and ", 10)));
}

}  // namespace loadstone::formats
