#include <fmt/format.h>

#include <filesystem>

#include "base/text.hpp"
#include "conformance/points.hpp"

namespace loadstone::conformance {

namespace {

/// Other values of a field, one configuration each.
std::vector<Node> other_values(const config::Field& field) {
  std::vector<Node> out;
  if (field.type == config::FieldType::boolean) {
    const bool now = field.fallback.is_bool() && field.fallback.boolean();
    out.push_back(Node::of_bool(!now));
  }
  if (field.type == config::FieldType::text) {
    for (const std::string& choice : field.choices) {
      if (!field.fallback.is_text() || field.fallback.text() != choice) {
        out.push_back(Node::of_text(choice));
      }
    }
  }
  if (field.type == config::FieldType::integer) {
    for (const int64_t value : {1, 3, 16, 128}) {
      if (field.low && static_cast<double>(value) < *field.low) continue;
      if (field.high && static_cast<double>(value) > *field.high) continue;
      if (field.fallback.is_integer() && field.fallback.integer() == value) continue;
      out.push_back(Node::of_integer(value));
    }
  }
  return out;
}

bool is_cant(Code code) {
  return code == Code::unsupported || code == Code::invalid_config ||
         code == Code::invalid_checkpoint;
}

}  // namespace

Context::Context(const plugin::Library& library, const plugin::Method& method, uint64_t seed,
                 double seconds)
    : library_(library), method_(method), random_(seed) {
  const auto limit = std::chrono::duration<double>(seconds > 0 ? seconds : 3600.0);
  deadline_ = std::chrono::steady_clock::now() +
              std::chrono::duration_cast<std::chrono::steady_clock::duration>(limit);
  make_configs();
}

bool Context::has_time() const { return std::chrono::steady_clock::now() < deadline_; }

void Context::make_configs() {
  config::MethodChoice plain;
  plain.method = method_.name();
  auto made = plugin::MethodConfig::make(method_, plain);
  if (!made.ok()) {
    default_status_ = std::move(made).error();
  } else {
    configs_.push_back({"default", std::move(made).value()});
  }
  for (const config::Field& field : method_.schema().fields) {
    if (field.declared_only) continue;
    for (const Node& value : other_values(field)) {
      config::MethodChoice choice = plain;
      choice.fields[field.name] = {value, config::From::user};
      auto other = plugin::MethodConfig::make(method_, choice);
      if (!other.ok()) continue;  // the schema point looks at refusals
      configs_.push_back({field.name + "=" + value.describe(), std::move(other).value()});
    }
  }
}

std::string text_of(double value) { return fmt::format("{:.3g}", value); }

Status Context::add_checkpoint(const std::string& checkpoint, const std::string& adapters_dir) {
  const std::string folder =
      std::filesystem::path(library_.manifest().library).parent_path().string();
  LS_TRY(samples_, samples_of(checkpoint, folder, adapters_dir, method_.name()));
  return {};
}

namespace {

/// Asks, and runs `body` if the method quantizes the layer.
Status try_sample(Context& context, const plugin::MethodConfig& config, const std::string& title,
                  const LayerCase& layer, const std::function<Status(const Sample&)>& body) {
  CaseView view(layer);
  auto answer = ask(config, view);
  if (!answer.ok()) {
    if (is_cant(answer.error().code)) return {};
    return std::move(answer).error().at(title);
  }
  if (answer->work.verdict != LS_VERDICT_QUANTIZE) return {};
  const Sample sample{config, title + ", " + layer.title, layer, view, *answer};
  Status status = body(sample);
  if (!status.ok()) {
    Error error = std::move(status).error();
    return error.where.find(layer.title) == std::string::npos ? std::move(error).at(sample.title)
                                                              : error;
  }
  ++context.cases;
  return {};
}

}  // namespace

Status for_each_sample(Context& context, std::span<const Recipe> recipes,
                       const std::function<Status(const Sample&)>& body, bool with_checkpoint) {
  constexpr size_t kOfOtherConfigs = 8;  // recipes tried with a changed field
  const auto is_over = [&context] { return !context.has_time() && context.cases > 0; };
  for (const CheckpointSample& sample : context.samples()) {
    if (!with_checkpoint || is_over()) break;
    LS_CHECK(try_sample(context, *sample.config, "checkpoint", sample.layer, body));
  }
  for (const NamedConfig& named : context.configs()) {
    const bool is_default = &named == &context.configs().front();
    const size_t count = is_default ? recipes.size() : std::min(recipes.size(), kOfOtherConfigs);
    for (const Recipe& recipe : recipes.first(count)) {
      if (is_over()) return {};
      const LayerCase layer = make_case(recipe, context.random());
      LS_CHECK(try_sample(context, *named.config, named.title, layer, body));
    }
  }
  return {};
}

std::span<const PointSpec> all_points() {
  static const PointSpec kPoints[] = {
      {"schema", "defaults configure; refusals name the field", point_schema},
      {"plan", "the same question gets the same answer, for odd shapes too", point_plan},
      {"ignored", "ignored_layers names the entry that matched", point_ignored},
      {"bytes", "every planned byte is written, none beside it", point_bytes},
      {"split", "any cutting on two threads gives the bytes of whole feeding", point_split},
      {"threads", "one, two and five host threads give the same bytes", point_threads},
      {"hostile", "NaN and infinity are refused or kept, zeros stay zeros", point_hostile},
      {"cancel", "a session may be dropped before any piece", point_cancel},
      {"dequantize", "what is produced lies within the stated weight error", point_dequantize},
      {"serialized", "what is saved loads to the same weights", point_serialized},
      {"decode", "a kept layer becomes the dequantized floats", point_decode},
      {"repack", "a kernel's layout can be undone", point_repack},
      {"apply", "apply is the product with the dequantized weight, within its bound", point_apply},
      {"apply_together", "apply on two threads and twice over gives the same values",
       point_apply_together},
      {"struct_sizes", "longer structs change nothing, shorter ones harm nothing",
       point_struct_sizes},
      {"host_tables", "a host with fewer functions is refused or served", point_host_tables},
  };
  return kPoints;
}

}  // namespace loadstone::conformance
