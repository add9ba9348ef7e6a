// Checkpoints of real models' size without their data: the tensor lists under
// LOADSTONE_SHARED/models/headers over the small folders of their families.
#pragma once

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/shared.hpp"
#include "formats/checkpoint.hpp"

namespace loadstone::testing {

namespace fs = std::filesystem;

inline std::vector<fs::path> sorted(const fs::path& dir, const std::string& extension) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(dir)) {
    if (extension.empty() ? entry.is_directory() : entry.path().extension() == extension) {
      out.push_back(entry.path());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

inline std::string gunzip(const fs::path& path) {
  std::string out;
  FILE* pipe = popen(("gzip -dc '" + path.string() + "'").c_str(), "r");
  if (!pipe) return out;
  char buffer[65536];
  for (size_t got = 0; (got = fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append(buffer, got);
  pclose(pipe);
  return out;
}

/// The tiny folder of a header: its name begins the header's, the longest one.
inline fs::path tiny_folder(const std::string& header) {
  fs::path best;
  for (const fs::path& folder : sorted(shared_folder() / "models/families", "")) {
    const std::string name = folder.filename().string();
    const bool fits = header.compare(0, name.size(), name) == 0;
    if (fits && name.size() > best.filename().string().size()) best = folder;
  }
  return best;
}

/// A tiny folder's checkpoint with a header's tensors; nothing of it can be read.
inline formats::Checkpoint at_true_size(const fs::path& header) {
  const std::string name = header.stem().stem().string();
  auto checkpoint = formats::open_checkpoint(system_files(), tiny_folder(name).string());
  if (!checkpoint.ok()) throw std::runtime_error(checkpoint.error().text());
  auto rows = parse_json(gunzip(header), name);
  if (!rows.ok()) throw std::runtime_error(rows.error().text());
  for (auto& component : checkpoint->components) component.tensors.clear();
  uint64_t offset = 4096;
  for (const Node& row : rows->items()) {
    const auto& cell = row.items();
    formats::TensorEntry tensor;
    tensor.name = cell[1].text();
    tensor.dtype = *dtype_from_safetensors(cell[2].text());
    tensor.nbytes = layout_of(tensor.dtype)->block_nbytes;
    for (const Node& dim : cell[3].items()) {
      tensor.shape.push_back(static_cast<uint64_t>(dim.integer()));
      tensor.nbytes *= tensor.shape.back();
    }
    tensor.offset = offset;
    offset += tensor.nbytes;
    formats::Component* owner = nullptr;
    for (auto& component : checkpoint->components) {
      if (component.name == cell[0].text() || (!owner && component.name.empty())) {
        owner = &component;
      }
    }
    if (!owner) throw std::runtime_error("no component " + cell[0].text());
    owner->tensors.push_back(std::move(tensor));
  }
  return std::move(*checkpoint);
}

}  // namespace loadstone::testing
