// A recorded result held against our answer.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "answer.hpp"
#include "base/text.hpp"

namespace loadstone::oracle {
namespace {

/// Fields of the reference that mean nothing outside it.
const std::set<std::string> kInternal = {"ignored_layers_match_mode", "quant_method",
                                         "is_checkpoint_nvfp4_serialized"};

std::string canonical(const std::string& method) {
  static const std::map<std::string, std::string> kSame = {
      {"inc", "autoround"},           {"auto_round", "autoround"},    {"modelopt_fp4", "modelopt"},
      {"modelopt_mixed", "modelopt"}, {"modelopt_mxfp8", "modelopt"}, {"ascend", "msmodelslim"}};
  const std::string folded = config::fold_name(method);
  auto found = kSame.find(folded);
  return found == kSame.end() ? folded : found->second;
}

bool is_empty(const Node& value) {
  return value.is_null() || (value.is_bool() && !value.boolean()) ||
         (value.is_list() && value.items().empty()) || (value.is_map() && value.entries().empty());
}

/// The value of a recorded field in ours: AutoRound's `weight_bits` wins over `bits`, and its block
/// list may be one text.
Node our_field(const Node* fields, const std::string& name) {
  auto value_of = [&](const char* key) {
    const Node* field = fields ? fields->find(key) : nullptr;
    const Node* value = field ? field->find("value") : nullptr;
    return value ? *value : Node();
  };
  if (name == "weight_bits") {
    Node bits = value_of("weight_bits");
    return bits.is_null() ? value_of("bits") : bits;
  }
  Node value = value_of(name.c_str());
  if (name != "block_name_to_quantize" || !value.is_text()) return value;
  std::vector<Node> items;
  std::string_view rest = value.text();
  while (true) {
    const size_t comma = rest.find(',');
    items.push_back(Node::of_text(std::string(rest.substr(0, comma))));
    if (comma == std::string_view::npos) return Node::of_list(std::move(items));
    rest.remove_prefix(comma + 1);
  }
}

std::string compare_method(const Node& theirs, const Node& ours) {
  const Node* method = theirs.find("method");
  const Node* our_method = ours.find("method");
  const std::string expected = method && method->is_text() ? method->text() : "";
  const std::string found = our_method && our_method->is_text() ? our_method->text() : "";
  if (canonical(expected) != canonical(found)) {
    return "method " + quoted(found) + ", recorded " + quoted(expected);
  }
  const Node* fields = theirs.find("fields");
  const Node* our_fields = ours.find("fields");
  std::string out;
  if (!fields) return out;
  for (const auto& [name, value] : fields->entries()) {
    if (kInternal.count(name)) continue;
    const Node our_value = our_field(our_fields, name);
    if (is_empty(value) && is_empty(our_value)) continue;
    if (value == our_value) continue;
    out += (out.empty() ? "field " : "; field ") + name + " " + our_value.to_json() +
           ", recorded " + value.to_json();
  }
  return out;
}

/// Equal, numbers to float64's last digits.
bool same_value(const Node& a, const Node& b) {
  if (a.is_numeric() && b.is_numeric()) {
    const double x = a.number(), y = b.number();
    return std::abs(x - y) <= 1e-14 * std::max(std::abs(x), std::abs(y));
  }
  if (!a.is_map() || !b.is_map()) return a == b;
  if (a.entries().size() != b.entries().size()) return false;
  return std::all_of(a.entries().begin(), a.entries().end(), [&](const auto& entry) {
    const Node* other = b.find(entry.first);
    return other && same_value(entry.second, *other);
  });
}

std::string compare_config(const Node& result, const Node& ours) {
  const Node* theirs_class = result.find("class");
  const Node* components = result.find("components");
  const Node* our_components = ours.find("components");
  if (!components) {
    if (our_components && !our_components->is_null()) return "a component map";
    if (theirs_class && theirs_class->is_null()) {
      return ours.find("method")->is_null() ? "" : "a method, recorded nothing";
    }
    return compare_method(result, ours);
  }
  if (!our_components || our_components->is_null()) return "no component map";
  std::vector<Node::Entry> all = components->entries();
  const Node* otherwise = result.find("default");
  if (otherwise && !otherwise->is_null()) all.emplace_back("default", *otherwise);
  for (const auto& [name, value] : all) {
    const Node* our_value = our_components->find(name);
    if (!our_value) return "no component " + quoted(name);
    if (value.is_null() != our_value->is_null()) return "component " + quoted(name) + " differs";
    std::string inner = value.is_null() ? "" : compare_method(value, *our_value);
    if (!inner.empty()) return "component " + quoted(name) + ": " + inner;
  }
  return "";
}

}  // namespace

std::string difference(const std::string& kind, const Node& result, const Answer& ours) {
  const bool ok = result.find("ok")->boolean();
  const bool our_ok = ours.kind == Answer::Kind::accepted;
  if (ok != our_ok) return our_ok ? "accepted " + ours.value.to_json() : "refused: " + ours.error;
  if (!ok) return "";
  if (const Node* quantized = result.find("quantized")) {
    if (*quantized == *ours.value.find("quantized")) return "";
    return (quantized->boolean() ? "kept, recorded quantized: " : "quantized, recorded kept: ") +
           ours.value.to_json();
  }
  if (const Node* value = result.find("value"); value || kind == "selector") {
    const Node nothing;
    const Node& expected = value ? *value : nothing;
    return same_value(expected, ours.value)
               ? ""
               : ours.value.to_json() + ", recorded " + expected.to_json();
  }
  return compare_config(result, ours.value);
}

}  // namespace loadstone::oracle
