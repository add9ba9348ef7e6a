#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/text.hpp"
#include "plan/explain.hpp"
#include "plan/flow.hpp"

namespace loadstone::plan {

namespace {

using Row = std::vector<std::string>;

/// Columns padded to their widest cell; lines end with their last letter.
std::string table(const std::vector<Row>& rows, size_t right_from, size_t right_to) {
  std::vector<size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      bool right = i >= right_from && i < right_to;
      line += fmt::format(fmt::runtime(right ? "{:>{}}" : "{:<{}}"), row[i], widths[i]);
      line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string method_or_decision(const LayerPlan& layer) {
  if (layer.decision == Decision::quantize) return layer.method;
  if (layer.method.empty()) return std::string(to_string(layer.decision));
  return std::string(to_string(layer.decision)) + " (" + layer.method + ")";
}

const std::string& component_name(const Plan& plan, const LayerPlan& layer) {
  return plan.graph.components[plan.layer_of(layer).component].name;
}

std::string shape_text(const formats::Shape& shape) {
  std::vector<std::string> dims;
  for (uint64_t dim : shape) dims.push_back(std::to_string(dim));
  return "[" + join(dims, ", ") + "]";
}

bool is_called(const Plan& plan, const LayerPlan& layer, std::string_view name) {
  const graph::Layer& shape = plan.layer_of(layer);
  const std::string& component = component_name(plan, layer);
  auto equals = [&](const std::string& path) {
    return name == path || (name.size() == component.size() + 1 + path.size() &&
                            name.starts_with(component) && name.ends_with(path) &&
                            (name[component.size()] == ':' || name[component.size()] == '.'));
  };
  if (equals(shape.path)) return true;
  return std::any_of(shape.parts.begin(), shape.parts.end(),
                     [&](const graph::Part& part) { return equals(part.name); });
}

std::string why_one(const Plan& plan, const LayerPlan& layer) {
  const graph::Layer& shape = plan.layer_of(layer);
  std::string out = fmt::format("{}: {}\n", component_name(plan, layer), escaped(shape.path));
  auto line = [&](std::string_view name, const std::string& value) {
    if (!value.empty()) out += fmt::format("  {:<10} {}\n", name, value);
  };
  line("kind", std::string(graph::to_string(shape.kind)) +
                   (shape.role.empty() ? "" : ", " + shape.role) +
                   (shape.out == 0 ? "" : fmt::format(", ({}, {})", shape.out, shape.in)));
  line("decision", method_or_decision(layer));
  line("rule", layer.rule);
  line("reason", layer.reason);
  for (const std::string& lost : layer.overrode) line("overrode", lost);
  if (shape.parts.size() > 1) {
    for (const graph::Part& part : shape.parts) {
      line("part", fmt::format("{} rows [{}, {}) from {}", part.shard, part.out_begin,
                               part.out_begin + part.out_count, escaped(part.name)));
    }
  }
  for (const graph::LayerTensor& tensor : shape.tensors) {
    const formats::TensorEntry& entry =
        plan.checkpoint->components[plan.graph.components[shape.component].checkpoint_component]
            .tensors[tensor.tensor];
    line("source", fmt::format("{} {} {}", escaped(entry.name), name_of(entry.dtype),
                               shape_text(entry.shape)));
  }
  for (const auto& [tensor, reason] : layer.unused) {
    line("unused", escaped(plan.entry_of(layer, tensor).name) + ": " + reason);
  }
  for (const Stored& stored : layer.stored) {
    line("stored", fmt::format("{} {} {}, {}", escaped(stored.name), name_of(stored.dtype),
                               shape_text(stored.shape), human_nbytes(stored.slab_nbytes())));
  }
  line("kernel", layer.kernel);
  if (made_on_gpu(plan, layer)) line("made", "on its GPU, piece by piece as it arrives");
  if (made_on_host(plan, layer)) {
    line("made", "in host memory and sent whole: " + why_made_on_host(plan, layer));
  }
  if (layer.passes == 2) {
    line("passes", layer.reread ? "2, read again for the second" : "2, held for the second");
  }
  if (layer.shared_with >= 0) {
    line(
        "shared",
        "with " + escaped(plan.layer_of(plan.layers[static_cast<size_t>(layer.shared_with)]).path));
  }
  line("bytes", fmt::format("{} before, {} after", human_nbytes(layer.nbytes_before),
                            human_nbytes(layer.nbytes_after)));
  return out;
}

}  // namespace

std::string summary_text(const Plan& plan) {
  std::string out = fmt::format("{} for {}: family {}\n", escaped(plan.checkpoint->path),
                                plan.target.name, plan.graph.family);
  if (!plan.graph.family_known) {
    out +=
        "this family is not known: only what a rule names or the checkpoint declares is "
        "quantized\n";
  }
  std::vector<Row> rows{{"component", "method", "layers", "before", "after"}};
  struct Sum {
    uint64_t layers = 0, before = 0, after = 0;
  };
  std::map<std::pair<uint32_t, std::string>, Sum> sums;  // by component and method
  uint64_t before = 0, after = 0;
  for (const LayerPlan& layer : plan.layers) {
    if (layer.decision == Decision::split) continue;
    Sum& sum = sums[{plan.layer_of(layer).component, method_or_decision(layer)}];
    sum.layers += 1;
    sum.before += layer.nbytes_before;
    sum.after += layer.nbytes_after;
    before += layer.nbytes_before;
    after += layer.nbytes_after;
  }
  for (const auto& [key, sum] : sums) {
    rows.push_back({plan.graph.components[key.first].name, key.second, std::to_string(sum.layers),
                    human_nbytes(sum.before), human_nbytes(sum.after)});
  }
  rows.push_back({"sum", "", "", human_nbytes(before), human_nbytes(after)});
  out += table(rows, 2, 5);
  out += fmt::format("peak on the host {} (stored {}, ring {}, in flight {})",
                     human_nbytes(plan.peaks.host),
                     human_nbytes(plan.peaks.stored - plan.peaks.stored_on_devices),
                     human_nbytes(plan.peaks.ring), human_nbytes(plan.peaks.in_flight));
  if (plan.peaks.device != 0) {
    out += fmt::format(", pinned {}, on devices {}", human_nbytes(plan.peaks.pinned),
                       human_nbytes(plan.peaks.device));
    if (plan.peaks.staging != 0) {
      out += fmt::format(" (stored {}, staging {})", human_nbytes(plan.peaks.stored_on_devices),
                         human_nbytes(plan.peaks.staging));
    }
  }
  out += "\n";
  if (const std::string run = plan.run.text(); !run.empty()) out += "run: " + run + "\n";
  if (plan.attention) out += plan.attention->text() + "\n";
  for (const std::string& note : plan.notes) out += "note: " + note + "\n";
  return out;
}

std::string layers_text(const Plan& plan) {
  std::vector<Row> rows{{"component", "layer", "role", "method", "before", "after", "why"}};
  for (const LayerPlan& layer : plan.layers) {
    const graph::Layer& shape = plan.layer_of(layer);
    std::string why = layer.rule;
    if (!layer.reason.empty()) why += why.empty() ? layer.reason : ": " + layer.reason;
    rows.push_back({component_name(plan, layer),
                    (layer.split_from >= 0 ? "  " : "") + escaped(shape.path),
                    shape.role.empty() ? std::string(graph::to_string(shape.kind)) : shape.role,
                    method_or_decision(layer), human_nbytes(layer.nbytes_before),
                    human_nbytes(layer.nbytes_after), why});
  }
  return table(rows, 4, 6);
}

Result<std::string> why_text(const Plan& plan, const std::string& name) {
  std::string out;
  std::vector<std::string> known;
  for (const LayerPlan& layer : plan.layers) {
    known.push_back(plan.layer_of(layer).path);
    if (!is_called(plan, layer, name)) continue;
    if (!out.empty()) out += "\n";
    out += why_one(plan, layer);
  }
  if (!out.empty()) return out;
  std::string hint = nearest(name, known);
  return Error{Code::not_found, "layer does not exist", "",
               "found " + quoted(name) + ", expected the path of one of " +
                   std::to_string(known.size()) + " layers",
               hint.empty() ? "" : quoted(hint)};
}

}  // namespace loadstone::plan
