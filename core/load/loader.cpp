#include <loadstone/loadstone.hpp>

#include "base/file.hpp"
#include "base/text.hpp"
#include "load/pipeline.hpp"

namespace loadstone {

namespace {

constexpr uint64_t kMaxConfigNbytes = 1u << 20;

Error unknown(const char* what, std::string_view name, std::vector<std::string> known) {
  std::string hint = nearest(name, known);
  return Error{Code::not_found, std::string(what) + " does not exist", "",
               "found " + quoted(name) + ", expected " + join(known, " or ", 8),
               hint.empty() ? "" : quoted(hint)};
}

}  // namespace

Result<Loader> Loader::open(const Places& places) {
  plugin::RegistryOptions options;
  options.dirs = places.plugin_dirs;
  LS_TRY(plugin::Registry registry, plugin::Registry::scan(options));
  LS_TRY(config::Schemas schemas, registry.schemas());
  return Loader(places, std::move(registry), std::move(schemas));
}

Result<config::PipelineConfig> Loader::read_config(const std::string& path) const {
  LS_TRY(std::string text, read_text(system_files(), path, kMaxConfigNbytes));
  return parse_config(text, path);
}

Result<config::PipelineConfig> Loader::parse_config(std::string_view text,
                                                    const std::string& name) const {
  LS_TRY(Node root, config::parse_yaml(text, name));
  return config::build_pipeline_config(root, schemas_);
}

Result<config::PipelineConfig> Loader::make_config(const std::string& model,
                                                   std::string_view quantization) const {
  config::PipelineConfig out;
  out.model = model;
  if (quantization.empty()) return out;
  LS_TRY(Node value, config::parse_inline(quantization));
  LS_TRY(out.quantization, config::build_quant_config(value, Node{}, schemas_));
  return out;
}

Result<std::shared_ptr<const plan::Plan>> Loader::plan(const config::PipelineConfig& config) {
  if (config.model.empty()) {
    return Error{Code::invalid_config, "model missing", "", "found none, expected model:", ""};
  }
  auto target = load::find_target(config.load.device);
  if (!target) return std::move(target).error().at(config.load.device_mark.text());
  LS_TRY(plan::LoadOptions options, load::load_options(config.load));
  LS_TRY(auto checkpoint, load::open_model(system_files(), config));
  LS_TRY(graph::Graph graph, graph::build_graph(*checkpoint, places_.adapters_dir));
  LS_TRY(plan::Plan made, plan::make_plan(checkpoint, std::move(graph), config.quantization,
                                          registry_, *target, options));
  made.run = config.run;
  LS_CHECK(plan::plan_attention(config.attention, made));
  return std::make_shared<const plan::Plan>(std::move(made));
}

Result<std::shared_ptr<const load::LoadedModel>> Loader::load(
    std::shared_ptr<const plan::Plan> plan, const load::LoadControl& control) {
  LS_TRY(load::LoadedModel model, load::load(std::move(plan), control));
  return std::make_shared<const load::LoadedModel>(std::move(model));
}

Result<load::DequantizeReport> Loader::dequantize(const std::string& model,
                                                  const load::DequantizeOptions& options,
                                                  const load::LoadControl& control) {
  LS_TRY(formats::Checkpoint opened, formats::open_checkpoint(system_files(), model));
  auto checkpoint = std::make_shared<const formats::Checkpoint>(std::move(opened));
  LS_TRY(graph::Graph graph, graph::build_graph(*checkpoint, places_.adapters_dir));
  return load::dequantize(checkpoint, std::move(graph), registry_, options, control);
}

Result<load::QuantizeReport> Loader::quantize(const config::PipelineConfig& config,
                                              const load::QuantizeOptions& options,
                                              const load::LoadControl& control) {
  LS_TRY(auto checkpoint, load::open_model(system_files(), config));
  LS_TRY(graph::Graph graph, graph::build_graph(*checkpoint, places_.adapters_dir));
  return load::quantize(std::move(checkpoint), std::move(graph), config.quantization, registry_,
                        options, control);
}

Result<StoredView> find_stored(const load::LoadedModel& model, std::string_view component,
                               std::string_view path, std::string_view name) {
  const plan::Plan& plan = model.plan();
  std::vector<std::string> paths;
  for (uint32_t i = 0; i < plan.layers.size(); ++i) {
    const plan::LayerPlan& layer = plan.layers[i];
    const graph::Layer& shape = plan.layer_of(layer);
    if (plan.graph.components[shape.component].name != component) continue;
    paths.push_back(shape.path);
    if (shape.path != path) continue;
    int64_t stored = layer.find_stored(name);
    if (stored >= 0) {
      auto index = static_cast<uint32_t>(stored);
      return StoredView{&layer.stored[index], model.stored(i, index), i, index};
    }
    std::vector<std::string> names;
    for (const plan::Stored& one : layer.stored) names.push_back(one.name);
    return unknown("stored tensor", name, std::move(names));
  }
  if (!paths.empty()) return unknown("layer", path, std::move(paths));
  std::vector<std::string> components;
  for (const auto& one : plan.graph.components) components.push_back(one.name);
  return unknown("component", component, std::move(components));
}

}  // namespace loadstone
