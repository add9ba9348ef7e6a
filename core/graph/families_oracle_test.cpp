// Every folder under LOADSTONE_SHARED/models/families: components, roles, fusions and defaults of
// each 2-D weight equal its expect.json; every header under models/headers gives the totals.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <map>
#include <set>

#include "base/file.hpp"
#include "base/testing/shared.hpp"
#include "graph/adapter.hpp"
#include "graph/graph.hpp"
#include "graph/original_names.hpp"

namespace loadstone::graph {
namespace {

namespace fs = std::filesystem;

#ifdef __SANITIZE_ADDRESS__
constexpr double kMaxSeconds = 10;
#else
constexpr double kMaxSeconds = 1;
#endif

std::string adapters() { return std::string(LOADSTONE_SOURCE_DIR) + "/model_adapters"; }

Node read_json(const fs::path& path) {
  auto text = read_text(system_files(), path.string(), 64u << 20);
  EXPECT_TRUE(text.ok()) << text.error().text();
  auto node = parse_json(*text, path.string());
  EXPECT_TRUE(node.ok()) << node.error().text();
  return *node;
}

std::vector<fs::path> entries_of(const fs::path& dir) {
  std::vector<fs::path> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir, error)) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

/// What the graph says about one stored tensor.
struct Place {
  const Layer* layer = nullptr;
  const Part* part = nullptr;
};

using Places = std::map<std::pair<std::string, std::string>, Place>;

/// Every tensor's place; each must lie in exactly one layer.
Places places_of(const Graph& graph, const formats::Checkpoint& checkpoint) {
  Places out;
  uint64_t tensors = 0;
  for (const Layer& layer : graph.layers) {
    const GraphComponent& component = graph.components[layer.component];
    const auto& stored = checkpoint.components[component.checkpoint_component];
    for (const LayerTensor& one : layer.tensors) {
      ++tensors;
      auto fresh = out.emplace(std::pair(component.name, stored.tensors[one.tensor].name),
                               Place{&layer, &layer.parts[one.part]});
      EXPECT_TRUE(fresh.second) << stored.tensors[one.tensor].name << " lies in two layers";
    }
  }
  uint64_t expected = 0;
  for (const auto& component : checkpoint.components) expected += component.tensors.size();
  EXPECT_EQ(tensors, expected);
  return out;
}

std::string text_or(const Node& node) { return node.is_null() ? "" : node.text(); }

std::string shard_text(const Node& node) {
  return node.is_integer() ? std::to_string(node.integer()) : text_or(node);
}

void expect_row(const Node& row, const Places& places) {
  const auto& cell = row.items();
  const std::string component = cell[0].text(), name = cell[1].text();
  SCOPED_TRACE(component + ": " + name);
  auto found = places.find({component, name});
  ASSERT_NE(found, places.end());
  const Layer& layer = *found->second.layer;
  const Part& part = *found->second.part;
  EXPECT_EQ(part.role, text_or(cell[4]));
  const std::string group = text_or(cell[5]);
  if (group.empty()) {
    EXPECT_EQ(layer.parts.size(), 1u);
    EXPECT_EQ(part.shard, "");
    EXPECT_EQ(layer.path, part.path);
  } else {
    EXPECT_EQ(layer.path, group);
    EXPECT_EQ(part.shard, shard_text(cell[6]));
  }
  EXPECT_EQ(layer.fallback.quantize ? "quantize" : "keep", cell[7].text());
  EXPECT_EQ(layer.fallback.why, text_or(cell[8]));
  if (part.name + ".weight" == name && layer.kind != LayerKind::other) {
    EXPECT_EQ(part.out_count, static_cast<uint64_t>(cell[2].items()[0].integer()));
    EXPECT_EQ(layer.in, static_cast<uint64_t>(cell[2].items()[1].integer()));
  }
}

TEST(Families, EqualTheirExpectations) {
  const fs::path dir = loadstone::testing::shared_folder() / "models/families";
  if (!fs::exists(dir)) GTEST_SKIP() << "no " << dir << ": set LOADSTONE_SHARED";
  size_t rows = 0;
  for (const fs::path& folder : entries_of(dir)) {
    if (!fs::exists(folder / "expect.json")) continue;
    SCOPED_TRACE(folder.string());
    auto checkpoint = formats::open_checkpoint(system_files(), folder.string());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().text();
    auto graph = build_graph(*checkpoint, adapters());
    ASSERT_TRUE(graph.ok()) << graph.error().text();
    EXPECT_TRUE(graph->family_known);
    EXPECT_TRUE(graph->notes.empty()) << graph->notes.front();
    const Places places = places_of(*graph, *checkpoint);
    const Node expect = read_json(folder / "expect.json");
    std::set<std::string> components, known;
    for (const auto& component : graph->components) components.insert(component.name);
    for (const auto& [name, value] : expect.find("components")->entries()) known.insert(name);
    EXPECT_EQ(components, known);
    for (const Node& row : expect.find("weights_2d")->items()) {
      expect_row(row, places);
      ++rows;
    }
  }
  EXPECT_GT(rows, 0u);
}

// ---- original names -------------------------------------------------------------------------

std::string module_name(const std::string& tensor) {
  for (const std::string suffix : {".weight", ".bias"}) {
    if (tensor.size() > suffix.size() &&
        tensor.compare(tensor.size() - suffix.size(), suffix.size(), suffix) == 0) {
      return tensor.substr(0, tensor.size() - suffix.size());
    }
  }
  return tensor;
}

std::vector<std::string> canonical_modules(const Node& cell) {
  std::vector<std::string> out;
  if (cell.is_text()) return {module_name(cell.text())};
  for (const Node& item : cell.items()) out.push_back(module_name(item.text()));
  return out;
}

TEST(Aliases, OriginalNamesLeadToTheFamilys) {
  const fs::path dir = loadstone::testing::shared_folder() / "models/families";
  if (!fs::exists(dir)) GTEST_SKIP() << "no " << dir << ": set LOADSTONE_SHARED";
  size_t rows = 0;
  for (const fs::path& folder : entries_of(dir)) {
    if (!fs::exists(folder / "aliases.json")) continue;
    SCOPED_TRACE(folder.string());
    const Node aliases = read_json(folder / "aliases.json");
    formats::Checkpoint file;
    file.path = folder.string();
    file.layout = formats::Layout::single_file;
    file.files.push_back(formats::FileEntry{"original.safetensors", nullptr, {}});
    file.components.emplace_back();
    for (const Node& row : aliases.find("rows")->items()) {
      formats::TensorEntry tensor;
      tensor.name = row.items()[0].text();
      tensor.dtype = DType::BF16;
      const std::string module = module_name(tensor.name);
      tensor.shape.assign(1, 4);
      if (module + ".weight" == tensor.name) tensor.shape.push_back(4);
      file.components[0].tensors.push_back(tensor);
    }
    auto graph = build_graph(file, adapters());
    ASSERT_TRUE(graph.ok()) << graph.error().text();
    ASSERT_TRUE(graph->family_known);
    const Places places = places_of(*graph, file);
    for (const Node& row : aliases.find("rows")->items()) {
      const auto& cell = row.items();
      SCOPED_TRACE(cell[0].text());
      auto found = places.find({graph->components[0].name, cell[0].text()});
      ASSERT_NE(found, places.end());
      const Layer& layer = *found->second.layer;
      const Part& part = *found->second.part;
      const std::vector<std::string> canonical = canonical_modules(cell[1]);
      EXPECT_EQ(layer.holds.empty() ? std::vector<std::string>{part.path} : layer.holds, canonical);
      EXPECT_EQ(part.transform, cell[2].text() == "swap_halves" ? "swap_halves" : "");
      ++rows;
    }
  }
  EXPECT_GT(rows, 0u);
}

std::string less_prefix(std::string name, const std::vector<std::string>& strip) {
  for (const std::string& prefix : strip) {
    if (name.starts_with(prefix)) return name.substr(prefix.size());
  }
  return name;
}

/// Every module of the family that a recorded row names, with the tensor it came from.
void expect_way_back(const Adapter& adapter, const AdapterComponent& component,
                     const Node& aliases) {
  const OriginalNames names(component);
  for (const Node& row : aliases.find("rows")->items()) {
    const auto& cell = row.items();
    const std::string original = less_prefix(module_name(cell[0].text()), adapter.strip);
    SCOPED_TRACE(original);
    const auto modules = canonical_modules(cell[1]);
    for (uint32_t i = 0; i < modules.size(); ++i) {
      const OriginalPlace place = names.place_of(modules[i]);
      EXPECT_EQ(place.name, original);
      EXPECT_EQ(place.index, i);
      EXPECT_EQ(place.count, modules.size());
      EXPECT_EQ(place.transform, cell[2].text() == "swap_halves" ? "swap_halves" : "");
    }
  }
}

TEST(Aliases, TheFamilysNamesLeadBackToTheOriginalOnes) {
  const fs::path dir = loadstone::testing::shared_folder() / "models/families";
  if (!fs::exists(dir)) GTEST_SKIP() << "no " << dir << ": set LOADSTONE_SHARED";
  const auto all = read_adapters(adapters());
  ASSERT_TRUE(all.ok()) << all.error().text();
  std::set<std::string> tried;
  for (const fs::path& folder : entries_of(dir)) {
    if (!fs::exists(folder / "aliases.json")) continue;
    SCOPED_TRACE(folder.string());
    for (const Adapter& adapter : all->families) {
      if (!folder.filename().string().starts_with(adapter.family)) continue;
      for (const AdapterComponent& component : adapter.components) {
        if (component.gguf_architecture.empty()) continue;
        expect_way_back(adapter, component, read_json(folder / "aliases.json"));
        tried.insert(adapter.family);
      }
    }
  }
  EXPECT_GE(tried.size(), 2u);
}

// ---- true-size headers ---------------------------------------------------------------------

std::string gunzip(const fs::path& path) {
  std::string out;
  FILE* pipe = popen(("gzip -dc '" + path.string() + "'").c_str(), "r");
  if (!pipe) return out;
  char buffer[65536];
  size_t got = 0;
  while ((got = fread(buffer, 1, sizeof buffer, pipe)) > 0) out.append(buffer, got);
  pclose(pipe);
  return out;
}

/// The tiny folder whose files a header's names follow: the longest common beginning.
fs::path folder_for(const std::string& header, const fs::path& families) {
  fs::path best;
  size_t longest = 0;
  for (const fs::path& folder : entries_of(families)) {
    const std::string name = folder.filename().string();
    if (header.compare(0, name.size(), name) == 0 && name.size() > longest) {
      longest = name.size();
      best = folder;
    }
  }
  return best;
}

/// The tiny folder's checkpoint with the header's tensors instead of its own.
formats::Checkpoint enlarge(formats::Checkpoint checkpoint, const Node& rows) {
  for (auto& component : checkpoint.components) component.tensors.clear();
  auto component_named = [&](const std::string& name) -> formats::Component& {
    for (auto& component : checkpoint.components) {
      if (component.name == name) return component;
    }
    for (auto& component : checkpoint.components) {
      if (component.name.empty()) return component;
    }
    return checkpoint.components.front();
  };
  for (const Node& row : rows.items()) {
    const auto& cell = row.items();
    formats::TensorEntry tensor;
    tensor.name = cell[1].text();
    tensor.dtype = *dtype_from_safetensors(cell[2].text());
    for (const Node& dim : cell[3].items()) {
      tensor.shape.push_back(static_cast<uint64_t>(dim.integer()));
    }
    for (uint32_t f = 0; f < checkpoint.files.size(); ++f) {
      const std::string stem = fs::path(checkpoint.files[f].path).stem().string();
      if (stem == cell[0].text()) tensor.file = f;
    }
    component_named(cell[0].text()).tensors.push_back(std::move(tensor));
  }
  return checkpoint;
}

struct Totals {
  uint64_t weights_2d = 0, quantize = 0, quantize_params = 0, fused_groups = 0;
  bool operator==(const Totals&) const = default;
};

std::map<std::string, Totals> totals_of(const Graph& graph, const formats::Checkpoint& checkpoint) {
  std::map<std::string, Totals> out;
  for (const Layer& layer : graph.layers) {
    const GraphComponent& component = graph.components[layer.component];
    Totals& totals = out[component.name];
    std::set<std::string> experts;
    for (const LayerTensor& one : layer.tensors) {
      const auto& tensor =
          checkpoint.components[component.checkpoint_component].tensors[one.tensor];
      if (tensor.shape.size() != 2) continue;
      ++totals.weights_2d;
      if (!layer.fallback.quantize) continue;
      ++totals.quantize;
      totals.quantize_params += tensor.shape[0] * tensor.shape[1];
    }
    if (layer.fallback.quantize && !layer.parts.front().shard.empty()) ++totals.fused_groups;
  }
  return out;
}

TEST(Headers, GiveTheTotalsInUnderASecond) {
  const fs::path models = loadstone::testing::shared_folder() / "models";
  if (!fs::exists(models / "headers/totals.json")) {
    GTEST_SKIP() << "no " << models / "headers"
                 << ": set LOADSTONE_SHARED";
  }
  const Node totals = read_json(models / "headers/totals.json");
  size_t headers = 0;
  for (const fs::path& path : entries_of(models / "headers")) {
    if (path.extension() != ".gz") continue;
    const std::string name = path.stem().stem().string();
    SCOPED_TRACE(name);
    const fs::path folder = folder_for(name, models / "families");
    ASSERT_FALSE(folder.empty());
    auto small = formats::open_checkpoint(system_files(), folder.string());
    ASSERT_TRUE(small.ok()) << small.error().text();
    auto rows = parse_json(gunzip(path), name);
    ASSERT_TRUE(rows.ok()) << rows.error().text();
    const formats::Checkpoint checkpoint = enlarge(std::move(*small), *rows);
    // Processor time: other work on the machine doesn't count.
    const std::clock_t begin = std::clock();
    auto graph = build_graph(checkpoint, adapters());
    const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    ASSERT_TRUE(graph.ok()) << graph.error().text();
    EXPECT_LT(seconds, kMaxSeconds);
    RecordProperty("seconds_" + name, std::to_string(seconds));
    EXPECT_TRUE(graph->family_known);
    places_of(*graph, checkpoint);
    for (const Layer& layer : graph->layers) EXPECT_NE(layer.fallback.why, "unknown") << layer.path;
    auto found = totals_of(*graph, checkpoint);
    for (const auto& [component, expected] : totals.find(name)->find("components")->entries()) {
      auto number = [&, &node = expected](const char* key) {
        return static_cast<uint64_t>(node.find(key)->integer());
      };
      SCOPED_TRACE(component);
      EXPECT_EQ(found[component].weights_2d, number("weights_2d"));
      EXPECT_EQ(found[component].quantize, number("quantize"));
      EXPECT_EQ(found[component].quantize_params, number("quantize_params"));
      EXPECT_EQ(found[component].fused_groups, number("fused_groups_quantized"));
    }
    ++headers;
  }
  EXPECT_GT(headers, 0u);
}

}  // namespace
}  // namespace loadstone::graph
