#include "session.hpp"

#include <filesystem>
#include <functional>
#include <system_error>

#include "base/file.hpp"
#include "base/text.hpp"
#include "near_name.hpp"

namespace loadstone::cli {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxConfigNbytes = 1u << 20;  // security checklist S35

Result<DType> parse_dtype(const std::string& name) {
  struct Spelling {
    const char* name;
    DType dtype;
  };
  constexpr Spelling kSpellings[] = {
      {"auto", DType::invalid}, {"bf16", DType::BF16}, {"bfloat16", DType::BF16},
      {"f16", DType::F16},      {"fp16", DType::F16},  {"float16", DType::F16},
      {"half", DType::F16},     {"f32", DType::F32},   {"fp32", DType::F32},
      {"float32", DType::F32},
  };
  std::vector<std::string> names;
  for (const Spelling& spelling : kSpellings) {
    if (name == spelling.name) return spelling.dtype;
    names.emplace_back(spelling.name);
  }
  return Error{Code::invalid_argument,
               "unknown dtype",
               "--dtype",
               "found " + loadstone::quoted(name) + ", expected auto, bf16, f16 or f32",
               near_name(name, names),
               {}};
}

/// The configuration that the flags name: a file, one value, or nothing.
Result<config::PipelineConfig> read_pipeline(const CommonOptions& common,
                                             const config::Schemas& schemas) {
  if (common.config_file && common.quantization) {
    return Error{Code::invalid_argument,
                 "flags conflict",
                 "command line",
                 "found --config beside --quantization, expected one of the two",
                 "",
                 {}};
  }
  config::PipelineConfig pipeline;
  if (common.config_file) {
    LS_TRY(const std::string text,
           read_text(system_files(), *common.config_file, kMaxConfigNbytes));
    LS_TRY(const Node root, config::parse_yaml(text, *common.config_file));
    LS_TRY(pipeline, config::build_pipeline_config(root, schemas));
  }
  if (common.quantization) {
    LS_TRY(const Node spec, config::parse_inline(*common.quantization));
    LS_TRY(pipeline.quantization, config::build_quant_config(spec, Node{}, schemas));
  }
  return pipeline;
}

/// Flags win over the file.
void merge_flags(const CommonOptions& common, config::PipelineConfig& pipeline) {
  if (!common.model.empty()) pipeline.model = common.model;
  if (common.device) pipeline.load.device = *common.device;
  if (common.dtype) pipeline.load.dtype = *common.dtype;
  if (common.threads) pipeline.load.threads = *common.threads;
}

using ReadPipeline = std::function<Result<config::PipelineConfig>(const config::Schemas&)>;

Result<Engine> make_engine(const CommonOptions& common, const ReadPipeline& read) {
  plan::LoadOptions options;
  LS_TRY(Places places, find_places());
  LS_TRY(plugin::Registry registry, open_registry(places, common.plugin_dirs));
  LS_TRY(const config::Schemas schemas, registry.schemas());
  LS_TRY(config::PipelineConfig pipeline, read(schemas));
  merge_flags(common, pipeline);
  if (pipeline.model.empty()) {
    return Error{Code::invalid_argument,
                 "model missing",
                 "command line",
                 "found none, expected MODEL or a --config file with model:",
                 "",
                 {}};
  }
  LS_TRY(plan::Target target, plan::parse_target(pipeline.load.device));
  LS_TRY(options.dtype, parse_dtype(pipeline.load.dtype));
  if (pipeline.load.ring_nbytes != 0) options.ring_nbytes = pipeline.load.ring_nbytes;
  options.threads = pipeline.load.threads;
  return Engine{std::move(places), std::move(registry), std::move(pipeline), std::move(target),
                options};
}

}  // namespace

Result<Places> find_places() {
  std::error_code code;
  const fs::path program = fs::read_symlink("/proc/self/exe", code);
  if (code) {
    return Error{Code::internal, "program not found", "/proc/self/exe", code.message(), "", {}};
  }
  const fs::path folder = program.parent_path();
  return Places{folder.string(),
                (folder.parent_path() / "share/loadstone/model_adapters").string()};
}

Result<plugin::Registry> open_registry(const Places& places,
                                       const std::vector<std::string>& plugin_dirs) {
  plugin::RegistryOptions options;
  LS_TRY(options.dirs, plugin::plugin_dirs(places.program_dir, plugin_dirs));
  return plugin::Registry::scan(options);
}

Result<Engine> open_engine(const CommonOptions& common) {
  return make_engine(
      common, [&common](const config::Schemas& schemas) { return read_pipeline(common, schemas); });
}

Result<Engine> open_engine(const CommonOptions& common, const Node& quantization) {
  return make_engine(common, [&](const config::Schemas& schemas) -> Result<config::PipelineConfig> {
    config::PipelineConfig pipeline;
    LS_TRY(pipeline.quantization, config::build_quant_config(quantization, Node{}, schemas));
    return pipeline;
  });
}

Result<formats::Checkpoint> open_model(const Engine& engine) {
  return formats::open_checkpoint(system_files(), engine.pipeline.model);
}

Result<graph::Graph> open_graph(const Engine& engine, const formats::Checkpoint& checkpoint) {
  return graph::build_graph(checkpoint, engine.places.adapters_dir);
}

Result<plan::Plan> plan_model(Engine& engine) {
  LS_TRY(formats::Checkpoint checkpoint, open_model(engine));
  auto shared = std::make_shared<const formats::Checkpoint>(std::move(checkpoint));
  LS_TRY(graph::Graph graph, open_graph(engine, *shared));
  return plan::make_plan(shared, std::move(graph), engine.pipeline.quantization, engine.registry,
                         engine.target, engine.options);
}

}  // namespace loadstone::cli
