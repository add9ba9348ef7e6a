#include "plan/attention.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/text.hpp"
#include "config/attention.hpp"
#include "plan/plan.hpp"

namespace loadstone::plan {
namespace {

/// A module's path as attention sees it.
struct Place {
  std::string path;
  std::optional<uint64_t> index;
};

std::optional<uint64_t> number_of(std::string_view segment) {
  uint64_t value = 0;
  const char* const end = segment.data() + segment.size();
  const auto [stop, error] = std::from_chars(segment.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

Place place_of(std::string_view path) {
  std::optional<uint64_t> index;
  for (size_t end = 0, begin = 0; end != path.npos; begin = end + 1) {
    end = path.find('.', begin);
    if (index) return {std::string(path.substr(0, end)), index};
    index = number_of(path.substr(begin, end - begin));
  }
  return {std::string(index ? path : path.substr(0, path.rfind('.'))), index};
}

Error refused(const config::Attention& asked, std::string found, std::string expected) {
  return Error{Code::unsupported,
               "attention quantization refused",
               asked.dtype_mark.text(),
               "found " + quoted(asked.kv_cache_dtype) + " " + std::move(found) + ", expected " +
                   std::move(expected),
               "",
               {}};
}

/// The kernel of a target, or why there is none.
Result<std::string> kernel_on(const Target& target, const config::Attention& asked) {
  if (target.kind == LS_TARGET_CPU) return std::string("e4m3 operands, float32 sums");
  constexpr uint32_t kAda = 89, kHopper = 90;
  if (target.sm != kHopper) {
    return refused(asked, "for " + target.name,
                   target.sm < kAda ? "a target with fp8 units and a kernel: cpu or cuda:sm90"
                                    : "a target with a kernel: cpu or cuda:sm90");
  }
#ifdef LOADSTONE_CUDA
  return std::string("wgmma e4m3, sums of 128 keys in float32");
#else
  return refused(asked, "for " + target.name, "a build with CUDA kernels");
#endif
}

Error no_such_layer(const config::Attention& asked, uint64_t index,
                    const std::vector<uint64_t>& known) {
  return Error{
      Code::invalid_config,
      "skip_layers entry matches nothing",
      asked.layers_mark.text(),
      "found layer " + std::to_string(index) + ", expected 0 to " + std::to_string(known.back()),
      "",
      {}};
}

Error without_index(const config::Attention& asked, const std::string& path) {
  return Error{Code::invalid_config,
               "skip_layers can't tell layers apart",
               asked.layers_mark.text(),
               "found attention at " + quoted(path) + ", expected a number in its path",
               "",
               {}};
}

std::string ranges(const std::vector<uint64_t>& sorted) {
  std::vector<std::string> out;
  for (size_t i = 0; i < sorted.size();) {
    size_t j = i;
    while (j + 1 < sorted.size() && sorted[j + 1] == sorted[j] + 1) ++j;
    out.push_back(std::to_string(sorted[i]) + (j == i ? "" : "-" + std::to_string(sorted[j])));
    i = j + 1;
  }
  std::string text;
  for (const std::string& one : out) text += (text.empty() ? "" : ",") + one;
  return text;
}

Node integers(const std::vector<uint64_t>& values) {
  std::vector<Node> items;
  for (uint64_t value : values) items.push_back(Node::of_integer(static_cast<int64_t>(value)));
  return Node::of_list(std::move(items));
}

/// Sites in order, and every index that one of them has, sorted.
struct Sites {
  std::vector<AttentionSite> all;
  std::vector<uint64_t> indices;
};

Result<Sites> find_sites(const Plan& plan, const config::Attention& asked) {
  Sites out;
  for (const LayerPlan& layer : plan.layers) {
    const graph::Layer& shape = plan.layer_of(layer);
    const graph::GraphComponent& component = plan.graph.components[shape.component];
    if (component.kind != "diffusion_transformer" || !shape.role.starts_with("attention.")) {
      continue;
    }
    const Place place = place_of(shape.path);
    if (!place.index && asked.skip_layers) return without_index(asked, place.path);
    const bool known = std::any_of(out.all.begin(), out.all.end(), [&](const AttentionSite& site) {
      return site.component == shape.component && site.path == place.path;
    });
    if (known) continue;
    const bool skipped =
        asked.skip_layers &&
        std::binary_search(asked.skip_layers->begin(), asked.skip_layers->end(), *place.index);
    out.all.push_back({shape.component, place.path, !skipped});
    if (place.index) out.indices.push_back(*place.index);
  }
  std::sort(out.indices.begin(), out.indices.end());
  return out;
}

Result<AttentionPlan> lay_over(const Plan& plan, const config::Attention& asked) {
  LS_TRY(Sites sites, find_sites(plan, asked));
  if (sites.all.empty()) {
    return refused(asked, "for family " + plan.graph.family,
                   "a family with attention in a diffusion transformer");
  }
  AttentionPlan out{.dtype = asked.kv_cache_dtype,
                    .rule = asked.dtype_mark.text(),
                    .kernel = "",
                    .skip_steps = asked.skip_steps.value_or(std::vector<uint64_t>()),
                    .sites = {}};
  for (const AttentionSite& site : sites.all) {
    LS_TRY(out.kernel, kernel_on(plan.slabs[site.component].target, asked));
  }
  for (uint64_t index : asked.skip_layers.value_or(std::vector<uint64_t>())) {
    if (!std::binary_search(sites.indices.begin(), sites.indices.end(), index)) {
      return no_such_layer(asked, index, sites.indices);
    }
  }
  out.sites = std::move(sites.all);
  return out;
}

}  // namespace

Status plan_attention(const Node& section, Plan& plan) {
  config::Problems problems;
  const config::Attention asked = config::read_attention(section, problems);
  if (!problems.empty()) return problems.take();
  if (asked.kv_cache_dtype.empty()) return {};
  LS_TRY(plan.attention, lay_over(plan, asked));
  return {};
}

bool AttentionPlan::quantizes_step(uint64_t step) const {
  return !std::binary_search(skip_steps.begin(), skip_steps.end(), step);
}

const AttentionSite* AttentionPlan::site(uint32_t component, std::string_view path) const {
  const auto found = std::find_if(sites.begin(), sites.end(), [&](const AttentionSite& one) {
    return one.component == component && one.path == path;
  });
  return found == sites.end() ? nullptr : &*found;
}

Node AttentionPlan::to_node(const Plan& plan) const {
  std::vector<Node> items;
  for (const AttentionSite& site : sites) {
    items.push_back(Node::of_map(
        {{"component", Node::of_text(plan.graph.components[site.component].name)},
         {"layer", Node::of_text(site.path)},
         {"decision", Node::of_text(site.quantized ? dtype : "native")},
         {"reason", Node::of_text(site.quantized ? "kv_cache_dtype" : "skip_layers")}}));
  }
  return Node::of_map({{"dtype", Node::of_text(dtype)},
                       {"rule", Node::of_text(rule)},
                       {"kernel", Node::of_text(kernel)},
                       {"skip_steps", integers(skip_steps)},
                       {"layers", Node::of_list(std::move(items))}});
}

std::string AttentionPlan::text() const {
  std::vector<std::string> native;
  for (const AttentionSite& site : sites) {
    if (!site.quantized) native.push_back(site.path);
  }
  std::string out = "attention: " + dtype + " in " + std::to_string(sites.size() - native.size()) +
                    " of " + std::to_string(sites.size()) + " places (" + rule + "), " + kernel;
  if (!native.empty()) out += "; native: " + join(native, " and ", 6);
  if (!skip_steps.empty()) out += "; steps " + ranges(skip_steps) + " native";
  return out;
}

}  // namespace loadstone::plan
