#include <thread>

#include "base/text.hpp"
#include "conformance/points.hpp"

namespace loadstone::conformance {

namespace {

using plugin::LayerAnswer;

/// Everything of an answer as text, so that two can be compared and shown.
std::string text_of(const LayerAnswer& answer) {
  std::string out;
  const auto add = [&out](auto... values) { ((out += std::to_string(values) + " "), ...); };
  const ls_work& work = answer.work;
  add(work.verdict, work.passes, work.bias, work.produce_on, work.stat_nbytes, work.session_scratch,
      work.feed_scratch, work.note, work.weight_error, work.activation_error);
  out += answer.reason + "|" + answer.kernel + "|";
  for (const ls_source& s : answer.sources) {
    add(s.tensor, s.mode, s.tag, s.row_begin, s.row_count, s.granule);
  }
  for (size_t i = 0; i < answer.stored.size(); ++i) {
    const ls_stored& s = answer.stored[i];
    add(s.dtype, s.rank, s.align);
    for (uint32_t axis = 0; axis < s.rank; ++axis) add(s.shape[axis]);
    out += answer.stored_names[i] + "|";
  }
  for (const ls_identity& i : answer.identities) {
    add(i.stored, i.tensor, i.checked, i.src_offset, i.dst_offset, i.rows, i.row_nbytes,
        i.src_stride, i.dst_stride, i.tag);
  }
  for (const ls_repack& r : answer.repacks) add(r.stored, r.nbytes, r.align);
  for (const auto& [tensor, reason] : answer.unused) out += std::to_string(tensor) + reason + "|";
  return out;
}

std::string answer_text(const plugin::MethodConfig& config, const LayerCase& layer) {
  CaseView view(layer);
  auto answer = ask(config, view);
  return answer.ok() ? text_of(*answer) : answer.error().text();
}

Status check_refusal(Context& context, const config::Field& field, const Node& value) {
  config::MethodChoice choice;
  choice.method = context.method().name();
  choice.fields[field.name] = {value, config::From::user};
  const auto made = plugin::MethodConfig::make(context.method(), choice);
  ++context.cases;
  if (made.ok() || made.error().text().find(field.name) != std::string::npos) return {};
  return Error{Code::internal, "", field.name + " = " + value.describe(),
               "found refusal " + loadstone::quoted(made.error().text()) +
                   ", expected one that names the field",
               ""};
}

}  // namespace

Result<std::string> point_schema(Context& context) {
  LS_CHECK(context.default_status());
  ++context.cases;
  for (const config::Field& field : context.method().schema().fields) {
    if (field.type == config::FieldType::integer) {
      for (const int64_t value : {-1, 0, 1, 7}) {
        if (field.low && static_cast<double>(value) < *field.low) continue;
        LS_CHECK(check_refusal(context, field, Node::of_integer(value)));
      }
    }
    for (const std::string& choice : field.choices) {
      LS_CHECK(check_refusal(context, field, Node::of_text(choice)));
    }
  }
  return std::string();
}

Result<std::string> point_plan(Context& context) {
  if (context.configs().empty()) return std::string("the default configuration is refused");
  for (const NamedConfig& named : context.configs()) {
    std::vector<LayerCase> layers;
    std::vector<std::string> first;
    for (const Recipe& recipe : ordinary_recipes()) {
      layers.push_back(make_case(recipe, context.random()));
      first.push_back(answer_text(*named.config, layers.back()));
    }
    // Again, backwards and on two threads at once.
    std::vector<std::string> second(layers.size()), third(layers.size());
    const auto ask_all = [&](std::vector<std::string>& out) {
      for (size_t i = layers.size(); i-- > 0;) out[i] = answer_text(*named.config, layers[i]);
    };
    std::thread other([&] { ask_all(second); });
    ask_all(third);
    other.join();
    for (size_t i = 0; i < layers.size(); ++i) {
      ++context.cases;
      if (first[i] == second[i] && first[i] == third[i]) continue;
      return Error{Code::internal, "", named.title + ", " + layers[i].title,
                   "found two answers: " + first[i] + " and " +
                       (first[i] == second[i] ? third[i] : second[i]),
                   ""};
    }
    if (!context.has_time()) break;
  }
  // A wrong plan is an error of the host's checks; "can't" is an answer.
  Status ran = for_each_sample(context, ordinary_recipes(), [](const Sample&) { return Status(); });
  if (!ran.ok()) return std::move(ran).error();
  return std::string();
}

Result<std::string> point_ignored(Context& context) {
  const plugin::Method& method = context.method();
  bool has_field = false;
  for (const config::Field& field : method.schema().fields) {
    has_field = has_field || field.name == "ignored_layers";
  }
  if (!has_field || method.table().ignored == nullptr) return std::string("no ignored_layers");
  struct Case {
    const char* entry;
    bool matches;
  };
  // The layer is transformer's blocks.7.attn.proj, its one module block.proj.
  static const Case kCases[] = {
      {"attn", true},           {"blocks.7.attn.proj", true},
      {"attn.proj", true},      {"transformer.blocks.7", true},
      {"block.proj", true},     {"att", false},
      {"blocks.77", false},     {"proj.attn", false},
      {"*.attn.*", true},       {"blocks.?.mlp*", false},
      {"re:.*attn\\.pr", true}, {"re:attn", false},
  };
  Random random(1);
  const LayerCase layer = make_case({LS_KIND_LINEAR, Layout::single, 64, 64}, random);
  const CaseView view(layer);
  for (const Case& one : kCases) {
    config::MethodChoice choice;
    choice.method = method.name();
    choice.fields["ignored_layers"] = {Node::of_list({Node::of_text(one.entry)}),
                                       config::From::user};
    LS_TRY(const auto config, plugin::MethodConfig::make(method, choice));
    const char* entry = nullptr;
    const int32_t status = plugin::call_plugin(
        [&] { return method.table().ignored(config->handle(), &view.get(), &entry); });
    LS_CHECK(plugin::check_call(status, method, "ignored", one.entry));
    ++context.cases;
    const bool matched = entry != nullptr;
    if (matched == one.matches && (!matched || std::string_view(entry) == one.entry)) continue;
    return Error{Code::internal, "", std::string("entry ") + loadstone::quoted(one.entry),
                 std::string("found ") + (matched ? "a match" : "no match") + ", expected " +
                     (one.matches ? "one" : "none"),
                 ""};
  }
  return std::string();
}

}  // namespace loadstone::conformance
