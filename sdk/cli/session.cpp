#include "session.hpp"

#include <filesystem>
#include <functional>
#include <system_error>

#include "config/load_dtype.hpp"
#include "load/pipeline.hpp"

namespace loadstone::cli {
namespace {

namespace fs = std::filesystem;

using ReadConfig = std::function<Result<config::PipelineConfig>(const Loader&)>;

/// The configuration that the flags name: a file, one value, or nothing.
Result<config::PipelineConfig> read_config(const CommonOptions& common, const Loader& loader) {
  if (common.config_file && common.quantization) {
    return Error{Code::invalid_argument,
                 "flags conflict",
                 "command line",
                 "found --config beside --quantization, expected one of the two",
                 "",
                 {}};
  }
  if (common.config_file) return loader.read_config(*common.config_file);
  return loader.make_config(common.model, common.quantization.value_or(""));
}

/// Flags win over the file.
void merge_flags(const CommonOptions& common, config::PipelineConfig& config) {
  if (!common.model.empty()) config.model = common.model;
  if (common.device) config.load.device = *common.device;
  if (common.dtype) config.load.dtype = *common.dtype;
  if (common.threads) config.load.threads = *common.threads;
}

/// What planning would find later, named by its flag.
Status check_flags(const CommonOptions& common) {
  const auto named = [](Error error, const char* flag) {
    error.where = flag;
    return error;
  };
  if (common.dtype) {
    auto dtype = config::parse_load_dtype(*common.dtype);
    if (!dtype) return named(std::move(dtype).error(), "--dtype");
  }
  if (common.device) {
    auto target = plan::parse_target(*common.device);
    if (!target) return named(std::move(target).error(), "--device");
  }
  return {};
}

Result<Engine> make_engine(const CommonOptions& common, const ReadConfig& read) {
  LS_CHECK(check_flags(common));
  LS_TRY(Places places, find_places(common.plugin_dirs));
  LS_TRY(Loader loader, Loader::open(places));
  LS_TRY(config::PipelineConfig config, read(loader));
  merge_flags(common, config);
  if (config.model.empty()) {
    return Error{Code::invalid_argument,
                 "model missing",
                 "command line",
                 "found none, expected MODEL or a --config file with model:",
                 "",
                 {}};
  }
  return Engine{std::move(places), std::move(loader), std::move(config)};
}

}  // namespace

Result<Places> find_places(const std::vector<std::string>& plugin_dirs) {
  std::error_code code;
  const fs::path program = fs::read_symlink("/proc/self/exe", code);
  if (code) {
    return Error{Code::internal, "program not found", "/proc/self/exe", code.message(), "", {}};
  }
  const fs::path folder = program.parent_path();
  Places places;
  LS_TRY(places.plugin_dirs, plugin::plugin_dirs(folder.string(), plugin_dirs));
  places.adapters_dir = (folder.parent_path() / "share/loadstone/model_adapters").string();
  return places;
}

Result<Engine> open_engine(const CommonOptions& common) {
  return make_engine(common,
                     [&common](const Loader& loader) { return read_config(common, loader); });
}

Result<Engine> open_engine(const CommonOptions& common, const Node& quantization) {
  return make_engine(common, [&](const Loader& loader) -> Result<config::PipelineConfig> {
    LS_TRY(config::PipelineConfig config, loader.make_config(common.model));
    LS_TRY(config.quantization, config::build_quant_config(quantization, Node{}, loader.schemas()));
    return config;
  });
}

}  // namespace loadstone::cli
