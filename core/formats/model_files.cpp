#include "formats/model_files.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <climits>

#include "base/text.hpp"

namespace loadstone::formats {
namespace {

bool is_inside(const std::string& path, const std::string& folder) {
  if (folder == "/") return true;
  return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
}

// ".../models--ORG--NAME/snapshots/REVISION[/...]" -> ".../models--ORG--NAME/blobs", else "".
std::string cache_blobs_of(const std::string& folder) {
  constexpr std::string_view kSnapshots = "/snapshots/";
  for (size_t at = folder.find(kSnapshots); at != std::string::npos;
       at = folder.find(kSnapshots, at + 1)) {
    const std::string repository = folder.substr(0, at);
    if (base_name(repository).starts_with("models--")) return repository + "/blobs";
  }
  return {};
}

}  // namespace

Boundary Boundary::of_folder(const std::string& folder) {
  Boundary boundary;
  boundary.folders_.push_back(folder);
  std::string blobs = cache_blobs_of(folder);
  if (!blobs.empty()) boundary.folders_.push_back(std::move(blobs));
  return boundary;
}

bool Boundary::contains(const std::string& resolved) const {
  if (std::find(files_.begin(), files_.end(), resolved) != files_.end()) return true;
  return std::any_of(folders_.begin(), folders_.end(),
                     [&](const std::string& folder) { return is_inside(resolved, folder); });
}

Result<std::unique_ptr<File>> ModelFiles::open(const std::string& path) const {
  LS_TRY(std::unique_ptr<File> file, files_.open(path));
  LS_TRY(const std::string resolved, file->resolved());
  if (!boundary_.contains(resolved)) {
    return Error{Code::invalid_checkpoint, "file lies outside the model", escaped(path, PATH_MAX),
                 fmt::format("found a link to {}, expected a file inside {} or its cache's blobs",
                             loadstone::quoted(resolved, PATH_MAX),
                             loadstone::quoted(boundary_.folder(), PATH_MAX))};
  }
  return file;
}

Result<Node> ModelFiles::read_json(const std::string& path, uint64_t max_nbytes) const {
  LS_TRY(const std::unique_ptr<File> file, open(path));
  LS_TRY(const std::string text, read_text(*file, max_nbytes));
  auto parsed = parse_json(text, path, {.max_nbytes = max_nbytes});
  if (!parsed.ok() && parsed.error().code == Code::invalid_config) {
    parsed.error().code = Code::invalid_checkpoint;
  }
  return parsed;
}

Result<Node> ModelFiles::read_json_if_present(const std::string& path, uint64_t max_nbytes) const {
  auto parsed = read_json(path, max_nbytes);
  if (!parsed.ok() && parsed.error().code == Code::not_found) return Node();
  return parsed;
}

std::string join_path(const std::string& folder, const std::string& name) {
  return folder.ends_with('/') ? folder + name : folder + "/" + name;
}

std::string base_name(const std::string& path) {
  return path.substr(path.find_last_of('/') + 1);  // npos + 1 is 0
}

}  // namespace loadstone::formats
