#include "formats/gguf_set.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <unordered_set>

#include "base/text.hpp"
#include "formats/content_kind.hpp"

namespace loadstone::formats {
namespace {

constexpr std::string_view kArchitecture = "general.architecture";

Error rejected(const std::string& path, std::string detail) {
  return Error{Code::invalid_checkpoint, "gguf set rejected", escaped(path, PATH_MAX),
               std::move(detail)};
}

std::string architecture_of(const GgufFile& file) {
  const Node* value = file.metadata.find(kArchitecture);
  return value != nullptr && value->is_text() ? value->text() : std::string();
}

Node general_keys(const Node& metadata) {
  Node map = Node::of_map({});
  for (const auto& entry : metadata.entries()) {
    if (entry.first.starts_with("general.")) map.entries().push_back(entry);
  }
  return map;
}

}  // namespace

Status GgufSetReader::read(const std::string& path, Component& component) {
  LS_TRY(std::vector<Part> parts, open_parts(path));
  LS_CHECK(check_parts(parts));
  const Node metadata = std::move(parts.front().content.metadata);
  if (component.config.is_null()) {
    component.config = metadata;
    component.library = "gguf";
    const Node* architecture = metadata.find(kArchitecture);
    if (architecture != nullptr && architecture->is_text()) {
      component.class_name = architecture->text();
    }
  }
  for (Part& part : parts) add_part(std::move(part), component);
  component.gguf = true;
  const bool quantized =
      std::any_of(component.tensors.begin(), component.tensors.end(),
                  [](const TensorEntry& tensor) { return is_ggml(tensor.dtype); });
  if (quantized) {
    component.declarations.push_back({"gguf", path, "", general_keys(metadata)});
  }
  return {};
}

Result<GgufSetReader::Part> GgufSetReader::open_part(const std::string& path) const {
  Part part;
  part.path = path;
  LS_TRY(part.file, files_.open(path));
  LS_TRY(part.identity, part.file->identity());
  LS_TRY(const ContentKind kind, read_content_kind(*part.file, part.identity.nbytes));
  if (kind != ContentKind::gguf) return refused_content(kind, path, "GGUF", part.identity.nbytes);
  LS_TRY(part.content, read_gguf(*part.file, part.identity.nbytes, options_));
  return part;
}

// The named part says how many there are; names are checked against that, never guessed.
Result<std::vector<GgufSetReader::Part>> GgufSetReader::open_parts(const std::string& path) const {
  std::vector<Part> parts;
  LS_TRY(Part named, open_part(path));
  const uint64_t count = named.content.split.count;
  const std::string name = base_name(path);
  if (count == 1) {
    const uint64_t named_count = gguf_count_of_name(name);
    if (named_count > 1) {
      return rejected(
          path, fmt::format("found no split.count, expected {} as the name says", named_count));
    }
    parts.push_back(std::move(named));
    return parts;
  }
  const auto names = gguf_part_names(name, count);
  if (!names) {
    return rejected(path, fmt::format("found a part of {} (split.count), expected a name ending in "
                                      "-NNNNN-of-{:05}.gguf",
                                      count, count));
  }
  const std::string folder = path.substr(0, path.size() - name.size());
  for (const std::string& part_name : *names) {
    if (part_name == name) {
      parts.push_back(std::move(named));
      continue;
    }
    auto part = open_part(folder + part_name);
    if (!part.ok() && part.error().code == Code::not_found) {
      return rejected(folder + part_name, fmt::format("found no file, expected a part of {} (an "
                                                      "incomplete download?)",
                                                      escaped(name)));
    }
    LS_TRY(Part opened, std::move(part));
    parts.push_back(std::move(opened));
  }
  return parts;
}

Status GgufSetReader::check_parts(const std::vector<Part>& parts) const {
  const GgufFile& first = parts.front().content;
  std::unordered_set<std::string_view> names;
  uint64_t tensors = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const GgufFile& part = parts[i].content;
    const GgufSplit& split = part.split;
    if (split.number != i || split.count != parts.size() || split.tensors != first.split.tensors) {
      return rejected(parts[i].path,
                      fmt::format("found part {} of {} with {} tensors in all, expected part {} of "
                                  "{} with {}",
                                  split.number, split.count, split.tensors, i, parts.size(),
                                  first.split.tensors));
    }
    const std::string architecture = architecture_of(part);
    if (!architecture.empty() && architecture != architecture_of(first)) {
      return rejected(parts[i].path, fmt::format("found a part of a {} model, expected {}",
                                                 loadstone::quoted(architecture),
                                                 loadstone::quoted(architecture_of(first))));
    }
    tensors += part.tensors.size();
    if (parts.size() == 1) continue;
    for (const TensorEntry& tensor : part.tensors) {
      if (names.insert(tensor.name).second) continue;
      return rejected(parts[i].path, fmt::format("found tensor {} again, expected it in one part",
                                                 loadstone::quoted(tensor.name)));
    }
  }
  if (parts.size() == 1 || tensors == first.split.tensors) return {};
  return rejected(parts.front().path,
                  fmt::format("found {} tensors in {} parts, expected {} (split.tensors.count)",
                              tensors, parts.size(), first.split.tensors));
}

void GgufSetReader::add_part(Part part, Component& component) {
  const auto file = static_cast<uint32_t>(checkpoint_.files.size());
  const auto first = static_cast<uint32_t>(component.tensors.size());
  for (TensorEntry& tensor : part.content.tensors) {
    tensor.file = file;
    component.tensors.push_back(std::move(tensor));
  }
  for (auto& [index, shape] : part.content.reshaped) {
    component.reshaped.emplace_back(first + index, std::move(shape));
  }
  auto& notes = part.content.notes;
  std::move(notes.begin(), notes.end(), std::back_inserter(checkpoint_.notes));
  checkpoint_.files.push_back({std::move(part.path), std::move(part.file), part.identity});
}

}  // namespace loadstone::formats
