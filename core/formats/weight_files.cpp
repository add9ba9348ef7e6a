#include "formats/weight_files.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <optional>

#include "base/text.hpp"
#include "formats/shard_index.hpp"

namespace loadstone::formats {
namespace {

constexpr std::string_view kSafetensors = ".safetensors";
constexpr std::string_view kGguf = ".gguf";
constexpr std::array<std::string_view, 2> kStandardNames = {"model.safetensors",
                                                            "diffusion_pytorch_model.safetensors"};
constexpr std::array<std::string_view, 5> kPickleEndings = {".bin", ".pt", ".pth", ".ckpt", ".pkl"};

Error ambiguous(const std::string& folder, const std::vector<std::string>& found,
                std::string_view expected) {
  return Error{Code::invalid_checkpoint, "weights are ambiguous", escaped(folder, PATH_MAX),
               fmt::format("found {}, expected {}", join(found, " and ", 10), expected)};
}

std::optional<uint64_t> digits(std::string_view text) {
  uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

// GGUF files that belong together: the part before "-N-of-M", or the name.
std::string gguf_set(const std::string& name) {
  if (!shard_total(name, kGguf)) return name;
  const size_t of = name.rfind("-of-");
  return name.substr(0, name.rfind('-', of - 1));
}

struct Listing {
  std::vector<std::string> indexes, safetensors, shards, ggufs, pickles;

  explicit Listing(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      if (name.starts_with('.')) continue;
      if (name.ends_with(kIndexSuffix)) {
        indexes.push_back(name);
      } else if (is_numbered_shard(name)) {
        shards.push_back(name);
      } else if (name.ends_with(kSafetensors)) {
        safetensors.push_back(name);
      } else if (name.ends_with(kGguf)) {
        ggufs.push_back(name);
      } else if (std::any_of(kPickleEndings.begin(), kPickleEndings.end(),
                             [&](std::string_view ending) { return name.ends_with(ending); })) {
        pickles.push_back(name);
      }
    }
  }
};

bool one_gguf_set(const std::vector<std::string>& ggufs) {
  return std::all_of(ggufs.begin(), ggufs.end(), [&](const std::string& name) {
    return gguf_set(name) == gguf_set(ggufs.front());
  });
}

std::vector<std::string> all_but(const std::vector<std::string>& names, const std::string& kept) {
  std::vector<std::string> rest;
  std::copy_if(names.begin(), names.end(), std::back_inserter(rest),
               [&](const std::string& name) { return name != kept; });
  return rest;
}

Result<WeightFiles> choose_gguf(const std::string& folder, const Listing& listing) {
  if (!one_gguf_set(listing.ggufs)) {
    return ambiguous(folder, listing.ggufs, "one GGUF set (name the file instead of the folder)");
  }
  WeightFiles chosen;
  chosen.file = listing.ggufs.front();
  return chosen;
}

}  // namespace

std::optional<uint64_t> shard_total(std::string_view name, std::string_view ending) {
  if (!name.ends_with(ending)) return std::nullopt;
  name.remove_suffix(ending.size());
  const size_t of = name.rfind("-of-");
  if (of == std::string_view::npos) return std::nullopt;
  const size_t dash = name.rfind('-', of == 0 ? 0 : of - 1);
  if (dash == std::string_view::npos || !digits(name.substr(dash + 1, of - dash - 1))) {
    return std::nullopt;
  }
  return digits(name.substr(of + 4));
}

bool is_numbered_shard(const std::string& name) {
  const auto total = shard_total(name, kSafetensors);
  return total && *total > 1;
}

Result<WeightFiles> choose_weight_files(const std::string& folder,
                                        const std::vector<std::string>& names) {
  const Listing listing(names);
  WeightFiles chosen;
  if (listing.indexes.size() > 1) return ambiguous(folder, listing.indexes, "one weights index");
  if (listing.indexes.size() == 1) {
    chosen.index = listing.indexes.front();
    chosen.unread = listing.safetensors;  // those that the index names are taken out by the reader
    return chosen;
  }
  std::vector<std::string> standard;
  for (const std::string_view name : kStandardNames) {
    const auto& found = listing.safetensors;
    if (std::find(found.begin(), found.end(), name) != found.end()) standard.emplace_back(name);
  }
  if (standard.size() > 1) return ambiguous(folder, standard, "one of them");
  std::vector<std::string> quantized;
  for (const std::string& name : listing.safetensors) {
    if (name.starts_with("quant_model_weight")) quantized.push_back(name);
  }
  if (standard.empty() && quantized.size() == 1) standard = quantized;
  if (standard.size() == 1) {
    chosen.file = standard.front();
    chosen.unread = all_but(listing.safetensors, chosen.file);
    return chosen;
  }
  if (!listing.shards.empty()) {
    return Error{Code::invalid_checkpoint, "weights index is missing", escaped(folder, PATH_MAX),
                 fmt::format("found {} without an index, expected one file *{} (download it too)",
                             join(listing.shards, " and ", 3), kIndexSuffix)};
  }
  if (!listing.safetensors.empty() && !listing.ggufs.empty()) {
    std::vector<std::string> both = listing.safetensors;
    both.insert(both.end(), listing.ggufs.begin(), listing.ggufs.end());
    return ambiguous(folder, both, "one of them (name the file instead of the folder)");
  }
  if (!listing.ggufs.empty()) return choose_gguf(folder, listing);
  if (listing.safetensors.size() == 1) {
    chosen.file = listing.safetensors.front();
  } else if (!listing.safetensors.empty()) {
    chosen.several = listing.safetensors;
  } else {
    chosen.pickles = listing.pickles;
  }
  return chosen;
}

}  // namespace loadstone::formats
