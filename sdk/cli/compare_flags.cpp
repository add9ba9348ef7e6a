#include "compare_flags.hpp"

#include <fmt/format.h>

#include "base/text.hpp"
#include "near_name.hpp"
#include "runtime/compare/variant.hpp"

namespace loadstone::cli {
namespace {

Error refused(Code code, const char* what, const std::string& flag, const std::string& found,
              const std::string& expected, const std::string& hint = "") {
  return Error{code, what, flag, "found " + found + ", expected " + expected, hint, {}};
}

Status check_parallel(const CompareOptions& o) {
  for (const auto& [flag, value] : {std::pair{"--ulysses-degree", o.ulysses_degree},
                                    {"--ring-degree", o.ring_degree},
                                    {"--tensor-parallel-size", o.tensor_parallel_size},
                                    {"--vae-patch-parallel-size", o.vae_patch_parallel_size},
                                    {"--cfg-parallel-size", o.cfg_parallel_size}}) {
    if (value == 1) continue;
    return refused(Code::unsupported, "not supported yet", flag, std::to_string(value),
                   "1 (one device)");
  }
  return {};
}

Status check_task(const CompareOptions& o) {
  const std::vector<std::string> tasks{"t2i", "t2v"};
  if (o.task == "t2i") return {};
  if (o.task != "t2v") {
    return refused(Code::invalid_argument, "unknown task", "--task", loadstone::quoted(o.task),
                   "t2i or t2v", near_name(o.task, tasks));
  }
  if (o.reference_dir) return {};
  return refused(Code::unsupported, "not supported yet", "--task", "t2v",
                 "t2i, or frames made elsewhere in --reference-dir and --candidate-dir");
}

Status check_folders(const CompareOptions& o) {
  if (o.reference_dir.has_value() != o.candidate_dir.has_value()) {
    return refused(Code::invalid_argument, "flags conflict", "command line",
                   o.reference_dir ? "--reference-dir alone" : "--candidate-dir alone",
                   "both or none");
  }
  if (o.reference_dir && o.save_output_dir) {
    return refused(Code::invalid_argument, "flags conflict", "--save-output-dir",
                   "folders that hold the pictures already", "it with models that draw");
  }
  return {};
}

Status check_counts(const CompareOptions& o) {
  if (o.measure_runs == 0) {
    return refused(Code::invalid_argument, "invalid value", "--measure-runs", "0", "at least 1");
  }
  if (o.num_images_per_prompt == 0) {
    return refused(Code::invalid_argument, "invalid value", "--num-images-per-prompt", "0",
                   "at least 1");
  }
  return {};
}

Result<std::optional<compare::Gate>> gate_of(const CompareOptions& o) {
  if (!o.gate) return std::optional<compare::Gate>();
  for (compare::Gate gate : {compare::Gate::smoke, compare::Gate::strict}) {
    if (*o.gate == compare::to_string(gate)) return std::optional(gate);
  }
  const std::vector<std::string> gates{"smoke", "strict"};
  return refused(Code::invalid_argument, "invalid value", "--gate", loadstone::quoted(*o.gate),
                 "smoke or strict", near_name(*o.gate, gates));
}

Status check_load_format(const std::string& side, const std::string& format) {
  if (format == "default" || format == "auto") return {};
  return refused(Code::unsupported, "not supported", "--" + side + "-load-format",
                 loadstone::quoted(format), "default (the checkpoint's content decides)");
}

Result<compare::VariantConfig> variant_of(const CompareOptions& o, const std::string& side,
                                          const CompareSide& flags,
                                          const std::optional<std::string>& ignored) {
  LS_CHECK(check_load_format(side, flags.load_format));
  LS_TRY(auto quantization,
         compare::variant_quantization(
             system_files(), {side, flags.quantization, flags.quantization_config_json, ignored}));
  return compare::VariantConfig{side, flags.model.value_or(o.common.model),
                                std::move(quantization.method), std::move(quantization.config),
                                flags.load_format};
}

Result<std::optional<std::string>> candidate_ignored(const CompareOptions& o) {
  if (o.ignored_layers && o.candidate.ignored_layers) {
    return refused(Code::invalid_argument, "flags conflict", "--ignored-layers",
                   "it beside --candidate-ignored-layers", "one of the two");
  }
  return o.ignored_layers ? o.ignored_layers : o.candidate.ignored_layers;
}

compare::Sampling sampling_of(const CompareOptions& o) {
  compare::Sampling s;
  s.task = o.task;
  s.width = o.width;
  s.height = o.height;
  if (o.task == "t2v") s.num_frames = o.num_frames;
  s.num_inference_steps = o.num_inference_steps;
  s.guidance_scale = o.guidance_scale;
  s.cfg_scale = o.cfg_scale;
  s.guidance_scale_2 = o.guidance_scale_2;
  s.flow_shift = o.flow_shift;
  s.num_images_per_prompt = o.num_images_per_prompt;
  s.step_execution = o.step_execution;
  return s;
}

std::vector<std::string> notes_of(const CompareOptions& o) {
  std::vector<std::string> notes;
  const auto no_effect = [&notes](const std::string& flag) {
    notes.push_back(escaped(flag) + " has no effect here");
  };
  for (const std::string& flag : o.meaningless) no_effect(flag);
  if (o.reference_dir) return notes;
  if (o.guidance_scale_2) no_effect("--guidance-scale-2");
  if (o.flow_shift) no_effect("--flow-shift");
  if (o.step_execution) no_effect("--step-execution");
  if (o.num_frames != 1) no_effect("--num-frames (one picture is drawn)");
  if (o.guidance_scale != CompareOptions{}.guidance_scale) {
    no_effect("--guidance-scale (the model isn't distilled; --cfg-scale is its guidance)");
  }
  if (!o.negative_prompt) {
    notes.push_back(
        fmt::format("no --negative-prompt, so there is no guidance and --cfg-scale {} is not used",
                    o.cfg_scale));
  }
  return notes;
}

}  // namespace

Result<CompareReview> review_flags(const CompareOptions& o) {
  LS_CHECK(check_folders(o));
  LS_CHECK(check_task(o));
  LS_CHECK(check_parallel(o));
  LS_CHECK(check_counts(o));
  CompareReview out;
  LS_TRY(out.gate, gate_of(o));
  out.notes = notes_of(o);
  LS_TRY(out.request.reference,
         variant_of(o, "reference", o.reference, o.reference.ignored_layers));
  LS_TRY(const auto ignored, candidate_ignored(o));
  LS_TRY(out.request.candidate, variant_of(o, "candidate", o.candidate, ignored));
  out.request.model = o.common.model;
  out.request.drawing = {o.prompt, o.negative_prompt, o.seed, sampling_of(o)};
  out.request.warmup_runs = o.warmup_runs;
  out.request.measure_runs = o.measure_runs;
  out.request.layers = o.report.has_value();
  return out;
}

}  // namespace loadstone::cli
