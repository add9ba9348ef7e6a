// Text-driven cases of whole plans: tests/cases/plan*.yaml, whose head says the format. A case is a
// model of small real files, a configuration, and what the plan says: tables, JSON, the story of
// one layer, reads and memory.
#include <gtest/gtest.h>

#include "base/testing/temp_folder.hpp"
#include "case_files.hpp"
#include "model_of_text.hpp"
#include "plan/plan.hpp"
#include "plan_views.hpp"

namespace loadstone::plan {
namespace {

namespace fs = std::filesystem;

plugin::Registry scan() {
  plugin::RegistryOptions options;
  options.dirs = {LOADSTONE_BINARY_DIR "/tests/load_plugins",
                  LOADSTONE_BINARY_DIR "/test_plugins/maker",
                  LOADSTONE_BINARY_DIR "/test_plugins/routes"};
  options.trust_writable = true;
  auto scanned = plugin::Registry::scan(options);
  if (!scanned.ok()) throw std::runtime_error(scanned.error().text());
  return std::move(*scanned);
}

LoadOptions options_of(const Node* given) {
  LoadOptions out;
  out.threads = 4;
  if (!given) return out;
  for (const auto& [key, value] : given->entries()) {
    const auto number = [&v = value] { return static_cast<uint64_t>(v.integer()); };
    if (key == "dtype") out.dtype = dtype_from_safetensors(value.text()).value();
    if (key == "ring") out.ring_nbytes = number();
    if (key == "piece") out.piece_nbytes = number();
    if (key == "threads") out.threads = static_cast<unsigned>(number());
    if (key == "map_files") out.map_files = value.boolean();
    if (key == "repack") out.repack = value.boolean();
    if (key == "apart") out.apart = value.boolean();
    if (key == "as_stored") out.as_stored = value.boolean();
    if (!value.is_map()) continue;
    for (const auto& [name, what] : value.entries()) {
      if (key == "place") out.place[name] = {what.text()};
      if (key == "device_sm") out.device_sm[name] = static_cast<uint32_t>(what.integer());
    }
  }
  return out;
}

Result<std::string> outcome(const fs::path& dir, const Node& file, const Node& one,
                            plugin::Registry& registry) {
  const Node& model = *file.find("models")->find(one.find("model")->text());
  LS_TRY(auto checkpoint, testing::write_model(dir, model, one.find("with")));
  LS_TRY(graph::Graph graph, testing::graph_of(*checkpoint, model));
  LS_TRY(config::Schemas schemas, registry.schemas());
  config::PipelineConfig asked;
  if (const Node* text = one.find("config")) {
    LS_TRY(Node root, config::parse_yaml(text->text(), "c.yaml"));
    LS_TRY(asked, config::build_pipeline_config(root, schemas));
  }
  const Node* on = one.find("target");
  LS_TRY(Target target, parse_target(on ? on->text() : "cpu"));
  LS_TRY(Plan plan, make_plan(checkpoint, std::move(graph), asked.quantization, registry, target,
                              options_of(one.find("options"))));
  LS_CHECK(plan_attention(asked.attention, plan));
  std::string out;
  for (const Node& what : one.find("show")->items()) out += testing::view(plan, what.text());
  return out;
}

TEST(Plans, Cases) {
  plugin::Registry registry = scan();
  size_t count = 0;
  for (const auto& path : testing::case_files("plan")) {
    const Node file = testing::read_cases(path);
    for (const Node& one : file.find("cases")->items()) {
      ++count;
      if (!testing::runs(one)) continue;
      const testing::TempFolder folder;
      const auto made = outcome(folder.path(), file, one, registry);
      std::string got = made.ok() ? *made : made.error().text() + "\n";
      const std::string& place = folder.path();
      for (size_t at = 0; (at = got.find(place, at)) != std::string::npos;) {
        got.replace(at, place.size(), "MODEL");
      }
      const Node* wanted = one.find("out");
      EXPECT_EQ(got, wanted ? wanted->text() : "") << one.mark().text() << " gives\n"
                                                   << Node::of_text(got).to_json();
    }
  }
  EXPECT_GE(count, 80u);
}

}  // namespace
}  // namespace loadstone::plan
