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
const std::set<std::string> kInternal = {"ignored_layers_match_mode",
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

/// A method's fields as ours prints them: {"name": {"value", "from"}}.
Node value_of(const Node* fields, const char* name) {
  const Node* field = fields ? fields->find(name) : nullptr;
  return field ? at(*field, "value") : Node();
}

/// A text as a list, split at its commas.
Node split(const std::string& text) {
  std::vector<Node> items;
  std::string_view rest = text;
  while (true) {
    const size_t comma = rest.find(',');
    items.push_back(Node::of_text(std::string(rest.substr(0, comma))));
    if (comma == std::string_view::npos) return Node::of_list(std::move(items));
    rest.remove_prefix(comma + 1);
  }
}

/// A recorded field of ModelOpt's in ours: our dictionary holds the tool's own words, whose two
/// forms the reference reads into one set of fields.
Node modelopt_field(const Node* fields, const std::string& name) {
  const Node nested = value_of(fields, "quantization");
  const auto one = [&](const char* key) {
    const Node value = value_of(fields, key);
    return value.is_null() ? at(nested, key) : value;
  };
  const Node algorithm = one("quant_algo");
  std::string upper = algorithm.is_text() ? algorithm.text() : "";
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (name == "quant_method") return upper.empty() ? Node() : Node::of_text(upper);
  if (name == "is_checkpoint_fp8_serialized") return Node::of_bool(true);  // ours reads only
  if (name == "group_size" && one("group_size").is_null() && upper == "NVFP4") {
    return Node::of_integer(16);
  }
  if (name == "kv_cache_quant_method" || name == "kv_cache_quant_algo") {
    const Node scheme = one("kv_cache_scheme");
    const bool fp8 = at(scheme, "type") == Node::of_text("float") &&
                     at(scheme, "num_bits") == Node::of_integer(8);
    return fp8 ? Node::of_text("FP8") : one("kv_cache_quant_algo");
  }
  if (name != "exclude_modules") return one(name.c_str());
  std::vector<Node> all;
  for (const Node& list :
       {value_of(fields, "exclude_modules"), value_of(fields, "ignore"),
        value_of(fields, "ignored_layers"), at(nested, "exclude_modules"), at(nested, "ignore")}) {
    if (list.is_list()) all.insert(all.end(), list.items().begin(), list.items().end());
  }
  return Node::of_list(std::move(all));
}

/// The value of a recorded field in ours: AutoRound's `weight_bits` wins over `bits`, and its block
/// list may be one text.
Node our_field(const std::string& method, const Node* fields, const std::string& name) {
  if (method == "modelopt") return modelopt_field(fields, name);
  if (name == "weight_bits") {
    const Node bits = value_of(fields, "weight_bits");
    return bits.is_null() ? value_of(fields, "bits") : bits;
  }
  const Node value = value_of(fields, name.c_str());
  const bool blocks = name == "block_name_to_quantize" && value.is_text();
  return blocks ? split(value.text()) : value;
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
    const Node our_value = our_field(canonical(found), our_fields, name);
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

/// A family's layers: recorded by method, and those never offered to one.
std::string compare_layers(const Node& result, const Node& layers) {
  std::string more, fewer, unoffered, unknown;
  const auto compare = [&](const Node& names, bool quantized, std::string& more_of) {
    for (const Node& name : names.items()) {
      const Node* ours = layers.find(name.text());
      std::string* out = !ours                          ? &unknown
                         : ours->boolean() == quantized ? nullptr
                         : quantized                    ? &fewer
                                                        : &more_of;
      if (out) *out += (out->empty() ? "" : ", ") + name.text();
    }
  };
  for (const auto& [method, names] : at(result, "by_method").entries()) {
    compare(names, method != "UnquantizedLinearMethod", more);
  }
  compare(at(result, "never_offered"), false, unoffered);
  compare(at(result, "plain_linear"), false, unoffered);
  std::string out;
  const auto say = [&](const char* what, const std::string& names) {
    if (!names.empty()) out += (out.empty() ? "" : "; ") + (what + names);
  };
  say("unknown: ", unknown);
  say("kept, recorded quantized: ", fewer);
  say("quantized, recorded kept: ", more);
  say("quantized, never offered there: ", unoffered);
  return out;
}

}  // namespace

std::string difference(const std::string& kind, const Node& result, const Answer& ours) {
  const bool ok = result.find("ok")->boolean();
  const bool our_ok = ours.kind == Answer::Kind::accepted;
  if (ok != our_ok) return our_ok ? "accepted " + ours.value.to_json() : "refused: " + ours.error;
  if (!ok) return "";
  if (const Node* layers = ours.value.find("layers")) return compare_layers(result, *layers);
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
