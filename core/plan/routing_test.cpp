// Text-driven cases of routing: tests/cases/routing*.yaml. A case is a model (tensor list and what
// it declares), a configuration as YAML text, and what comes out: a decision for every layer, or
// the exact error lines. The format stands at the head of routing.yaml.
#include "plan/routing.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>

#include "base/file.hpp"
#include "base/parallel.hpp"
#include "case_files.hpp"
#include "config/pattern.hpp"
#include "graph/adapter.hpp"

namespace loadstone::plan {
namespace {

namespace fs = std::filesystem;

plugin::Registry& registry() {
  static plugin::Registry made = [] {
    plugin::RegistryOptions options;
    options.dirs = {std::string(LOADSTONE_BINARY_DIR) + "/test_plugins/routes"};
    options.trust_writable = true;
    auto scanned = plugin::Registry::scan(options);
    if (!scanned.ok()) throw std::runtime_error(scanned.error().text());
    return std::move(*scanned);
  }();
  return made;
}

const graph::Adapters& adapters() {
  static const graph::Adapters made = [] {
    auto read = graph::read_adapters(LOADSTONE_SOURCE_DIR "/model_adapters");
    if (!read.ok()) throw std::runtime_error(read.error().text());
    return std::move(*read);
  }();
  return made;
}

/// "BF16 32x16" → dtype and shape; "F32" is a scalar.
formats::TensorEntry tensor_of(const std::string& name, const std::string& text) {
  formats::TensorEntry out;
  out.name = name;
  std::istringstream in(text);
  std::string dtype, dims;
  in >> dtype >> dims;
  auto known = dtype_from_safetensors(dtype);
  if (!known) throw std::runtime_error("bad dtype in case: " + text);
  out.dtype = *known;
  uint64_t numel = 1;
  for (std::istringstream each(dims); !dims.empty() && each;) {
    std::string dim;
    if (!std::getline(each, dim, 'x')) break;
    out.shape.push_back(std::stoull(dim));
    numel *= out.shape.back();
  }
  out.nbytes = numel * layout_of(out.dtype)->block_nbytes;
  return out;
}

formats::Component component_of(const std::string& name, const Node& node) {
  formats::Component out;
  out.name = out.folder = name == "root" ? "" : name;
  if (const Node* given = node.find("class")) out.class_name = given->text();
  if (const Node* config = node.find("config")) out.config = *config;
  if (const Node* tensors = node.find("tensors")) {
    for (const auto& [pattern, text] : tensors->entries()) {
      for (const graph::Expanded& one : graph::expand_braces(pattern)) {
        out.tensors.push_back(tensor_of(one.text, text.text()));
      }
    }
  }
  if (const Node* declares = node.find("declares")) {
    for (const auto& [origin, value] : declares->entries()) {
      const Node* scope = value.find("scope");
      out.declarations.push_back(
          formats::Declaration{origin, name + "/config.json", scope ? scope->text() : "", value});
    }
  }
  return out;
}

/// The model of a case, with its `with` laid over: components replace or join the model's, and a
/// component that only gives `declares` or `tensors` adds to it.
formats::Checkpoint checkpoint_of(const Node& models, const Node& one) {
  const Node* model = models.find(one.find("model")->text());
  if (!model) throw std::runtime_error("unknown model in case");
  formats::Checkpoint out;
  out.path = "model";
  out.files.push_back(formats::FileEntry{"model/model.safetensors", nullptr, {}});
  if (const Node* pipeline = model->find("pipeline")) {
    out.model_index = Node::of_map({{"_class_name", *pipeline}});
  }
  for (const auto& [name, node] : model->find("components")->entries()) {
    out.components.push_back(component_of(name, node));
  }
  const Node* with = one.find("with");
  if (!with) return out;
  for (const auto& [name, node] : with->entries()) {
    formats::Component extra = component_of(name, node);
    auto same = std::find_if(out.components.begin(), out.components.end(),
                             [&](const auto& c) { return c.name == extra.name; });
    if (same == out.components.end()) {
      out.components.push_back(std::move(extra));
      continue;
    }
    for (auto& tensor : extra.tensors) {
      auto old = std::find_if(same->tensors.begin(), same->tensors.end(),
                              [&](const auto& t) { return t.name == tensor.name; });
      if (old != same->tensors.end()) {
        *old = tensor;
      } else {
        same->tensors.push_back(tensor);
      }
    }
    for (auto& one_more : extra.declarations) same->declarations.push_back(one_more);
  }
  return out;
}

Result<config::QuantConfig> quantization_of(const Node& one) {
  const Node* text = one.find("config");
  if (!text) return config::QuantConfig();
  LS_TRY(Node root, config::parse_yaml(text->text(), "c.yaml"));
  LS_TRY(config::Schemas schemas, registry().schemas());
  LS_TRY(config::PipelineConfig made, config::build_pipeline_config(root, schemas));
  return made.quantization;
}

std::string say(const Routed& routed) {
  std::string out(to_string(routed.wish));
  if (routed.choice) out += " " + routed.choice->method;
  if (routed.choice) {
    if (const Node* bits = routed.choice->field("bits"); bits && bits->integer() != 8) {
      out += " bits=" + std::to_string(bits->integer());
    }
  }
  if (routed.on_unsupported == config::OnUnsupported::keep) out += " or-keep";
  if (!routed.parts.empty()) out += " apart";
  for (const Routed& part : routed.parts) out += " [" + say(part) + "]";
  return out;
}

/// One expectation: "keep", or a map of wish, rule, reason, overrode, ignored.
void expect_layer(const std::string& layer, const Routed& routed, const Node& expect) {
  SCOPED_TRACE(layer + ", expected at " + expect.mark().text());
  if (expect.is_text()) {
    EXPECT_EQ(say(routed), expect.text());
    return;
  }
  for (const auto& [key, value] : expect.entries()) {
    if (key == "wish") {
      EXPECT_EQ(say(routed), value.text());
    } else if (key == "rule") {
      EXPECT_EQ(routed.rule, value.text());
    } else if (key == "reason") {
      EXPECT_EQ(routed.reason, value.text());
    } else if (key == "ignored") {
      EXPECT_EQ(routed.ignored, value.text());
    } else if (key == "overrode") {
      std::vector<std::string> lines;
      for (const Node& item : value.items()) lines.push_back(item.text());
      EXPECT_EQ(routed.overrode, lines);
    } else {
      ADD_FAILURE() << "unknown expectation " << key;
    }
  }
}

void expect_layers(const graph::Graph& graph, const std::vector<Routed>& routed,
                   const Node& expect) {
  ASSERT_EQ(routed.size(), graph.layers.size());
  std::set<std::string> met;
  for (size_t i = 0; i < routed.size(); ++i) {
    const graph::Layer& layer = graph.layers[i];
    const std::string name = graph.components[layer.component].name + "." + layer.path;
    const Node* found = nullptr;
    for (const auto& [pattern, value] : expect.entries()) {
      if (!config::glob_matches(pattern, name)) continue;
      met.insert(pattern);
      if (!found) found = &value;
    }
    if (found) {
      expect_layer(name, routed[i], *found);
    } else {
      EXPECT_EQ(say(routed[i]), "keep") << name;
    }
  }
  for (const auto& [pattern, value] : expect.entries()) {
    EXPECT_TRUE(met.count(pattern)) << value.mark().text() << ": matches no layer";
  }
}

void expect_lines(const std::vector<std::string>& lines, const Node& expect) {
  std::vector<std::string> wanted;
  for (const Node& item : expect.items()) wanted.push_back(item.text());
  EXPECT_EQ(lines, wanted) << expect.mark().text();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

void run_case(const Node& models, const Node& one) {
  SCOPED_TRACE(one.find("name")->text() + " at " + one.mark().text());
  const formats::Checkpoint checkpoint = checkpoint_of(models, one);
  auto graph = graph::build_graph(checkpoint, adapters());
  ASSERT_TRUE(graph.ok()) << graph.error().text();
  std::vector<std::string> listing, notes;
  auto config = quantization_of(one);
  auto routed = config.ok() ? route(*graph, checkpoint, *config, registry(), &listing, &notes)
                            : Result<std::vector<Routed>>(config.error());
  if (const Node* error = one.find("error")) {
    ASSERT_FALSE(routed.ok()) << "expected an error";
    expect_lines(lines_of(routed.error().text()), *error);
    return;
  }
  ASSERT_TRUE(routed.ok()) << routed.error().text();
  static const Node kNothing = Node::of_map({});
  const Node* expect = one.find("expect");
  expect_layers(*graph, *routed, expect ? *expect : kNothing);
  if (const Node* wanted = one.find("notes")) {
    expect_lines(notes, *wanted);
  } else {
    EXPECT_EQ(notes, std::vector<std::string>());
  }
  if (const Node* wanted = one.find("listing")) expect_lines(listing, *wanted);
}

TEST(Routing, Cases) {
  size_t cases = 0;
  for (const fs::path& path : testing::case_files("routing")) {
    const Node file = testing::read_cases(path);
    for (const Node& one : file.find("cases")->items()) {
      ++cases;
      if (testing::runs(one)) run_case(*file.find("models"), one);
    }
  }
  EXPECT_GE(cases, 50u);
}

}  // namespace
}  // namespace loadstone::plan
