// Text-driven cases of a configuration beside what a checkpoint declares, without a model:
// tests/cases/resolve*.yaml, whose head says the format.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/testing/temp_folder.hpp"
#include "case_files.hpp"
#include "plan/known_components.hpp"
#include "plan/routing_configure.hpp"
#include "plan/routing_declared.hpp"
#include "plan/routing_resolve.hpp"

namespace loadstone::plan {
namespace {

/// The test plugins, and a folder with the file's own list of refused formats.
plugin::Registry scan(const Node& refused) {
  const testing::TempFolder folder;
  folder.write("refused_formats.yaml", refused.to_json());
  plugin::RegistryOptions options;
  options.dirs = {LOADSTONE_BINARY_DIR "/tests/load_plugins",
                  LOADSTONE_BINARY_DIR "/test_plugins/maker",
                  LOADSTONE_BINARY_DIR "/test_plugins/routes", folder.path()};
  options.trust_writable = true;
  auto scanned = plugin::Registry::scan(options);
  if (!scanned.ok()) throw std::runtime_error(scanned.error().text());
  return std::move(*scanned);
}

std::string text_or(const Node& map, std::string_view key, const std::string& otherwise) {
  const Node* value = map.find(key);
  return value ? value->raw() : otherwise;
}

std::vector<formats::Declaration> declarations_of(const Node& one) {
  std::vector<formats::Declaration> out;
  const Node* list = one.find("declares");
  if (!list) return out;
  for (const Node& value : list->items()) {
    const std::string origin = text_or(value, "origin", "quantization_config");
    out.push_back({origin, "config.json", text_or(value, "scope", ""), value});
  }
  return out;
}

LayerQuestion question_of(const Node& one) {
  LayerQuestion out;
  out.path = one.find("layer")->raw();
  for (const auto kind : {graph::LayerKind::grouped_linear, graph::LayerKind::gather,
                          graph::LayerKind::attention, graph::LayerKind::other}) {
    if (text_or(one, "kind", "") == graph::to_string(kind)) out.kind = kind;
  }
  if (const Node* parts = one.find("parts")) {
    for (const Node& part : parts->items()) out.parts.push_back(part.raw());
  }
  return out;
}

const KnownComponents& known() {
  static const KnownComponents kKnown = [] {
    auto read = KnownComponents::read(LOADSTONE_SOURCE_DIR "/model_adapters");
    if (!read.ok()) throw std::runtime_error(read.error().text());
    return std::move(*read);
  }();
  return kKnown;
}

/// What the file's own families come to: each name's reach, and whether its layers' paths keep it.
Result<std::string> known_of(const Node& families, const Node& one) {
  const testing::TempFolder folder;
  std::filesystem::copy(LOADSTONE_SOURCE_DIR "/model_adapters/common", folder.path("common"));
  for (const auto& [name, adapter] : families.entries()) {
    folder.write(name + "/adapter.yaml", adapter.to_json());
  }
  const auto read = KnownComponents::read(folder.path());
  if (!read.ok()) return read.error();
  std::string out = "usual " + read->usual();
  for (const Node& name : one.find("names")->items()) {
    const KnownComponent* found = read->find(name.text());
    out += "; " + name.text() + " ";
    out += found ? std::string(graph::to_string(found->reach)) : "unknown";
  }
  return out + "; named " + read->named_by(one.find("layer")->raw());
}

/// What is said of declarations that don't count.
Result<std::string> notes_of(const std::vector<formats::Declaration>& declarations,
                             plugin::Registry& registry) {
  graph::GraphComponent component;
  component.name = "transformer";
  std::vector<std::string> notes;
  LS_TRY(const auto declared, declared_by(component, declarations, registry, notes));
  std::string out = declared ? declared->method() : "nothing";
  for (const std::string& note : notes) out += "; " + note;
  return out;
}

Result<std::string> outcome(const Node& file, const Node& one, plugin::Registry& registry) {
  const std::string& what = one.find("do")->text();
  if (what == "known") return known_of(*file.find("families"), one);
  LS_TRY(config::Schemas schemas, registry.schemas());
  LS_TRY(Node root, config::parse_yaml(text_or(one, "config", ""), "c.yaml"));
  config::QuantConfig user;
  if (root.is_map() && (root.find("quantization") || root.find("rules"))) {
    LS_TRY(config::PipelineConfig made, config::build_pipeline_config(root, schemas));
    user = made.quantization;
  } else {
    LS_TRY(user, config::build_quant_config(root, Node(), schemas));
  }
  const auto declarations = declarations_of(one);
  if (what == "notes") return notes_of(declarations, registry);
  if (what == "reader") return reader_of(declarations.front(), registry);
  if (what == "configure") {
    LS_CHECK(configure_all(user, registry));
    return std::string("configured");
  }
  if (what == "layer") {
    LS_TRY(LayerAnswer answer,
           resolve_layer(user, question_of(one), declarations, known(), registry));
    return answer.to_node().to_json();
  }
  const std::string component = text_or(one, "component", "transformer");
  LS_TRY(user, resolve_declared(user, component, declarations, known(), registry));
  return user.to_node().to_json();
}

TEST(Resolved, Cases) {
  size_t count = 0;
  for (const auto& path : testing::case_files("resolve")) {
    const Node file = testing::read_cases(path);
    plugin::Registry registry = scan(*file.find("refused"));
    for (const Node& one : file.find("cases")->items()) {
      ++count;
      if (!testing::runs(one)) continue;
      const auto made = outcome(file, one, registry);
      const std::string got = made.ok() ? *made : made.error().text();
      EXPECT_EQ(got, one.find("out")->text()) << one.mark().text() << " gives\n"
                                              << Node::of_text(got).to_json();
    }
  }
  EXPECT_GE(count, 80u);
}

}  // namespace
}  // namespace loadstone::plan
