#include "plan/routing_default.hpp"

#include <map>

namespace loadstone::plan {
namespace {

std::string reason_of(const std::string& why) {
  static const std::map<std::string, std::string> kReasons = {
      {"precision", "small and sensitive: errors here multiply"},
      {"io", "entry or exit of the model"},
      {"norm_mod", "modulation: its errors multiply into every block"},
      {"double_block", "double-stream block: the reference quantizes single-stream blocks only"},
      {"plain", "an ordinary product in the reference, never offered to a method"},
      {"component", "its component is outside the default scope"},
      {"stage", "its stage is outside the default scope"},
      {"router", "expert router"},
      {"head", "logits head"},
      {"not_linear", "no matrix product"},
      {"unknown", "no pattern of the family names it"},
      {"unknown_family", "no adapter knows this model"},
  };
  auto found = kReasons.find(why);
  return found == kReasons.end() ? why : found->second;
}

}  // namespace

std::string default_name(const graph::Layer& layer) {
  return layer.fallback.quantize ? "default:quantize" : "default:" + layer.fallback.why;
}

std::string default_reason(const graph::Layer& layer) {
  if (layer.role == "marker") return "marks the file's format";
  if (layer.fallback.quantize) return "no method asked for";
  return reason_of(layer.fallback.why);
}

}  // namespace loadstone::plan
