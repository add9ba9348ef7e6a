// What the command line asks for, parsed and typed. No command sees an argument parser.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace loadstone::cli {

/// Flags that every command with a model has. Absent ones leave the configuration file's value.
struct CommonOptions {
  std::string model;
  std::optional<std::string> config_file;
  std::optional<std::string> quantization;  // one value for build_quant_config
  std::vector<std::string> plugin_dirs;
  std::optional<std::string> device;
  std::optional<std::string> dtype;
  std::optional<std::string> io;
  std::optional<uint32_t> threads;
  // Of commands that draw: config::RunSection's, as typed.
  std::optional<std::string> compute, graphs, decode_rows;
};

struct InspectOptions {
  CommonOptions common;
  bool json = false;
  bool tensors = false;
};

struct PlanOptions {
  CommonOptions common;
  bool json = false;
  bool layers = false;
  bool rules = false;
  std::optional<std::string> why;
  std::optional<std::string> target;
};

struct LoadOptions {
  CommonOptions common;
  bool json = false;
  std::optional<std::string> report;
};

struct DequantizeOptions {
  CommonOptions common;
  std::string output;
  bool fold = false;
};

struct QuantizeOptions {
  CommonOptions common;
  std::string output;
  bool overwrite = false;
};

struct PluginsListOptions {
  CommonOptions common;
  bool json = false;
};

struct PluginsCheckOptions {
  std::string file;
  std::string method;  // "": all
  double seconds = 0;  // 0: everything there is
  bool json = false;
};

struct ConfigCheckOptions {
  CommonOptions common;
  std::string input;
  std::optional<std::string> kwargs;
  std::string checkpoint_config;  // file
  std::string layer;
};

struct GenerateOptions {
  CommonOptions common;
  std::string prompt;
  std::optional<std::string> negative_prompt;
  uint32_t height = 1024;
  uint32_t width = 1024;
  uint32_t num_inference_steps = 50;
  double true_cfg_scale = 4.0;
  uint64_t seed = 42;
  uint32_t num_images_per_prompt = 1;
  std::string output;
  std::optional<std::string> latents;
  std::optional<std::string> save_latents;
  std::optional<std::string> trace;
};

struct CompareSide {
  std::optional<std::string> model;
  std::optional<std::string> quantization;
  std::optional<std::string> quantization_config_json;
  std::optional<std::string> ignored_layers;
  std::string load_format = "default";
};

struct CompareOptions {
  CommonOptions common;  // common.model is --model
  std::string task = "t2i";
  CompareSide reference, candidate;
  std::optional<std::string> ignored_layers;  // for the candidate
  std::optional<std::string> reference_dir, candidate_dir;
  std::string prompt = "a cup of coffee on the table";
  std::optional<std::string> negative_prompt;
  std::string output_json;
  std::optional<std::string> save_output_dir;
  std::optional<std::string> report;
  std::optional<std::string> gate;
  uint32_t width = 1024;
  uint32_t height = 1024;
  uint32_t num_frames = 1;
  uint32_t num_inference_steps = 50;
  uint32_t num_images_per_prompt = 1;
  double guidance_scale = 4.0;
  double cfg_scale = 4.0;
  std::optional<double> guidance_scale_2;
  std::optional<double> flow_shift;
  bool step_execution = false;
  uint64_t seed = 42;
  uint32_t warmup_runs = 0;
  uint32_t measure_runs = 1;
  uint32_t ulysses_degree = 1, ring_degree = 1, tensor_parallel_size = 1;
  uint32_t vae_patch_parallel_size = 1, cfg_parallel_size = 1;
  std::vector<std::string> meaningless;  // given flags that do nothing here, as typed
};

/// What to do: a command, or a text to print (help, version).
struct PrintText {
  std::string text;
};
struct BenchOptions {
  CommonOptions common;
  bool json = false;
  std::optional<std::string> output;
  std::string prompt = "a cup of coffee on the table";
  uint32_t height = 1024, width = 1024, num_inference_steps = 4, rounds = 3;
  bool unquantized = false;  // load without quantization too
};

using Invocation =
    std::variant<PrintText, InspectOptions, PlanOptions, LoadOptions, DequantizeOptions,
                 QuantizeOptions, PluginsListOptions, PluginsCheckOptions, ConfigCheckOptions,
                 GenerateOptions, BenchOptions, CompareOptions>;

}  // namespace loadstone::cli
