// loadstone config check: a configuration by itself, normalized.
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/file.hpp"
#include "commands.hpp"
#include "exit_code.hpp"
#include "formats/declarations.hpp"
#include "plan/routing_configure.hpp"
#include "plan/routing_resolve.hpp"
#include "session.hpp"

namespace loadstone::cli {
namespace {

constexpr uint64_t kMaxConfigNbytes = 1u << 20;  // security checklist S35

Result<std::string> read_standard_input() {
  std::string text;
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t count = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Error{Code::io, "read failed", "-", std::strerror(errno), "", {}};
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(count));
    if (text.size() > kMaxConfigNbytes) {
      return Error{Code::invalid_config,
                   "configuration rejected",
                   "-",
                   "found more than 1 MiB, expected at most that",
                   "",
                   {}};
    }
  }
}

/// JSON is tried first: it allows what YAML doesn't (tabs). Flow-style YAML looks alike, so YAML's
/// complaint is the one to show unless the file says that it is JSON.
Result<Node> parse_any(const std::string& text, const std::string& name) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  const bool says_json = name.ends_with(".json");
  if (says_json || (first != std::string::npos && std::strchr("{[\"", text[first]) != nullptr)) {
    auto parsed = parse_json(text, name);
    if (parsed || says_json) return parsed;
  }
  return config::parse_yaml(text, name);
}

bool is_whole_file(const Node& root) {
  for (const char* key : {"version", "model", "quantization", "rules"}) {
    if (root.find(key) != nullptr) return true;
  }
  return false;
}

Result<config::QuantConfig> build(const ConfigCheckOptions& options, const Node& root,
                                  const config::Schemas& schemas) {
  Node kwargs;
  if (options.kwargs) {
    LS_TRY(kwargs, parse_json(*options.kwargs, "--kwargs"));
  }
  if (!is_whole_file(root)) return config::build_quant_config(root, kwargs, schemas);
  if (!kwargs.is_null()) {
    return Error{Code::invalid_argument,
                 "flags conflict",
                 "--kwargs",
                 "found keyword options beside a whole configuration, expected one value",
                 "",
                 {}};
  }
  LS_TRY(config::PipelineConfig pipeline, config::build_pipeline_config(root, schemas));
  return pipeline.quantization;
}

/// Of a whole config.json all that it holds; else the file is the declaration itself.
Result<std::vector<formats::Declaration>> read_declarations(const std::string& path) {
  std::vector<formats::Declaration> out;
  if (path.empty()) return out;
  LS_TRY(const std::string text, read_text(system_files(), path, formats::kMaxConfigNbytes));
  LS_TRY(const Node root, parse_json(text, path));
  LS_TRY(out, formats::declarations_of_config(root, path));
  if (!out.empty() || root.find("quantization_config") != nullptr) return out;
  LS_TRY(Node declared, formats::declared_map(root, path));
  if (declared.is_null()) return out;
  const bool of_tool = declared.find("producer") != nullptr;
  out.push_back(
      {of_tool ? "hf_quant_config.json" : "quantization_config", path, "", std::move(declared)});
  return out;
}

}  // namespace

Result<int> run(const ConfigCheckOptions& options) {
  LS_TRY(const Places places, find_places(options.common.plugin_dirs));
  LS_TRY(Loader loader, Loader::open(places));
  LS_TRY(const std::string text, options.input == "-"
                                     ? read_standard_input()
                                     : read_text(system_files(), options.input, kMaxConfigNbytes));
  LS_TRY(const Node root, parse_any(text, options.input));
  LS_TRY(const config::QuantConfig user, build(options, root, loader.schemas()));
  LS_TRY(const auto declared, read_declarations(options.checkpoint_config));
  LS_TRY(const auto known, plan::KnownComponents::read(places.adapters_dir));
  const std::string named = known.named_by(options.layer);
  LS_TRY(const config::QuantConfig config,
         plan::resolve_declared(user, named.empty() ? known.usual() : named, declared, known,
                                loader.registry()));
  LS_CHECK(plan::configure_all(config, loader.registry()));
  LS_CHECK(plan::parse_target(options.common.device.value_or("cpu")));
  Node layer;
  if (!options.layer.empty()) {
    LS_TRY(const plan::LayerAnswer answer,
           plan::resolve_layer(user, {options.layer, graph::LayerKind::linear, {}}, declared, known,
                               loader.registry()));
    layer = answer.to_node();
  }
  Node out = config.to_node();
  out.entries().emplace_back("layer", std::move(layer));
  LS_CHECK(print(out.to_json(2) + "\n"));
  return kFine;
}

}  // namespace loadstone::cli
