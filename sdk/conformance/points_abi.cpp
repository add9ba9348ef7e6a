#include <cstring>

#include "conformance/points.hpp"

namespace loadstone::conformance {

namespace {

/// One way through a method's life. The outcome is compared, so errors count as well.
struct Life {
  std::string refused;  // "" when all went well
  std::vector<std::byte> stored;
  std::vector<float> weight, y;
  bool operator==(const Life&) const = default;
};

Status live(const plugin::MethodConfig& config, const LayerCase& layer, const StructSizes& sizes,
            Life& life) {
  CaseView view(layer, &sizes);
  LS_TRY(const plugin::LayerAnswer answer, ask(config, view, &sizes));
  if (answer.work.verdict != LS_VERDICT_QUANTIZE) {
    return Error{Code::unsupported, answer.reason, "", "", ""};
  }
  Feeding feeding;
  feeding.cut = Cut::granules;
  feeding.sizes = &sizes;
  LS_TRY(const Produced made, produce(config, view, answer, feeding));
  for (const Guarded& stored : made.stored) {
    life.stored.insert(life.stored.end(), stored.bytes().begin(), stored.bytes().end());
  }
  const plugin::Method& method = config.method();
  if (method.table().dequantize != nullptr) {
    LS_TRY(life.weight, dequantize(config, view, answer, made, 0, 0, layer.out, nullptr, &sizes));
  }
  if (method.table().bind == nullptr) return {};
  LS_TRY(const Bound bound, Bound::bind(config, view, answer, made, &sizes));
  Call call;
  call.x.assign(layer.in, 0.5f);
  LS_TRY(life.y, bound.apply(call, &sizes));
  return {};
}

Life life_of(const plugin::MethodConfig& config, const LayerCase& layer, const StructSizes& sizes) {
  Life out;
  const Status status = live(config, layer, sizes, out);
  if (!status.ok()) out = Life{status.error().text(), {}, {}, {}};
  return out;
}

template <typename T>
void add_sizes(std::vector<std::pair<std::type_index, uint32_t>>& out) {
  constexpr uint32_t kWhole = sizeof(T);
  for (const uint32_t size : {4u, 8u, kWhole / 2 / 4 * 4, kWhole - 8, kWhole - 4}) {
    if (size >= 4 && size < kWhole) out.emplace_back(typeid(T), size);
  }
}

}  // namespace

Result<std::string> point_struct_sizes(Context& context) {
  if (context.configs().empty()) return std::string("the default configuration is refused");
  const bool given = !context.samples().empty();
  const plugin::MethodConfig& config =
      given ? *context.samples().front().config : *context.configs().front().config;
  const Recipe recipe{LS_KIND_LINEAR, Layout::fused, 24, 128, LS_DTYPE_BF16, Content::normal, true};
  const LayerCase layer =
      given ? context.samples().front().layer : make_case(recipe, context.random());
  const Life usual = life_of(config, layer, {});
  StructSizes longer = {
      {typeid(ls_layer), sizeof(ls_layer) + 40},   {typeid(ls_tensor), sizeof(ls_tensor) + 8},
      {typeid(ls_part), sizeof(ls_part) + 16},     {typeid(ls_target), sizeof(ls_target) + 24},
      {typeid(ls_begin), sizeof(ls_begin) + 32},   {typeid(ls_source), sizeof(ls_source) + 8},
      {typeid(ls_buffer), sizeof(ls_buffer) + 64}, {typeid(ls_piece), sizeof(ls_piece) + 8},
      {typeid(ls_rows), sizeof(ls_rows) + 48},     {typeid(ls_step), sizeof(ls_step) + 12},
      {typeid(ls_sizes), sizeof(ls_sizes) + 16},   {typeid(ls_apply), sizeof(ls_apply) + 56},
  };
  ++context.cases;
  if (!(life_of(config, layer, longer) == usual)) {
    return Error{Code::internal, "", "longer structs", "found another outcome, expected the same",
                 ""};
  }
  std::vector<std::pair<std::type_index, uint32_t>> shorter;
  add_sizes<ls_layer>(shorter);
  add_sizes<ls_tensor>(shorter);
  add_sizes<ls_part>(shorter);
  add_sizes<ls_target>(shorter);
  add_sizes<ls_begin>(shorter);
  add_sizes<ls_buffer>(shorter);
  add_sizes<ls_piece>(shorter);
  add_sizes<ls_rows>(shorter);
  add_sizes<ls_step>(shorter);
  add_sizes<ls_sizes>(shorter);
  add_sizes<ls_apply>(shorter);
  for (const auto& [type, size] : shorter) {
    const Life life = life_of(config, layer, {{type, size}});
    ++context.cases;
    if (!life.refused.empty() || life == usual) continue;
    return Error{Code::internal, "",
                 std::string(type.name()) + " of " + std::to_string(size) + " bytes",
                 "found another outcome, expected a refusal or the same", ""};
  }
  return std::string();
}

Result<std::string> point_host_tables(Context& context) {
  const ls_plugin_query_fn query = context.library().query();
  const ls_host& full = plugin::host_table();
  // A longer table first, then each shorter one. What lies past the end is poison: a plugin that
  // calls it falls.
  std::vector<uint32_t> sizes = {sizeof(ls_host) + 64};
  for (uint32_t size = sizeof(ls_host); size >= 16; size -= sizeof(void*)) sizes.push_back(size);
  // Tables must outlive the plugin.
  static std::vector<std::unique_ptr<std::byte[]>> kept;
  for (const uint32_t size : sizes) {
    auto& bytes = kept.emplace_back(new std::byte[sizeof(ls_host) + 128]);
    std::memset(bytes.get(), kPoison, sizeof(ls_host) + 128);
    std::memcpy(bytes.get(), &full, std::min<size_t>(size, sizeof(ls_host)));
    std::memcpy(bytes.get(), &size, sizeof size);
    const ls_plugin* plugin = query(reinterpret_cast<const ls_host*>(bytes.get()));
    ++context.cases;
    if (plugin == nullptr && size >= sizeof(ls_host)) {
      return Error{Code::internal, "", "a host of a later version", "found a refusal", ""};
    }
    if (plugin == nullptr || context.configs().empty()) continue;
    const LayerCase layer =
        make_case({LS_KIND_LINEAR, Layout::single, 16, 128, LS_DTYPE_BF16}, context.random());
    life_of(*context.configs().front().config, layer, {});
  }
  uint32_t other_major = LS_ABI_MAJOR + 1;
  auto& bytes = kept.emplace_back(new std::byte[sizeof(ls_host)]);
  std::memcpy(bytes.get(), &full, sizeof(ls_host));
  std::memcpy(bytes.get() + offsetof(ls_host, abi_major), &other_major, sizeof other_major);
  if (query(reinterpret_cast<const ls_host*>(bytes.get())) != nullptr) {
    return Error{Code::internal, "", "a host of another major version",
                 "found a descriptor, expected null", ""};
  }
  query(&full);
  return std::string();
}

}  // namespace loadstone::conformance
