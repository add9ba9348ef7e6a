// The README's table of targets: the kernel that most layers of a Qwen-Image of true size get
// there.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "../configs/true_size.hpp"
#include "../support/serialized.hpp"
#include "base/file.hpp"
#include "graph/graph.hpp"
#include "plan/plan.hpp"
#include "section.hpp"

namespace loadstone::testing {
namespace {

const std::string kSource = LOADSTONE_SOURCE_DIR;

const char* const kTargets[] = {"cpu",        "cuda:sm80", "cuda:sm89", "cuda:sm90",
                                "cuda:sm100", "rocm",      "xpu",       "ascend"};

using Modules = std::set<std::pair<uint32_t, std::string>>;

bool is_declared(const std::string& method) {
  return method == "modelopt" || method == "autoround" || method == "msmodelslim";
}

/// Q8_0 blocks, as a GGUF file of the model has them.
void store_as_gguf(const Modules& modules, formats::Checkpoint& checkpoint) {
  constexpr auto kQ8 = static_cast<DType>(kGgmlBase + 8);
  for (uint32_t i = 0; i < checkpoint.components.size(); ++i) {
    bool any = false;
    for (formats::TensorEntry& tensor : checkpoint.components[i].tensors) {
      if (!tensor.name.ends_with(".weight")) continue;
      if (!modules.contains({i, tensor.name.substr(0, tensor.name.size() - 7)})) continue;
      tensor.dtype = kQ8;
      tensor.nbytes = tensor.shape[0] * tensor.shape[1] / 32 * 34;
      any = true;
    }
    if (any) {
      checkpoint.components[i].declarations.push_back(
          {"gguf", "model.gguf", "",
           Node::of_map({{"general.architecture", Node::of_text("qwen_image")}})});
    }
  }
}

class Hardware {
 public:
  explicit Hardware(const fs::path& header) : plain_(at_true_size(header)) {
    plugin::RegistryOptions options;
    options.dirs = {std::string(LOADSTONE_BINARY_DIR) + "/plugins"};
    options.trust_writable = true;
    auto scanned = plugin::Registry::scan(options);
    if (!scanned.ok()) throw std::runtime_error(scanned.error().text());
    registry_.emplace(std::move(*scanned));
    const graph::Graph graph = graph_of(plain_);
    for (const graph::Layer& layer : graph.layers) {
      if (!layer.fallback.quantize) continue;
      const uint32_t component = graph.components[layer.component].checkpoint_component;
      for (const graph::Part& part : layer.parts) modules_.emplace(component, part.name);
    }
  }

  /// What most layers run on ("native"), or why the target doesn't take the method.
  std::string cell(const std::string& method, const std::string& name) {
    const auto target = plan::parse_target(name);
    if (!target.ok()) return "refused";
    formats::Checkpoint checkpoint = plain_;
    if (is_declared(method)) serialize(checkpoint, modules_, method);
    if (method == "gguf") store_as_gguf(modules_, checkpoint);
    config::QuantConfig quantization;
    if (!is_declared(method) && method != "gguf") {
      auto made = configured(method);
      if (!made.ok()) return made.error().text();
      quantization = std::move(*made);
    }
    auto shared = std::make_shared<const formats::Checkpoint>(std::move(checkpoint));
    auto plan = plan::make_plan(shared, graph_of(*shared), quantization, *registry_, *target,
                                plan::LoadOptions{});
    if (!plan.ok()) {
      const std::string text = plan.error().text();
      return text.find("no CUDA kernel") != std::string::npos ? "no kernel" : text;
    }
    std::map<std::string, uint64_t> kernels;
    for (const plan::LayerPlan& layer : plan->layers) {
      if (layer.decision == plan::Decision::quantize) ++kernels[layer.kernel];
    }
    const auto most =
        std::max_element(kernels.begin(), kernels.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    if (most == kernels.end()) return "nothing quantized";
    return unit_of(most->first, target->kind == LS_TARGET_CUDA);
  }

 private:
  static std::string unit_of(const std::string& kernel, bool cuda) {
    const auto has = [&](const char* part) { return kernel.find(part) != std::string::npos; };
    if (!cuda) return "yes";
    for (const char* packed : {"gguf_", "gptq_", "awq_"}) {  // activations are never quantized
      if (kernel.starts_with(packed)) return "weight-only";
    }
    if (has("weight_only") || has("w4a16")) return "weight-only";
    if (has("_simt")) return "plain units";
    if (has("_bf16")) return "conversion";
    return "native";
  }

  Result<config::QuantConfig> configured(const std::string& method) {
    LS_TRY(const config::Schemas schemas, registry_->schemas());
    std::vector<Node::Entry> fields = {{"method", Node::of_text(method)}};
    if (method == "mxfp4_dualscale") {  // else the blocks of a small file are all leading ones
      fields.emplace_back("num_bf16_fallback_layers", Node::of_integer(0));
    }
    return config::build_quant_config(Node::of_map(std::move(fields)), Node(), schemas);
  }

  static graph::Graph graph_of(const formats::Checkpoint& checkpoint) {
    auto made = graph::build_graph(checkpoint, kSource + "/model_adapters");
    if (!made.ok()) throw std::runtime_error(made.error().text());
    return std::move(*made);
  }

  formats::Checkpoint plain_;
  Modules modules_;
  std::optional<plugin::Registry> registry_;
};

TEST(Readme, TargetsAreWhatPlansSay) {
#ifndef LOADSTONE_WITH_CUDA
  GTEST_SKIP() << "a build without CUDA kernels";
#endif
  const fs::path header = shared_folder() / "models/headers/qwen_image.json.gz";
  if (!fs::exists(header)) GTEST_SKIP() << "no " << header << ": set LOADSTONE_SHARED";
  Hardware hardware(header);
  std::vector<std::vector<std::string>> rows = {{"method"}};
  for (const char* target : kTargets) rows[0].push_back(target);
  for (const char* method : {"fp8", "int8", "mxfp8", "mxfp4", "mxfp4_dualscale", "gguf",
                             "autoround", "modelopt", "msmodelslim"}) {
    std::vector<std::string> row = {std::string("`") + method + "`"};
    for (const char* target : kTargets) row.push_back(hardware.cell(method, target));
    rows.push_back(std::move(row));
  }
  expect_section("targets", markdown(rows));
}

}  // namespace
}  // namespace loadstone::testing
