#include "runtime/compare/result.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace loadstone::compare {
namespace {

using nlohmann::json;  // std::map inside: keys come out sorted

json number(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

template <typename T>
json or_null(const std::optional<T>& value) {
  return value ? json(*value) : json(nullptr);
}

json or_null(const std::optional<double>& value) { return value ? number(*value) : json(nullptr); }

json tree(const Node& node) { return json::parse(node.to_json()); }

json metrics_json(const Metrics& m) {
  return {{"cosine_similarity", number(m.cosine_similarity)},
          {"mae", number(m.mae)},
          {"mse", number(m.mse)},
          {"rmse", number(m.rmse)},
          {"max_abs", number(m.max_abs)},
          {"l2", number(m.l2)},
          {"relative_l2", number(m.relative_l2)},
          {"psnr_db", number(m.psnr_db)}};
}

json output_metrics(const FrameMetrics& frames) {
  const json first = metrics_json(frames.first), mid = metrics_json(frames.mid),
             all = metrics_json(frames.all);
  return {{"num_frames", frames.count},
          {"frame0_metrics", first},
          {"mid_frame_index", frames.mid_index},
          {"mid_frame_metrics", mid},
          {"all_frames_metrics", all},
          {"num_images", frames.count},
          {"image0_metrics", first},
          {"mid_image_index", frames.mid_index},
          {"mid_image_metrics", mid},
          {"all_images_metrics", all}};
}

json guidance() {
  json texts = json::object(), limits = json::object();
  for (const Description& line : descriptions()) {
    texts[std::string(line.metric)] = std::string(line.text);
  }
  for (const Threshold& line : thresholds()) {
    limits[std::string(line.metric)] = threshold_text(line);
  }
  return {{"scope", std::string(guidance_scope())},
          {"descriptions", texts},
          {"recommended_thresholds", limits}};
}

json variant_json(const VariantConfig& variant) {
  return {{"label", variant.label},
          {"model", variant.model},
          {"quantization", or_null(variant.quantization)},
          {"quantization_config",
           variant.quantization_config ? tree(*variant.quantization_config) : json(nullptr)},
          {"diffusion_load_format", variant.load_format}};
}

json sampling_json(const Sampling& s) {
  return {{"task", s.task},
          {"width", s.width},
          {"height", s.height},
          {"num_frames", or_null(s.num_frames)},
          {"num_inference_steps", s.num_inference_steps},
          {"guidance_scale", number(s.guidance_scale)},
          {"cfg_scale", number(s.cfg_scale)},
          {"guidance_scale_2", or_null(s.guidance_scale_2)},
          {"flow_shift", or_null(s.flow_shift)},
          {"num_images_per_prompt", s.num_images_per_prompt},
          {"step_execution", s.step_execution}};
}

json generation_json(const Generation& g) {
  json peaks = json::array();
  for (const auto& peak : g.run_peak_mib) peaks.push_back(or_null(peak));
  return {{"generation_time_s", number(g.run_seconds.back())},
          {"avg_generation_time_s", number(g.average_seconds())},
          {"per_run_generation_time_s", g.run_seconds},
          {"peak_memory_mb", or_null(g.last_peak_mib())},
          {"avg_peak_memory_mb", or_null(g.average_peak_mib())},
          {"max_peak_memory_mb", or_null(g.max_peak_mib())},
          {"per_run_peak_memory_mb", peaks}};
}

json own_part(const Comparison& result) {
  json layers = json::array();
  for (const LayerError& layer : result.layers) {
    layers.push_back({{"component", layer.component},
                      {"layer", layer.layer},
                      {"method", layer.method},
                      {"weight_relative_l2", or_null(layer.weight)},
                      {"output_relative_l2", or_null(layer.output)}});
  }
  json own = {{"notes", result.notes},
              {"layers", layers},
              {"generation_time_ratio", or_null(result.time_ratio())},
              {"peak_memory_ratio", or_null(result.memory_ratio())}};
  if (result.gate) {
    const auto failures = gate_failures(result.metrics.all, *result.gate);
    own["gate"] = {{"level", std::string(to_string(*result.gate))},
                   {"passed", failures.empty()},
                   {"failures", failures}};
  }
  if (!result.reference_dir) {
    const auto side = [](const Generation& g) {
      return json{{"load_time_s", g.load_seconds}, {"stored_bytes", g.stored_nbytes}};
    };
    own["reference_load"] = side(result.reference_generation);
    own["candidate_load"] = side(result.candidate_generation);
  }
  return own;
}

std::vector<double> known(const std::vector<std::optional<double>>& values) {
  std::vector<double> out;
  for (const auto& value : values) {
    if (value) out.push_back(*value);
  }
  return out;
}

std::optional<double> ratio(std::optional<double> candidate, std::optional<double> reference) {
  if (!candidate || !reference || !(*reference > 0)) return std::nullopt;
  return *candidate / *reference;
}

}  // namespace

double Generation::average_seconds() const {
  if (run_seconds.empty()) return 0;
  return std::accumulate(run_seconds.begin(), run_seconds.end(), 0.0) /
         static_cast<double>(run_seconds.size());
}

std::optional<double> Generation::last_peak_mib() const {
  const auto values = known(run_peak_mib);
  return values.empty() ? std::nullopt : std::optional(values.back());
}

std::optional<double> Generation::average_peak_mib() const {
  const auto values = known(run_peak_mib);
  if (values.empty()) return std::nullopt;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::optional<double> Generation::max_peak_mib() const {
  const auto values = known(run_peak_mib);
  if (values.empty()) return std::nullopt;
  return *std::max_element(values.begin(), values.end());
}

std::optional<double> Comparison::time_ratio() const {
  if (reference_dir) return std::nullopt;
  return ratio(candidate_generation.average_seconds(), reference_generation.average_seconds());
}

std::optional<double> Comparison::memory_ratio() const {
  return ratio(candidate_generation.max_peak_mib(), reference_generation.max_peak_mib());
}

std::string to_json(const Comparison& result) {
  json out = {{"output_metrics", output_metrics(result.metrics)},
              {"metric_guidance", guidance()},
              {"loadstone", own_part(result)}};
  if (result.reference_dir) {
    out["reference_dir"] = *result.reference_dir;
    out["candidate_dir"] = or_null(result.candidate_dir);
  } else {
    out.update({{"model", result.model},
                {"prompt", result.prompt},
                {"negative_prompt", or_null(result.negative_prompt)},
                {"seed", result.seed},
                {"warmup_runs", result.warmup_runs},
                {"measure_runs", result.measure_runs},
                {"variant_configs",
                 {{"reference", variant_json(result.reference_config)},
                  {"candidate", variant_json(result.candidate_config)}}},
                {"sampling_kwargs", sampling_json(result.sampling)},
                {"reference_generation", generation_json(result.reference_generation)},
                {"candidate_generation", generation_json(result.candidate_generation)}});
  }
  if (result.outputs_saved) {
    out["saved_outputs"] = {{"reference", result.reference_outputs},
                            {"candidate", result.candidate_outputs}};
  }
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace loadstone::compare
