// loadstone/runtime.hpp over the families that have networks.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>

#include <exception>
#include <loadstone/runtime.hpp>
#include <map>

#include "base/text.hpp"
#include "qwen_image/drawer.hpp"
#include "runtime/drawer.hpp"
#include "runtime/loaded_weights.hpp"
#include "runtime/torch_setup.hpp"

namespace loadstone::runtime {
namespace {

struct FamilyEntry {
  const char* name;
  MakeDrawer make;
};

constexpr FamilyEntry kFamilies[] = {{"qwen_image", &networks::qwen_image::make_drawer}};

Result<MakeDrawer> find_family(const plan::Plan& plan) {
  std::vector<std::string> names;
  for (const FamilyEntry& entry : kFamilies) {
    if (plan.graph.family == entry.name) return MakeDrawer{entry.make};
    names.emplace_back(entry.name);
  }
  return Error{Code::unsupported,
               "no networks for this family",
               escaped(plan.checkpoint->path),
               "found " + loadstone::quoted(plan.graph.family) + ", expected " + join(names),
               "",
               {}};
}

/// LibTorch reports by exceptions; they end here.
template <typename Body>
auto guarded(Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return Error{Code::resource, "out of memory", "", "while drawing", "", {}};
  } catch (const std::exception& error) {
    const std::string text = error.what();
    return Error{Code::internal, "LibTorch failed", "", text.substr(0, text.find('\n')), "", {}};
  }
}

at::Tensor as_floats(const at::Tensor& tensor) {
  return tensor.to(at::kCPU, at::kFloat).contiguous();
}

}  // namespace

struct Pipeline::State {
  DrawerSource source;
  std::unique_ptr<Drawer> drawer;
  std::map<std::string, std::unique_ptr<LoadedWeights>> weights;  // by component, for apply()

  Result<std::vector<float>> apply(const std::string& component, const std::string& path,
                                   std::span<const float> x);
};

Result<Pipeline> Pipeline::open(std::shared_ptr<const load::LoadedModel> model,
                                const OpenOptions& options) {
  for (const plan::Slab& slab : model->plan().slabs) {
    if (slab.target.index >= 0) LS_CHECK(set_up_cuda(slab.target.index));
  }
  LS_CHECK(set_up_torch(options.threads));
  return guarded([&]() -> Result<Pipeline> {
    LS_TRY(const MakeDrawer make, find_family(model->plan()));
    auto state = std::make_unique<State>();
    const config::RunSection& run = model->plan().run;
    const Compute compute = options.compute.value_or(compute_of(run));
    state->source = {std::move(model), scalar_type_of(compute), std::make_shared<RunState>()};
    state->source.state->recording = options.graphs.value_or(run.graphs);
    if (const auto& planned = state->source.model->plan().attention) {
      const plan::AttentionPlan* attention = &*planned;
      state->source.state->attention = attention;
      state->source.state->forms[attention] = [attention](const ls_step& step) {
        return Result<uint64_t>(attention->quantizes_step(step.index) ? 1 : 0);
      };
    }
    LS_TRY(state->drawer, make(state->source));
    return Pipeline(std::move(state));
  });
}

Pipeline::Pipeline(std::unique_ptr<State> state) : state_(std::move(state)) {}
Pipeline::Pipeline(Pipeline&&) noexcept = default;
Pipeline& Pipeline::operator=(Pipeline&&) noexcept = default;
Pipeline::~Pipeline() = default;

Result<Generated> Pipeline::generate(const GenerateOptions& options, const RunControl& control) {
  RunState& state = *state_->source.state;
  state.cancel = control.cancel;
  state.attention_calls = state.attention_quantized = 0;
  if (control.observe) {
    state.observer = [&](const std::string& component, const std::string& path, const at::Tensor& x,
                         const at::Tensor& y) {
      const at::Tensor in = as_floats(x), out = as_floats(y);
      control.observe({component, path, static_cast<uint64_t>(in.size(0)),
                       static_cast<uint64_t>(in.size(1)), static_cast<uint64_t>(out.size(1)),
                       in.const_data_ptr<float>(), out.const_data_ptr<float>()});
    };
  }
  auto out = guarded([&] { return state_->drawer->generate(options, control); });
  state.observer = nullptr;
  state.cancel = nullptr;
  state.failure.reset();
  if (out.ok()) {
    out->attention_calls = state.attention_calls;
    out->attention_quantized = state.attention_quantized;
  }
  return out;
}

Result<std::vector<float>> Pipeline::apply(const std::string& component, const std::string& path,
                                           std::span<const float> x) {
  return guarded([&] { return state_->apply(component, path, x); });
}

Result<std::vector<float>> Pipeline::State::apply(const std::string& component,
                                                  const std::string& path,
                                                  std::span<const float> x) {
  const at::NoGradGuard no_gradients;
  auto& entry = weights[component];
  if (entry == nullptr) {
    LS_TRY(entry, LoadedWeights::open(source.model, component, source.dtype, source.state));
  }
  if (!entry->has_layer(path)) {
    const auto paths = entry->layer_paths();
    return Error{Code::not_found,
                 "no such layer",
                 component,
                 "found " + loadstone::quoted(path) + ", expected one of " +
                     std::to_string(paths.size()) + " layer paths",
                 nearest(path, paths),
                 {}};
  }
  LS_TRY(const auto layer, entry->linear(path));
  if (x.empty() || x.size() % static_cast<size_t>(layer->in()) != 0) {
    return Error{Code::invalid_argument,
                 "input doesn't fit the layer",
                 path,
                 "found " + std::to_string(x.size()) + " values, expected a multiple of " +
                     std::to_string(layer->in()),
                 "",
                 {}};
  }
  const at::Tensor rows =
      at::from_blob(const_cast<float*>(x.data()),  // NOLINT: a view that is only read
                    {static_cast<int64_t>(x.size()) / layer->in(), layer->in()},
                    at::TensorOptions().dtype(at::kFloat))
          .to(entry->device(), source.dtype);
  const at::Tensor y = as_floats((*layer)(rows));
  LS_CHECK(source.state->take_failure());
  const float* data = y.const_data_ptr<float>();
  return std::vector<float>(data, data + y.numel());
}

}  // namespace loadstone::runtime
