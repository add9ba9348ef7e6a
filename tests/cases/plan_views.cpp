#include "plan_views.hpp"

#include <fmt/format.h>

#include <sstream>

#include "plan/explain.hpp"

namespace loadstone::testing {
namespace {

std::string reads_of(const plan::Plan& plan) {
  std::string out;
  for (uint32_t index : plan.schedule) {
    const plan::LayerPlan& layer = plan.layers[index];
    out += fmt::format("{} passes {}{} scratch {} {} stat {}{}\n", plan.layer_of(layer).path,
                       layer.passes, layer.reread ? " reread" : "", layer.session_scratch,
                       layer.feed_scratch, layer.stat_nbytes, layer.session ? " session" : "");
    if (!layer.method.empty()) {
      out.insert(out.size() - 1,
                 fmt::format(" to {} in {} bias by {}{}", name_of(layer.load_dtype), layer.in,
                             layer.bias == LS_BIAS_BY_METHOD ? "method" : "host",
                             layer.produce_on == LS_PLACE_HOST ? "" : " any place"));
    }
    for (const plan::Source& one : layer.sources) {
      out += fmt::format("  source {} rows {}+{} by {}{}{} tag {}\n", one.tensor, one.row_begin,
                         one.row_count, one.granule, one.resident ? " resident" : "",
                         one.from_value ? " from value" : "", one.tag);
    }
    for (const plan::Identity& one : layer.identities) {
      out += fmt::format("  identity {} to {}: {} -> {}, {} x {} by {}, {}{} tag {}\n", one.tensor,
                         one.stored, one.src_offset, one.dst_offset, one.rows, one.row_nbytes,
                         one.src_stride, one.dst_stride, one.checked ? " checked" : "", one.tag);
    }
    for (const plan::Cast& one : layer.casts) {
      out += fmt::format("  cast {} to {}: {} -> {}, {}\n", one.tensor, one.stored, one.src_offset,
                         one.dst_offset, one.elems);
    }
    for (const plan::Stored& one : layer.stored) {
      out += fmt::format("  stored {} {} {} at {} align {}\n", one.name, name_of(one.dtype),
                         one.slab_nbytes(), one.offset, one.slab_align());
    }
  }
  return out;
}

std::string memory_of(const plan::Plan& plan) {
  std::string out;
  for (const plan::Slab& slab : plan.slabs) {
    const plan::Target& target = slab.target;
    out += fmt::format("slab {} {} on {}", slab.component, slab.nbytes, target.name);
    if (target.kind != LS_TARGET_CPU) out += fmt::format(" sm {} gpu {}", target.sm, target.index);
    out += "\n";
  }
  out += fmt::format("flow workers {} slots {} x {} in flight {}\n", plan.flow.workers,
                     plan.flow.slots, plan.flow.slot_nbytes, plan.flow.in_flight_nbytes);
  if (plan.flow.gpus != 0) {
    out += fmt::format("gpus {} pinned {} stage {} scratch {} in flight {}\n", plan.flow.gpus,
                       plan.flow.pinned_nbytes, plan.flow.stage_nbytes,
                       plan.flow.stage_scratch_nbytes, plan.flow.gpu_flight_nbytes);
  }
  for (const plan::Unit& unit : plan.flow.units) {
    out += fmt::format("unit {}+{} held {} feed {}", unit.begin, unit.count, unit.held_nbytes,
                       unit.feed_nbytes);
    out += plan.flow.gpus != 0 ? fmt::format(" gpu {}\n", unit.gpu_nbytes) : "\n";
  }
  return out + fmt::format("peaks host {} device {} stored {} ring {} in flight {}\n",
                           plan.peaks.host, plan.peaks.device, plan.peaks.stored, plan.peaks.ring,
                           plan.peaks.in_flight);
}

std::string shape_of(const plan::Plan& plan, const std::string& path) {
  std::string out;
  for (const graph::Layer& layer : plan.graph.layers) {
    if (layer.path != path) continue;
    out += fmt::format("{} {} {}x{} groups {}{}\n", path, graph::to_string(layer.kind), layer.out,
                       layer.in, layer.groups, layer.has_bias ? " bias" : "");
    for (const graph::Part& part : layer.parts) {
      out += fmt::format("  part {} group {} rows {}+{} of {}+{}\n", part.name, part.group,
                         part.out_begin, part.out_count, part.file_begin, part.file_total);
    }
    for (const graph::LayerTensor& one : layer.tensors) {
      out += fmt::format("  tensor {} part {} group {}\n", one.suffix, one.part, one.group);
    }
  }
  return out;
}

std::string lines(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts) out += text + "\n";
  return out;
}

std::string bytes_of(const plan::Plan& plan, const std::string& name) {
  std::string out;
  for (const formats::TensorEntry& tensor : plan.checkpoint->components[0].tensors) {
    if (tensor.name != name) continue;
    std::vector<std::byte> bytes(tensor.nbytes);
    const Status read = plan.checkpoint->files[tensor.file].file->read_exact(bytes, tensor.offset);
    if (!read.ok()) return read.error().text() + "\n";
    for (std::byte one : bytes) out += (out.empty() ? "" : " ") + std::to_string(int(one));
  }
  return out + "\n";
}

std::string attention_of(const plan::Plan& plan) {
  if (!plan.attention) return "none\n";
  return plan.attention->text() + "\n" + plan.to_node().find("attention")->to_json() + "\n";
}

/// `where` is "COMPONENT PLACE STEP".
std::string attends(const plan::Plan& plan, const std::string& where) {
  std::istringstream in(where);
  std::string name, path;
  uint64_t step = 0;
  in >> name >> path >> step;
  uint32_t component = 0;
  while (plan.graph.components[component].name != name) ++component;
  const plan::AttentionSite* site = plan.attention->site(component, path);
  if (!site) return where + ": no attention\n";
  const bool quantizes = site->quantized && plan.attention->quantizes_step(step);
  return where + (quantizes ? ": " + plan.attention->dtype : ": native") + "\n";
}

}  // namespace

std::string view(const plan::Plan& plan, const std::string& what) {
  if (what == "layers") return plan::layers_text(plan);
  if (what == "summary") return plan::summary_text(plan);
  if (what == "json") return plan.to_node().to_json(1) + "\n";
  if (what == "components") return plan.to_node().find("components")->to_json() + "\n";
  if (what == "reads") return reads_of(plan);
  if (what == "memory") return memory_of(plan);
  if (what == "notes") return lines(plan.notes);
  if (what == "rules") return lines(plan.rules);
  if (what == "attention") return attention_of(plan);
  if (what.starts_with("attends ")) return attends(plan, what.substr(8));
  if (what.starts_with("layer ")) {
    const Node json = plan.to_node();
    for (const Node& layer : json.find("layers")->items()) {
      if (layer.find("layer")->text() == what.substr(6)) return layer.to_json() + "\n";
    }
  }
  if (what.starts_with("shape ")) return shape_of(plan, what.substr(6));
  if (what.starts_with("bytes ")) return bytes_of(plan, what.substr(6));
  if (what.starts_with("why ")) {
    const auto text = plan::why_text(plan, what.substr(4));
    return text.ok() ? *text : text.error().text() + "\n";
  }
  return "nothing is called " + what + "\n";
}

}  // namespace loadstone::testing
