#include "config/engine_keys.hpp"

#include <array>

#include "base/text.hpp"
#include "config/problems.hpp"

namespace loadstone::config {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kRenamed = {{
    {"quantization", "quantization_config"},
    {"diffusion_quantization_config", "quantization_config"},
    {"kv_cache_dtype", "diffusion_kv_cache_dtype"},
    {"kv_cache_skip_steps", "diffusion_kv_cache_skip_steps"},
    {"kv_cache_skip_layers", "diffusion_kv_cache_skip_layers"},
}};

std::string_view renamed(std::string_view key) {
  for (const auto& [from, to] : kRenamed) {
    if (from == key) return to;
  }
  return key;
}

}  // namespace

Result<Node> fold_engine_keys(const Node& map) {
  Problems problems;
  std::vector<Node::Entry> out;
  for (const auto& [key, value] : map.entries()) {
    std::string target(renamed(key));
    auto same = [&](const Node::Entry& entry) { return entry.first == target; };
    auto found = out.begin();
    while (found != out.end() && !same(*found)) ++found;
    if (found == out.end()) {
      out.emplace_back(std::move(target), value);
    } else if (found->second.is_null()) {
      found->second = value;
    } else if (!value.is_null()) {
      problems.add("setting given twice", value.key_mark(),
                   "found " + quoted(key) + " beside another spelling of " + quoted(target) +
                       ", expected one of them");
    }
  }
  if (!problems.empty()) return problems.take();
  return Node::of_map(std::move(out), map.mark());
}

}  // namespace loadstone::config
