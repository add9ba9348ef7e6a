// Embedding loadstone without LibTorch: configuration, plan, load, dequantize, DLPack views.
//
//   LS_TRY(loadstone::Loader loader, loadstone::Loader::open({{plugin_dir}, adapter_dir}));
//   LS_TRY(auto config, loader.read_config("pipeline.yaml"));
//   LS_TRY(auto plan, loader.plan(config));            // what will happen, plan->to_node()
//   LS_TRY(auto model, loader.load(plan));             // exactly that
//   LS_TRY(auto* view, loadstone::dlpack::view_of(model, layer, 0));
//
// CMake: find_package(loadstone COMPONENTS core), target loadstone::core; it sets
// LOADSTONE_PLUGIN_DIR and LOADSTONE_ADAPTER_DIR. Nothing throws; every failure is an Error whose
// text() says what, where, found, expected.
#pragma once

#include <loadstone/dlpack.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "config/quant_config.hpp"
#include "formats/checkpoint.hpp"
#include "graph/graph.hpp"
#include "load/dequantize.hpp"
#include "load/loaded_model.hpp"
#include "load/quantize.hpp"
#include "plan/explain.hpp"
#include "plan/plan.hpp"
#include "plugin/registry.hpp"

namespace loadstone {

/// Where plugins and model adapters lie; absolute paths. A plugin that others could write is
/// refused.
struct Places {
  std::vector<std::string> plugin_dirs;
  std::string adapters_dir;
};

/// Opens, plans and loads models with one set of plugins. One thread at a time; plans and models
/// are immutable and shareable.
class Loader {
 public:
  static Result<Loader> open(const Places& places);

  /// A whole YAML file, or its text (`name` is how errors call it).
  Result<config::PipelineConfig> read_config(const std::string& path) const;
  Result<config::PipelineConfig> parse_config(std::string_view text, const std::string& name) const;
  /// A configuration for a model and one value as --quantization takes it ("fp8", JSON, "": none).
  Result<config::PipelineConfig> make_config(const std::string& model,
                                             std::string_view quantization = "") const;

  /// Reads headers and asks the methods. Errors: whatever is wrong with the model or the wish, all
  /// problems at once.
  Result<std::shared_ptr<const plan::Plan>> plan(const config::PipelineConfig& config);
  /// Follows the plan.
  Result<std::shared_ptr<const load::LoadedModel>> load(std::shared_ptr<const plan::Plan> plan,
                                                        const load::LoadControl& control = {});
  /// Float32 files of a checkpoint (design/COMMANDS: dequantize).
  Result<load::DequantizeReport> dequantize(const std::string& model,
                                            const load::DequantizeOptions& options,
                                            const load::LoadControl& control = {});
  /// The model written quantized, as a checkpoint that loads without requantizing (load::quantize).
  Result<load::QuantizeReport> quantize(const config::PipelineConfig& config,
                                        const load::QuantizeOptions& options,
                                        const load::LoadControl& control = {});

  /// For `plugins list` and the like.
  plugin::Registry& registry() { return registry_; }
  const config::Schemas& schemas() const { return schemas_; }

 private:
  Loader(Places places, plugin::Registry registry, config::Schemas schemas)
      : places_(std::move(places)), registry_(std::move(registry)), schemas_(std::move(schemas)) {}

  Places places_;
  plugin::Registry registry_;
  config::Schemas schemas_;
};

/// A stored tensor found by name.
struct StoredView {
  const plan::Stored* what = nullptr;  // dtype, shape
  const std::byte* at = nullptr;
  uint32_t layer = 0, stored = 0;  // for dlpack::view_of
};

/// Stored tensor `name` ("weight", "weight_scale", "bias") of the layer at runtime path `path`.
/// Errors: not_found with the nearest name. The view lives as long as the model.
Result<StoredView> find_stored(const load::LoadedModel& model, std::string_view component,
                               std::string_view path, std::string_view name);

}  // namespace loadstone
