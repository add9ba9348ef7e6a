#include "conformance/checkpoint_samples.hpp"

#include <loadstone/loadstone.hpp>
#include <set>

namespace loadstone::conformance {

namespace {

constexpr size_t kMaxSamples = 8;
constexpr uint64_t kMaxElements = 1u << 20;

bool is_small(const graph::Layer& layer) {
  return layer.in != 0 && layer.out * layer.in * layer.groups <= kMaxElements;
}

/// Layers that look alike to a method: one of each is enough.
std::string make_of(const plan::Plan& plan, const plan::LayerPlan& layer) {
  const graph::Layer& source = plan.layer_of(layer);
  std::string out = std::to_string(static_cast<uint32_t>(source.kind)) + " " +
                    std::to_string(source.parts.size()) + " " + layer.kernel;
  for (uint32_t i = 0; i < source.tensors.size(); ++i) {
    out += " " + source.tensors[i].suffix + ":" +
           std::to_string(static_cast<uint32_t>(plan.entry_of(layer, i).dtype));
  }
  return out;
}

Result<CheckpointSample> sample_of(const plan::Plan& plan, const plan::LayerPlan& layer) {
  const graph::Layer& source = plan.layer_of(layer);
  CheckpointSample out;
  out.config = layer.config;
  LayerCase& made = out.layer;
  made.title = source.path;
  made.kind = static_cast<uint32_t>(source.kind);
  made.load_dtype = static_cast<uint32_t>(layer.load_dtype);
  made.has_bias = source.has_bias;
  made.groups = source.groups;
  made.out = source.out;
  made.in = source.in;
  for (const graph::Part& part : source.parts) {
    made.parts.push_back(
        {part.name, part.group, part.out_begin, part.out_count, part.file_begin, part.file_total});
  }
  for (uint32_t i = 0; i < source.tensors.size(); ++i) {
    const formats::TensorEntry& entry = plan.entry_of(layer, i);
    CaseTensor tensor{source.tensors[i].suffix,
                      source.tensors[i].part,
                      source.tensors[i].group,
                      static_cast<uint32_t>(entry.dtype),
                      {entry.shape.begin(), entry.shape.end()},
                      std::vector<std::byte>(entry.nbytes)};
    LS_CHECK(plan.checkpoint->files[entry.file].file->read_exact(tensor.bytes, entry.offset));
    made.tensors.push_back(std::move(tensor));
  }
  return out;
}

}  // namespace

Result<std::vector<CheckpointSample>> samples_of(const std::string& checkpoint,
                                                 const std::string& plugin_dir,
                                                 const std::string& adapters_dir,
                                                 std::string_view method) {
  LS_TRY(Loader loader, Loader::open({{plugin_dir}, adapters_dir}));
  LS_TRY(const config::PipelineConfig config, loader.make_config(checkpoint));
  LS_TRY(const auto plan, loader.plan(config));
  std::vector<CheckpointSample> out;
  std::set<std::string> seen;
  for (const plan::LayerPlan& layer : plan->layers) {
    if (out.size() == kMaxSamples) break;
    if (layer.decision != plan::Decision::quantize || layer.method != method) continue;
    if (!is_small(plan->layer_of(layer)) || !seen.insert(make_of(*plan, layer)).second) continue;
    LS_TRY(CheckpointSample sample, sample_of(*plan, layer));
    out.push_back(std::move(sample));
  }
  return out;
}

}  // namespace loadstone::conformance
