#include "session.hpp"

#include <filesystem>
#include <functional>
#include <system_error>

#include "base/text.hpp"
#include "config/load_dtype.hpp"
#include "config/load_io.hpp"
#include "load/pipeline.hpp"
#include "near_name.hpp"

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

/// Errors of readers that the configuration file has too, named by the flag.
template <typename T>
Status read_flag(const char* flag, const std::optional<std::string>& text,
                 Result<T> (*read)(const std::string&), T& out) {
  if (!text) return {};
  auto value = read(*text);
  if (value) {
    out = *std::move(value);
    return {};
  }
  Error error = std::move(value).error();
  return Error{Code::invalid_argument,  "invalid value",       flag,
               std::move(error.detail), std::move(error.hint), {}};
}

Result<bool> read_on_off(const std::string& text) {
  if (text == "on") return true;
  if (text == "off") return false;
  const std::vector<std::string> names{"on", "off"};
  return Error{
      Code::invalid_argument, "", "", "found " + loadstone::quoted(text) + ", expected on or off",
      near_name(text, names), {}};
}

/// Flags of commands that draw, over what the file says.
Status merge_run(const CommonOptions& common, config::RunSection& run) {
  LS_CHECK(read_flag("--compute", common.compute, config::parse_compute, run.compute));
  LS_CHECK(read_flag("--graphs", common.graphs, read_on_off, run.graphs));
  return read_flag("--decode-rows", common.decode_rows, config::parse_decode_rows, run.decode_rows);
}

/// Flags win over the file.
void merge_flags(const CommonOptions& common, config::PipelineConfig& config) {
  if (!common.model.empty()) config.model = common.model;
  if (common.device) {
    config.load.device = *common.device;
    config.load.device_mark = {};
  }
  if (common.dtype) config.load.dtype = *common.dtype;
  if (common.io) config.load.io = *common.io;
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
  if (common.io) {
    auto io = config::parse_load_io(*common.io);
    if (!io) return named(std::move(io).error(), "--io");
  }
  if (common.device) {
    auto target = plan::parse_target(*common.device);
    if (!target) return named(std::move(target).error(), "--device");
  }
  config::RunSection run;
  return merge_run(common, run);
}

Result<Engine> make_engine(const CommonOptions& common, const ReadConfig& read) {
  LS_CHECK(check_flags(common));
  LS_TRY(Places places, find_places(common.plugin_dirs));
  LS_TRY(Loader loader, Loader::open(places));
  LS_TRY(config::PipelineConfig config, read(loader));
  merge_flags(common, config);
  LS_CHECK(merge_run(common, config.run));
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
