// Two models that draw, as the sides of a comparison.
#include <cmath>
#include <loadstone/compare.hpp>
#include <map>

#include "runtime/compare/layer_error.hpp"

namespace loadstone::compare {
namespace {

using LoadedPtr = std::shared_ptr<const load::LoadedModel>;
using Key = std::pair<std::string, std::string>;  // component, path

runtime::GenerateOptions options_of(const Drawing& drawing) {
  runtime::GenerateOptions options;
  options.prompt = drawing.prompt;
  options.negative_prompt = drawing.negative_prompt;
  options.true_cfg_scale = drawing.sampling.cfg_scale;
  options.height = drawing.sampling.height;
  options.width = drawing.sampling.width;
  options.num_inference_steps = drawing.sampling.num_inference_steps;
  options.num_images_per_prompt = drawing.sampling.num_images_per_prompt;
  options.seed = drawing.seed;
  return options;
}

/// The first error inside a callback that can't return one.
struct Observation {
  std::map<Key, SquaredError> errors;
  std::optional<Error> failure;
};

class ModelSide : public Side {
 public:
  ModelSide(LoadedPtr model, runtime::Pipeline pipeline, const OpenModel& open,
            const ModelControl& control)
      : model_(std::move(model)), pipeline_(std::move(pipeline)), open_(open), control_(control) {}

  Result<std::vector<Frame>> draw(const Drawing& drawing) override {
    LS_TRY(runtime::Generated made,
           pipeline_.generate(options_of(drawing), {control_.cancel, control_.progress, {}}));
    return std::move(made.pictures);
  }

  uint64_t stored_nbytes() const override { return model_->plan().peaks.stored; }

  Result<std::vector<LayerError>> layer_errors(const VariantConfig& reference,
                                               const Drawing& drawing) override {
    LS_TRY(const LoadedPtr other, open_(reference));
    LS_TRY(std::vector<LayerError> layers, weight_errors(*model_, *other));
    LS_TRY(runtime::Pipeline pipeline, runtime::Pipeline::open(other, control_.open));
    LS_TRY(const auto outputs, output_errors(layers, pipeline, drawing));
    for (LayerError& layer : layers) {
      const auto found = outputs.find({layer.component, layer.layer});
      if (found != outputs.end()) layer.output = found->second.relative();
    }
    return layers;
  }

 private:
  /// Draws once more; each call of a quantized layer is answered by the reference too, with the
  /// candidate's input.
  Result<std::map<Key, SquaredError>> output_errors(const std::vector<LayerError>& layers,
                                                    runtime::Pipeline& reference,
                                                    const Drawing& drawing) {
    Observation seen;
    for (const LayerError& layer : layers) seen.errors[{layer.component, layer.layer}] = {};
    const auto observe = [&](const runtime::LayerCall& call) {
      const auto found = seen.errors.find({call.component, call.path});
      if (found == seen.errors.end() || seen.failure) return;
      auto expected = reference.apply(call.component, call.path, {call.x, call.rows * call.in});
      if (!expected) {
        seen.failure = std::move(expected).error();
        return;
      }
      found->second.add(*expected, {call.y, call.rows * call.out});
    };
    LS_TRY([[maybe_unused]] const auto made,
           pipeline_.generate(options_of(drawing), {control_.cancel, control_.progress, observe}));
    if (seen.failure) return std::move(*seen.failure);
    std::erase_if(seen.errors, [](const auto& entry) { return entry.second.count() == 0; });
    return std::move(seen.errors);
  }

  LoadedPtr model_;
  runtime::Pipeline pipeline_;
  const OpenModel& open_;
  const ModelControl& control_;
};

}  // namespace

Result<Outcome> compare_models(const Request& request, const OpenModel& open,
                               const ModelControl& control) {
  const auto open_side = [&](const VariantConfig& variant) -> Result<std::unique_ptr<Side>> {
    LS_TRY(LoadedPtr model, open(variant));
    LS_TRY(runtime::Pipeline pipeline, runtime::Pipeline::open(model, control.open));
    return std::unique_ptr<Side>(
        new ModelSide(std::move(model), std::move(pipeline), open, control));
  };
  return run_comparison(request, open_side);
}

}  // namespace loadstone::compare
