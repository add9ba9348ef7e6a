#include "outputs.hpp"

#include <unistd.h>

#include <filesystem>
#include <span>
#include <system_error>
#include <utility>

#include "base/text.hpp"

namespace loadstone::cli {
namespace {

namespace fs = std::filesystem;

Error refused(const std::string& path, const std::string& found, const std::string& expected) {
  return Error{Code::invalid_argument,
               "output path rejected",
               escaped(path),
               "found " + found + ", expected " + expected,
               "",
               {}};
}

/// Makes `folder` and its parents: the outermost one made, "" if none was missing.
Result<std::string> make_folders(const std::string& folder) {
  std::string first_made;
  std::error_code code;
  for (fs::path at = folder; !at.empty() && !fs::exists(at, code); at = at.parent_path()) {
    first_made = at.string();
  }
  fs::create_directories(folder, code);
  if (code) return refused(folder, code.message(), "a folder that can be made");
  return first_made;
}

}  // namespace

Result<OutputFolder> OutputFolder::reserve(const std::string& path) {
  if (path.empty()) return refused(path, "an empty name", "a folder");
  std::error_code code;
  const fs::file_status status = fs::status(path, code);
  if (fs::exists(status) && !fs::is_directory(status)) {
    return refused(path, "a file", "a folder or a new name");
  }
  LS_TRY(std::string first_made, make_folders(path));
  OutputFolder folder(path, std::move(first_made));
  LS_CHECK(formats::check_output_path(path + "/probe"));
  return folder;
}

OutputFolder::OutputFolder(std::string path, std::string first_made)
    : path_(std::move(path)), first_made_(std::move(first_made)) {}

OutputFolder::OutputFolder(OutputFolder&& other) noexcept
    : path_(std::move(other.path_)), first_made_(std::exchange(other.first_made_, "")) {}

OutputFolder::~OutputFolder() {
  if (first_made_.empty()) return;
  for (fs::path at = path_; !at.empty(); at = at.parent_path()) {
    if (::rmdir(at.c_str()) != 0 || at == fs::path(first_made_)) return;
  }
}

Result<Output> Output::reserve(const std::string& path) {
  LS_TRY(formats::OutputFile file, formats::OutputFile::create(path));
  return Output(std::nullopt, std::move(file));
}

Result<Output> Output::reserve_with_folders(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  if (parent.empty()) return reserve(path);
  LS_TRY(OutputFolder folder, OutputFolder::reserve(parent.string()));
  LS_TRY(formats::OutputFile file, formats::OutputFile::create(path));
  return Output(std::move(folder), std::move(file));
}

Status Output::write(std::string_view bytes) {
  LS_CHECK(file_.write(std::as_bytes(std::span(bytes))));
  return file_.commit();
}

}  // namespace loadstone::cli
