// The README's tables of support levels (from the adapters) and of formats (from the plugins).
#include <gtest/gtest.h>

#include <algorithm>

#include "base/text.hpp"
#include "graph/adapter.hpp"
#include "plugin/format_table.hpp"
#include "section.hpp"

namespace loadstone::testing {
namespace {

const std::string kSource = LOADSTONE_SOURCE_DIR;
const std::vector<std::string> kMethods = {
    "fp8",  "int8",      "mxfp8",    "mxfp4",      "mxfp4_dualscale",
    "gguf", "autoround", "modelopt", "msmodelslim"};

std::vector<std::string> support_row(const std::string& name, const Node& support) {
  std::vector<std::string> row = {"`" + name + "`"};
  for (const std::string& method : kMethods) {
    const Node* level = support.find(method);
    row.push_back(level ? level->text() : "–");
  }
  for (const auto& [method, level] : support.entries()) {
    EXPECT_NE(std::find(kMethods.begin(), kMethods.end(), method), kMethods.end())
        << name << " gives a level to " << method << ", which the table has no column for";
  }
  return row;
}

TEST(Readme, SupportLevelsAreTheAdapters) {
  auto adapters = graph::read_adapters(kSource + "/model_adapters");
  ASSERT_TRUE(adapters.ok()) << adapters.error().text();
  std::vector<std::vector<std::string>> rows = {{"family"}};
  rows[0].insert(rows[0].end(), kMethods.begin(), kMethods.end());
  for (const graph::Adapter& family : adapters->families) {
    if (family.family == "generic") continue;
    rows.push_back(support_row(family.family, family.support));
    for (const graph::Variant& variant : family.variants) {
      if (variant.support.is_null() || variant.support.entries().empty()) continue;
      rows.push_back(support_row(variant.name, variant.support));
    }
  }
  expect_section("support levels", markdown(rows));
}

plugin::Registry registry() {
  plugin::RegistryOptions options;
  options.dirs = {std::string(LOADSTONE_BINARY_DIR) + "/plugins"};
  options.trust_writable = true;
  auto scanned = plugin::Registry::scan(options);
  if (!scanned.ok()) ADD_FAILURE() << scanned.error().text();
  return std::move(*scanned);
}

TEST(Readme, FormatsAreThePluginsAndTheRefused) {
  plugin::Registry plugins = registry();
  const auto table = plugin::format_table(plugins);
  ASSERT_TRUE(table.ok()) << table.error().text();
  std::vector<std::vector<std::string>> read = {{"declared", "in", "read by"}};
  std::vector<std::vector<std::string>> refused = {{"declared", "refused, since"}};
  for (const plugin::DeclaredFormat& line : *table) {
    const std::string name = line.name().empty() ? "–" : "`" + line.name() + "`";
    if (!line.refusal.empty()) {
      refused.push_back({name, line.refusal});
      continue;
    }
    std::vector<std::string> origins;
    for (const std::string& origin : line.origins) origins.push_back("`" + origin + "`");
    read.push_back({name, join(origins, ", ", 8), "`" + line.method + "`"});
  }
  expect_section("formats", markdown(read) + "\n" + markdown(refused));
}

}  // namespace
}  // namespace loadstone::testing
