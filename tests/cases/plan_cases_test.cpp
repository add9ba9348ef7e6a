// Text-driven cases of whole plans: tests/cases/plan*.yaml, whose head says the format. A case is a
// model of small real files, a configuration, and what the plan says: tables, JSON, the story of
// one layer, reads and memory.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "case_files.hpp"
#include "formats/safetensors_writer.hpp"
#include "graph/adapter.hpp"
#include "plan/explain.hpp"
#include "plan/plan.hpp"

namespace loadstone::plan {
namespace {

namespace fs = std::filesystem;

/// A folder that goes with its case.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("loadstone-plan-cases-" + std::to_string(getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
};

plugin::Registry scan() {
  plugin::RegistryOptions options;
  options.dirs = {LOADSTONE_BINARY_DIR "/tests/load_plugins",
                  LOADSTONE_BINARY_DIR "/test_plugins/routes"};
  options.trust_writable = true;
  auto scanned = plugin::Registry::scan(options);
  if (!scanned.ok()) throw std::runtime_error(scanned.error().text());
  return std::move(*scanned);
}

void put(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

/// "BF16 8x16", and the byte that fills it ("BF16 8x16 = 63").
void write_tensors(const fs::path& path, const Node& tensors) {
  std::vector<formats::TensorSpec> specs;
  std::vector<std::byte> bytes;
  for (const auto& [pattern, text] : tensors.entries()) {
    for (const graph::Expanded& one : graph::expand_braces(pattern)) {
      formats::TensorSpec& spec = specs.emplace_back();
      std::istringstream in(text.text());
      std::string dtype, dims, equals;
      int fill = 0;
      in >> dtype >> dims >> equals >> fill;
      spec.name = one.text;
      spec.dtype = dtype_from_safetensors(dtype).value();
      std::istringstream each(dims);
      for (std::string dim; std::getline(each, dim, 'x');) {
        if (dim != "-") spec.shape.push_back(std::stoull(dim));
      }
      bytes.resize(bytes.size() + tensor_nbytes(spec.dtype, spec.shape).value(), std::byte(fill));
    }
  }
  fs::create_directories(path.parent_path());
  auto writer = formats::SafetensorsWriter::create(path.string(), specs);
  if (!writer.ok()) throw std::runtime_error(writer.error().text());
  if (!writer->append(bytes).ok() || !writer->finish().ok()) throw std::runtime_error("writing");
}

/// The model's files; `with` of the case adds or replaces tensors and declarations by component.
Result<formats::Checkpoint> model_of(const fs::path& dir, const Node& model, const Node* with) {
  std::string index = "{\"_class_name\": " + model.find("pipeline")->to_json();
  for (const auto& [name, node] : model.find("components")->entries()) {
    const Node* extra = with ? with->find(name) : nullptr;
    std::string config = "{\"_class_name\": " + node.find("class")->to_json();
    if (const Node* declares = extra ? extra->find("declares") : nullptr) {
      config += ", \"quantization_config\": " + declares->to_json();
    }
    put(dir / name / "config.json", config + "}");
    std::vector<Node::Entry> tensors = node.find("tensors")->entries();
    if (const Node* more = extra ? extra->find("tensors") : nullptr) {
      for (const auto& [key, value] : more->entries()) {
        auto same = std::find_if(tensors.begin(), tensors.end(),
                                 [&, &k = key](const auto& t) { return t.first == k; });
        same == tensors.end() ? tensors.emplace_back(key, value) : * same = {key, value};
      }
    }
    write_tensors(dir / name / "model.safetensors", Node::of_map(std::move(tensors)));
    index += ", \"" + name + "\": [\"diffusers\", " + node.find("class")->to_json() + "]";
  }
  put(dir / "model_index.json", index + "}");
  return formats::open_checkpoint(system_files(), dir.string());
}

LoadOptions options_of(const Node* given) {
  LoadOptions out;
  out.threads = 4;
  if (!given) return out;
  for (const auto& [key, value] : given->entries()) {
    const auto number = [&v = value] { return static_cast<uint64_t>(v.integer()); };
    if (key == "dtype") out.dtype = dtype_from_safetensors(value.text()).value();
    if (key == "ring") out.ring_nbytes = number();
    if (key == "piece") out.piece_nbytes = number();
    if (key == "threads") out.threads = static_cast<unsigned>(number());
    if (key == "repack") out.repack = value.boolean();
    if (key == "apart") out.apart = value.boolean();
    if (key != "place") continue;
    for (const auto& [component, target] : value.entries()) out.place[component] = target.text();
  }
  return out;
}

std::string reads_of(const Plan& plan) {
  std::string out;
  for (uint32_t index : plan.schedule) {
    const LayerPlan& layer = plan.layers[index];
    out += fmt::format("{} passes {}{} scratch {} {} stat {} held {}\n", plan.layer_of(layer).path,
                       layer.passes, layer.reread ? " reread" : "", layer.session_scratch,
                       layer.feed_scratch, layer.stat_nbytes, layer.session);
    for (const Source& one : layer.sources) {
      out += fmt::format("  source {} rows {}+{} by {}{}{} tag {}\n", one.tensor, one.row_begin,
                         one.row_count, one.granule, one.resident ? " resident" : "",
                         one.from_value ? " from value" : "", one.tag);
    }
    for (const Identity& one : layer.identities) {
      out += fmt::format("  identity {} to {}: {} -> {}, {} x {} by {}, {}{} tag {}\n", one.tensor,
                         one.stored, one.src_offset, one.dst_offset, one.rows, one.row_nbytes,
                         one.src_stride, one.dst_stride, one.checked ? " checked" : "", one.tag);
    }
    for (const Cast& one : layer.casts) {
      out += fmt::format("  cast {} to {}: {} -> {}, {}\n", one.tensor, one.stored, one.src_offset,
                         one.dst_offset, one.elems);
    }
    for (const Stored& one : layer.stored) {
      out += fmt::format("  stored {} {} {} at {} align {}\n", one.name, name_of(one.dtype),
                         one.slab_nbytes(), one.offset, one.slab_align());
    }
  }
  return out;
}

std::string memory_of(const Plan& plan) {
  std::string out;
  for (const Slab& slab : plan.slabs) {
    out += fmt::format("slab {} {} on {}\n", slab.component, slab.nbytes, slab.target.name);
  }
  out += fmt::format("flow workers {} slots {} x {} in flight {}\n", plan.flow.workers,
                     plan.flow.slots, plan.flow.slot_nbytes, plan.flow.in_flight_nbytes);
  for (const Unit& unit : plan.flow.units) {
    out += fmt::format("unit {}+{} held {} feed {}\n", unit.begin, unit.count, unit.held_nbytes,
                       unit.feed_nbytes);
  }
  return out + fmt::format("peaks host {} device {} stored {} ring {} in flight {}\n",
                           plan.peaks.host, plan.peaks.device, plan.peaks.stored, plan.peaks.ring,
                           plan.peaks.in_flight);
}

std::string lines(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts) out += text + "\n";
  return out;
}

/// One view of a plan: what a case's `show` names.
std::string view(const Plan& plan, const std::string& what) {
  if (what == "layers") return layers_text(plan);
  if (what == "summary") return summary_text(plan);
  if (what == "json") return plan.to_node().to_json(1) + "\n";
  if (what == "reads") return reads_of(plan);
  if (what == "memory") return memory_of(plan);
  if (what == "notes") return lines(plan.notes);
  if (what == "rules") return lines(plan.rules);
  if (what.starts_with("layer ")) {
    const Node json = plan.to_node();
    for (const Node& layer : json.find("layers")->items()) {
      if (layer.find("layer")->text() == what.substr(6)) return layer.to_json() + "\n";
    }
  }
  if (what.starts_with("why ")) {
    const auto text = why_text(plan, what.substr(4));
    return text.ok() ? *text : text.error().text() + "\n";
  }
  return "nothing is called " + what + "\n";
}

Result<std::string> outcome(const fs::path& dir, const Node& file, const Node& one,
                            plugin::Registry& registry) {
  LS_TRY(auto opened,
         model_of(dir, *file.find("models")->find(one.find("model")->text()), one.find("with")));
  auto checkpoint = std::make_shared<const formats::Checkpoint>(std::move(opened));
  LS_TRY(graph::Graph graph,
         graph::build_graph(*checkpoint, LOADSTONE_SOURCE_DIR "/model_adapters"));
  LS_TRY(config::Schemas schemas, registry.schemas());
  const Node* text = one.find("config");
  config::QuantConfig quantization;
  if (text) {
    LS_TRY(Node root, config::parse_yaml(text->text(), "c.yaml"));
    LS_TRY(config::PipelineConfig made, config::build_pipeline_config(root, schemas));
    quantization = made.quantization;
  }
  const Node* on = one.find("target");
  LS_TRY(Target target, parse_target(on ? on->text() : "cpu"));
  LS_TRY(Plan plan, make_plan(checkpoint, std::move(graph), quantization, registry, target,
                              options_of(one.find("options"))));
  std::string out;
  for (const Node& what : one.find("show")->items()) out += view(plan, what.text());
  return out;
}

TEST(Plans, Cases) {
  plugin::Registry registry = scan();
  size_t count = 0;
  for (const auto& path : testing::case_files("plan")) {
    const Node file = testing::read_cases(path);
    for (const Node& one : file.find("cases")->items()) {
      ++count;
      const Folder folder;
      const auto made = outcome(folder.path, file, one, registry);
      std::string got = made.ok() ? *made : made.error().text() + "\n";
      const std::string place = folder.path.string();
      for (size_t at = 0; (at = got.find(place, at)) != std::string::npos;) {
        got.replace(at, place.size(), "MODEL");
      }
      EXPECT_EQ(got, one.find("out")->text()) << one.mark().text() << " gives\n"
                                              << Node::of_text(got).to_json();
    }
  }
  EXPECT_GE(count, 1u);
}

}  // namespace
}  // namespace loadstone::plan
