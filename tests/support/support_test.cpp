// Each cell of families and methods (tests/cases/support.yaml), at true size over every tensor list
// under LOADSTONE_SHARED/models/headers: what is quantized, what is kept, what is refused, and what
// says that it isn't validated.
#include <gmock/gmock.h>

#include <fstream>
#include <map>

#include "../configs/true_size.hpp"
#include "base/file.hpp"
#include "plan/plan.hpp"
#include "serialized.hpp"

namespace loadstone {
namespace {

namespace fs = std::filesystem;
using testing::at_true_size;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::shared_folder;
using testing::sorted;

const std::string kSource = LOADSTONE_SOURCE_DIR;

/// (checkpoint component, module) of plain weights.
using Modules = std::set<std::pair<uint32_t, std::string>>;

Node read_yaml(const fs::path& path) {
  auto text = read_text(system_files(), path.string(), 1u << 20);
  if (!text.ok()) throw std::runtime_error(text.error().text());
  auto node = config::parse_yaml(*text, path.filename().string());
  if (!node.ok()) throw std::runtime_error(node.error().text());
  return *node;
}

plugin::Registry& registry() {
  static plugin::Registry made = [] {
    plugin::RegistryOptions options;
    options.dirs = {std::string(LOADSTONE_BINARY_DIR) + "/plugins"};
    options.trust_writable = true;
    auto scanned = plugin::Registry::scan(options);
    if (!scanned.ok()) throw std::runtime_error(scanned.error().text());
    return std::move(*scanned);
  }();
  return made;
}

graph::Graph graph_of(const formats::Checkpoint& checkpoint) {
  auto made = graph::build_graph(checkpoint, kSource + "/model_adapters");
  if (!made.ok()) throw std::runtime_error(made.error().text());
  return std::move(*made);
}

Result<config::PipelineConfig> config_of(const std::string& sections) {
  LS_TRY(config::Schemas schemas, registry().schemas());
  LS_TRY(Node root, config::parse_yaml("version: 1\n" + sections, "c.yaml"));
  return config::build_pipeline_config(root, schemas);
}

/// `quantization` as YAML; "" asks for nothing.
Result<plan::Plan> plan_of(formats::Checkpoint checkpoint, const std::string& quantization,
                           const plan::Target& target = {}) {
  LS_TRY(config::PipelineConfig config,
         config_of(quantization.empty() ? "" : "quantization: " + quantization + "\n"));
  auto shared = std::make_shared<const formats::Checkpoint>(std::move(checkpoint));
  graph::Graph graph = graph_of(*shared);
  return plan::make_plan(shared, std::move(graph), config.quantization, registry(), target,
                         plan::LoadOptions{});
}

/// A dual-scale method leaves the first blocks alone unless told otherwise.
std::string method_of(const std::string& method) {
  return method == "mxfp4_dualscale" ? "{method: mxfp4_dualscale, num_bf16_fallback_layers: 0}"
                                     : "{method: " + method + "}";
}

bool is_declared(const std::string& method) {
  return method == "modelopt" || method == "autoround" || method == "msmodelslim";
}

std::vector<std::string> names(const Node& list) {
  std::vector<std::string> out;
  for (const Node& one : list.items()) out.push_back(one.text());
  return out;
}

void add_modules(const graph::Graph& graph, const graph::Layer& layer, Modules& out) {
  const uint32_t component = graph.components[layer.component].checkpoint_component;
  for (const graph::Part& part : layer.parts) out.emplace(component, part.name);
}

/// One family of the case file over one tensor list.
class Cell {
 public:
  Cell(const Node& family, const fs::path& header)
      : family_(family),
        checkpoint_(at_true_size(header)),
        graph_(graph_of(checkpoint_)),
        totals_(header.stem().stem().string()),
        covered_(names(*family.find("default"))) {}

  void run(const std::string& method, const std::string& level, const std::string& behaviour) {
    const Node* known = graph_.support.find(method);
    EXPECT_EQ(known == nullptr ? "-" : known->text(), level) << "support level";
    if (behaviour == "online") return online(method, level);
    if (behaviour == "declared") return declared(method, level);
    const bool adapter =
        std::any_of(graph_.components.begin(), graph_.components.end(),
                    [](const auto& component) { return !component.gguf_architecture.empty(); });
    EXPECT_EQ(adapter, behaviour == "adapter");
  }

 private:
  /// Modules that a method covers in the covered components: the family's default, or what a map
  /// that names the component adds to it.
  Modules wanted() const {
    Modules defaults, named;
    for (const graph::Layer& layer : graph_.layers) {
      const auto& name = graph_.components[layer.component].name;
      if (std::find(covered_.begin(), covered_.end(), name) == covered_.end()) continue;
      if (layer.fallback.quantize) add_modules(graph_, layer, defaults);
      if (layer.fallback.named && layer.scope < 0) add_modules(graph_, layer, named);
    }
    return defaults.empty() ? named : defaults;
  }

  Modules quantized(const plan::Plan& plan) const {
    Modules out;
    for (const plan::LayerPlan& layer : plan.layers) {
      if (layer.decision != plan::Decision::quantize) continue;
      add_modules(plan.graph, plan.layer_of(layer), out);
    }
    return out;
  }

  std::string by_name(const std::string& method) const {
    std::string out;
    for (const std::string& component : covered_) {
      out += (out.empty() ? "{" : ", ") + component + ": " + method_of(method);
    }
    return out + "}";
  }

  void expect_plan(const Result<plan::Plan>& plan, const std::string& method,
                   const std::string& level) const {
    ASSERT_TRUE(plan.ok()) << plan.error().text();
    EXPECT_EQ(quantized(*plan), wanted());
    EXPECT_EQ(quantized(*plan).size(), totals_count());
    expect_kept(*plan);
    std::vector<std::string> remarks;
    for (const std::string& note : plan->notes) {
      const bool said = note.find("validated") != std::string::npos;
      if (said || note.find("unsupported") != std::string::npos) remarks.push_back(note);
    }
    if (level == "validated" || level == "ci" || level == "checkpoint") {
      EXPECT_THAT(remarks, IsEmpty());
    } else {
      const std::string tail = level == "-" ? "" : ": support level \"" + level + "\"";
      const std::string word = level == "no" ? " is unsupported for " : " is not validated for ";
      EXPECT_THAT(remarks, ElementsAre(method + word + graph_.variant + tail));
    }
  }

  void expect_kept(const plan::Plan& plan) const {
    for (const std::string& name : names(*family_.find("kept"))) {
      uint64_t layers = 0;
      for (const plan::LayerPlan& layer : plan.layers) {
        if (plan.graph.components[plan.layer_of(layer).component].name != name) continue;
        ++layers;
        EXPECT_EQ(layer.decision, plan::Decision::keep) << plan.layer_of(layer).path;
        EXPECT_FALSE(layer.reason.empty()) << plan.layer_of(layer).path;
      }
      EXPECT_GT(layers, 0u) << name;
    }
  }

  /// Modules that models/headers/totals.json says are quantized by default.
  uint64_t totals_count() const {
    auto text = read_text(system_files(), (shared_folder() / "models/headers/totals.json").string(),
                          1u << 20);
    auto totals = parse_json(*text, "totals.json");
    uint64_t out = 0;
    for (const auto& [name, component] : totals->find(totals_)->find("components")->entries()) {
      out += static_cast<uint64_t>(component.find("quantize")->integer());
    }
    return out != 0 ? out : wanted().size();
  }

  void online(const std::string& method, const std::string& level) const {
    const auto flat = plan_of(checkpoint_, method_of(method));
    if (family_.find("flat")->text() == "applies") return expect_plan(flat, method, level);
    ASSERT_FALSE(flat.ok());
    EXPECT_THAT(flat.error().text(), HasSubstr(family_.find("error")->text()));
    expect_plan(plan_of(checkpoint_, by_name(method)), method, level);
  }

  void declared(const std::string& method, const std::string& level) const {
    const auto plain = plan_of(checkpoint_, by_name(method));
    EXPECT_FALSE(plain.ok()) << "plain weights were accepted";
    formats::Checkpoint checkpoint = checkpoint_;
    testing::serialize(checkpoint, wanted(), method);
    expect_plan(plan_of(checkpoint, ""), method, level);
  }

  const Node& family_;
  formats::Checkpoint checkpoint_;
  graph::Graph graph_;
  std::string totals_;
  std::vector<std::string> covered_;
};

TEST(Support, EachCellAppliesIsKeptOrIsRefusedAsItSays) {
  const fs::path headers = shared_folder() / "models/headers";
  if (!fs::exists(headers)) GTEST_SKIP() << "no " << headers << ": set LOADSTONE_SHARED";
  const Node cases = read_yaml(kSource + "/tests/cases/support.yaml");
  size_t cells = 0, used = 0;
  const auto all = sorted(headers, ".gz");
  for (const auto& [family, node] : cases.find("families")->entries()) {
    SCOPED_TRACE(family);
    size_t lists = 0;
    for (const fs::path& header : all) {
      const std::string name = header.filename().string();
      const auto prefixes = names(*node.find("headers"));
      if (std::none_of(prefixes.begin(), prefixes.end(),
                       [&](const std::string& prefix) { return name.starts_with(prefix); })) {
        continue;
      }
      SCOPED_TRACE(name);
      Cell cell(node, header);
      for (const auto& [method, says] : node.find("cells")->entries()) {
        SCOPED_TRACE(method);
        cell.run(method, says.items()[0].text(), says.items()[1].text());
        ++cells;
      }
      ++lists;
    }
    EXPECT_GT(lists, 0u);
    used += lists;
  }
  EXPECT_EQ(used, all.size()) << "tensor lists that no family of the case file names";
  std::cout << cells << " cells\n";
}

/// A tensor list of the family that every method knows.
std::optional<fs::path> qwen_image() {
  const fs::path path = shared_folder() / "models/headers/qwen_image.json.gz";
  return fs::exists(path) ? std::optional(path) : std::nullopt;
}

TEST(Support, EachTargetPlansItsMethodsOrIsRefused) {
  const auto header = qwen_image();
  if (!header) GTEST_SKIP() << "no qwen_image under LOADSTONE_SHARED/models/headers";
  const formats::Checkpoint plain = at_true_size(*header);
  const graph::Graph graph = graph_of(plain);
  Modules wanted;
  for (const graph::Layer& layer : graph.layers) {
    if (layer.fallback.quantize) add_modules(graph, layer, wanted);
  }
  const Node cases = read_yaml(kSource + "/tests/cases/support.yaml");
  for (const auto& [name, says] : cases.find("hardware")->entries()) {
    SCOPED_TRACE(name);
    const auto target = plan::parse_target(name);
    if (says.is_text()) {
      ASSERT_FALSE(target.ok());
      EXPECT_THAT(target.error().text(), HasSubstr(says.text()));
      continue;
    }
    ASSERT_TRUE(target.ok()) << target.error().text();
    for (const std::string& method : names(says)) {
      SCOPED_TRACE(method);
      formats::Checkpoint checkpoint = plain;
      if (is_declared(method)) testing::serialize(checkpoint, wanted, method);
      const auto plan = plan_of(checkpoint, is_declared(method) ? "" : method_of(method), *target);
      if (!plan.ok() && target->kind == LS_TARGET_CUDA) {
        EXPECT_THAT(plan.error().text(), HasSubstr("no CUDA kernel"));
        continue;
      }
      ASSERT_TRUE(plan.ok()) << plan.error().text().substr(0, 1000);
      uint64_t quantized = 0;
      for (const plan::LayerPlan& layer : plan->layers) {
        if (layer.decision != plan::Decision::quantize) continue;
        ++quantized;
        EXPECT_FALSE(layer.kernel.empty()) << plan->layer_of(layer).path;
      }
      EXPECT_GT(quantized, 0u);
    }
  }
}

TEST(Support, QuantizedAttention) {
  const Node cases = read_yaml(kSource + "/tests/cases/support.yaml");
  const Node& says = *cases.find("attention");
  for (const std::string& dtype : names(*says.find("refused"))) {
    const auto config = config_of("attention: {kv_cache_dtype: " + dtype + "}\n");
    ASSERT_FALSE(config.ok()) << dtype;
    EXPECT_THAT(config.error().text(), HasSubstr(says.find("error")->text()));
    EXPECT_THAT(config.error().text(), HasSubstr(dtype));
  }
  for (const std::string& dtype : names(*says.find("native"))) {
    const auto config = config_of("attention: {kv_cache_dtype: " + dtype + "}\n");
    EXPECT_TRUE(config.ok()) << config.error().text();
  }
  const auto header = qwen_image();
  if (!header) GTEST_SKIP() << "no qwen_image under LOADSTONE_SHARED/models/headers";
  const auto asked = config_of("attention: {kv_cache_dtype: fp8}\n");
  ASSERT_TRUE(asked.ok()) << asked.error().text();
  for (const auto& [name, text] : says.find("targets")->entries()) {
    auto plan = plan_of(at_true_size(*header), "", *plan::parse_target(name));
    ASSERT_TRUE(plan.ok()) << plan.error().text();
    const Status planned = plan::plan_attention(asked->attention, *plan);
    const std::string& either = text.text();
    const size_t bar = either.find(" | ");
    const std::string wanted =
        bar == std::string::npos ? either
                                 : (planned.ok() ? either.substr(bar + 3) : either.substr(0, bar));
    EXPECT_THAT(planned.ok() ? plan->attention->text() : planned.error().text(), HasSubstr(wanted));
    if (!planned.ok()) continue;
    EXPECT_EQ(plan->attention->sites.size(), 60u);
  }
}

}  // namespace
}  // namespace loadstone
