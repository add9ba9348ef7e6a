// A whole configuration file: what to load, how to quantize it, where to put it.
#include <charconv>

#include "base/checked.hpp"
#include "base/text.hpp"
#include "config/attention.hpp"
#include "config/choice.hpp"
#include "config/load_dtype.hpp"
#include "config/load_io.hpp"
#include "config/rules.hpp"

namespace loadstone::config {
namespace {

const std::vector<std::string> kKeys = {
    "version", "model", "quantization", "rules",          "components",
    "load",    "run",   "attention",    "on_unsupported", "allow_unmatched"};
const std::vector<std::string> kRunKeys = {"compute", "graphs", "decode_rows"};
const std::vector<std::string> kLoadKeys = {"device", "dtype", "io", "ring", "threads", "place"};

void unknown_key(const std::string& where, const std::string& key, const Node& value,
                 const std::vector<std::string>& known, Problems& problems) {
  std::string hint = nearest(key, known);
  problems.add("unknown key of " + where, value.key_mark(),
               "found " + quoted(key) + ", expected one of " + join(known),
               hint.empty() ? "" : quoted(hint));
}

void wrong(std::string_view key, const Node& value, const std::string& expected,
           Problems& problems) {
  problems.add("value of " + quoted(key) + " rejected", value.mark(),
               "found " + value.describe() + ", expected " + expected);
}

std::string read_name(std::string_view key, const Node& value, Problems& problems) {
  if (value.is_null()) return "";
  const std::string* text = name_text(value);
  if (text && !text->empty()) return *text;
  wrong(key, value, "a text", problems);
  return "";
}

/// "256MiB", "1GiB", "4096" or an integer, in bytes.
std::optional<uint64_t> parse_nbytes(const std::string& text) {
  uint64_t number{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  while (!unit.empty() && unit[0] == ' ') unit.remove_prefix(1);
  if (unit.empty() || unit == "B") return number;
  if (unit == "KiB") return checked_mul(number, 1u << 10);
  if (unit == "MiB") return checked_mul(number, 1u << 20);
  if (unit == "GiB") return checked_mul(number, 1u << 30);
  return std::nullopt;
}

void read_ring(const Node& value, LoadSection& load, Problems& problems) {
  const std::string* text = name_text(value);
  std::string json_number = value.is_integer() ? std::to_string(value.integer()) : "";
  if (value.is_null() || (text && *text == "auto")) return;
  auto nbytes = parse_nbytes(text ? *text : json_number);
  if (nbytes && *nbytes > 0) {
    load.ring_nbytes = *nbytes;
  } else {
    wrong("ring", value, "\"auto\", or bytes such as 256MiB", problems);
  }
}

void read_threads(const Node& value, LoadSection& load, Problems& problems) {
  if (value.is_null() || (value.is_text() && value.text() == "auto")) return;
  if (value.is_integer() && value.integer() >= 1 && value.integer() <= 1024) {
    load.threads = static_cast<unsigned>(value.integer());
  } else {
    wrong("threads", value, "\"auto\", or an integer from 1 to 1024", problems);
  }
}

/// A text or an integer through its reader; null leaves what is there.
template <typename T>
void read_parsed(const std::string& key, const Node& value, Result<T> (*parse)(const std::string&),
                 const char* expected, T& out, Problems& problems) {
  if (value.is_null()) return;
  const std::string* name = name_text(value);
  if (!name && !value.is_integer()) return wrong(key, value, expected, problems);
  auto parsed = parse(name ? *name : std::to_string(value.integer()));
  if (parsed) {
    out = *parsed;
  } else {
    problems.add("value of " + quoted(key) + " rejected", value.mark(), parsed.error().detail,
                 parsed.error().hint);
  }
}

void read_dtype(const Node& value, LoadSection& load, Problems& problems) {
  if (value.is_null()) return;
  const std::string* name = name_text(value);
  if (!name) return wrong("dtype", value, "auto, bf16, f16 or f32", problems);
  auto dtype = parse_load_dtype(*name);
  if (dtype) {
    load.dtype = *name;
  } else {
    problems.add("value of \"dtype\" rejected", value.mark(), dtype.error().detail,
                 dtype.error().hint);
  }
}

void read_place(const Node& map, LoadSection& load, Problems& problems) {
  if (!map.is_map()) return wrong("place", map, "a map of component to device", problems);
  for (const auto& [component, device] : map.entries()) {
    std::string name = read_name(component, device, problems);
    if (!name.empty()) load.place[component] = {std::move(name), device.mark()};
  }
}

void read_io(const Node& value, LoadSection& load, Problems& problems) {
  if (value.is_null()) return;
  const std::string* name = name_text(value);
  if (!name) return wrong("io", value, "pread or map", problems);
  auto io = parse_load_io(*name);
  if (io) {
    load.io = *name;
  } else {
    problems.add("value of \"io\" rejected", value.mark(), io.error().detail, io.error().hint);
  }
}

void read_load(const Node& map, LoadSection& load, Problems& problems) {
  if (map.is_null()) return;
  if (!map.is_map()) return wrong("load", map, "a map", problems);
  for (const auto& [key, value] : map.entries()) {
    if (key == "device") {
      std::string name = read_name(key, value, problems);
      if (name.empty()) continue;
      load.device = std::move(name);
      load.device_mark = value.mark();
    } else if (key == "dtype") {
      read_dtype(value, load, problems);
    } else if (key == "io") {
      read_io(value, load, problems);
    } else if (key == "ring") {
      read_ring(value, load, problems);
    } else if (key == "threads") {
      read_threads(value, load, problems);
    } else if (key == "place") {
      read_place(value, load, problems);
    } else {
      unknown_key("load", key, value, kLoadKeys, problems);
    }
  }
}

void read_run(const Node& map, RunSection& run, Problems& problems) {
  if (map.is_null()) return;
  if (!map.is_map()) return wrong("run", map, "a map", problems);
  for (const auto& [key, value] : map.entries()) {
    if (key == "compute") {
      read_parsed(key, value, parse_compute, "f32, bf16 or f16", run.compute, problems);
    } else if (key == "graphs") {
      run.graphs = read_flag(key, value, problems);
    } else if (key == "decode_rows") {
      read_parsed(key, value, parse_decode_rows, "auto, or an integer from 1 to 16384",
                  run.decode_rows, problems);
    } else {
      unknown_key("run", key, value, kRunKeys, problems);
    }
  }
}

void read_components(const Node& map, std::vector<ComponentSource>& out, Problems& problems) {
  if (map.is_null()) return;
  if (!map.is_map()) return wrong("components", map, "a map of component to {path: …}", problems);
  for (const auto& [key, value] : map.entries()) {
    const Node* path = value.is_map() ? value.find("path") : nullptr;
    if (!path) {
      wrong(key, value, "a map with \"path\"", problems);
      continue;
    }
    for (const auto& [inner, unused] : value.entries()) {
      if (inner != "path")
        unknown_key("component " + quoted(key), inner, unused, {"path"}, problems);
    }
    out.push_back(ComponentSource{key, read_name("path", *path, problems), path->mark()});
  }
}

void read_version(const Node& value, PipelineConfig& config, Problems& problems) {
  if (value.is_integer() && value.integer() == 1) {
    config.version = 1;
  } else {
    wrong("version", value, "1", problems);
  }
}

/// The problems of a value that has its own reader, put beside ours.
void add_all(Error error, Problems& problems) {
  std::vector<Error> more = std::move(error.more);
  error.more.clear();
  problems.add(std::move(error));
  for (Error& other : more) problems.add(std::move(other));
}

}  // namespace

Result<PipelineConfig> build_pipeline_config(const Node& root, const Schemas& schemas) {
  Problems problems;
  PipelineConfig config;
  if (!root.is_map()) {
    problems.add("configuration rejected", root.mark(),
                 "found " + root.describe() + ", expected a map with " + join(kKeys));
    return problems.take();
  }
  if (const Node* spec = root.find("quantization")) {
    auto built = build_quant_config(*spec, Node(), schemas);
    if (built.ok()) {
      config.quantization = std::move(*built);
    } else {
      add_all(std::move(built).error(), problems);
    }
  }
  for (const auto& [key, value] : root.entries()) {
    if (key == "version") {
      read_version(value, config, problems);
    } else if (key == "model") {
      config.model = read_name(key, value, problems);
    } else if (key == "rules") {
      config.quantization.rules = read_rules(value, schemas, problems);
    } else if (key == "components") {
      read_components(value, config.components, problems);
    } else if (key == "load") {
      read_load(value, config.load, problems);
    } else if (key == "run") {
      read_run(value, config.run, problems);
    } else if (key == "attention") {
      read_attention(value, problems);
      config.attention = value;
    } else if (key == "on_unsupported") {
      auto read = read_on_unsupported(value, problems);
      if (read) config.quantization.on_unsupported = *read;
    } else if (key == "allow_unmatched") {
      config.quantization.allow_unmatched = read_flag(key, value, problems);
    } else if (key != "quantization") {
      unknown_key("the configuration", key, value, kKeys, problems);
    }
  }
  if (!problems.empty()) return problems.take();
  return config;
}

}  // namespace loadstone::config
