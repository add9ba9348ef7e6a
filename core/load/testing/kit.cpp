#include "load/testing/kit.hpp"

#include <bit>
#include <cmath>
#include <cstring>

namespace loadstone::load::testing {

namespace {

float widen(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

std::string mode_or_default(const KitLayer& layer) {
  return layer.mode == "split" ? "double" : layer.mode;
}

}  // namespace

void Kit::SetUp() {
  folder_ = std::filesystem::temp_directory_path() /
            ("loadstone-kit-" + std::to_string(getpid()) + "-" +
             ::testing::UnitTest::GetInstance()->current_test_info()->name());
  std::filesystem::remove_all(folder_);
  std::filesystem::create_directories(folder_);
  plugin::RegistryOptions options;
  options.dirs = {std::string(LOADSTONE_BINARY_DIR) + "/tests/load_plugins"};
  options.trust_writable = true;
  auto registry = plugin::Registry::scan(options);
  ASSERT_TRUE(registry.ok()) << registry.error().text();
  registry_ = std::make_unique<plugin::Registry>(std::move(registry).value());
  auto schemas = registry_->schemas();
  ASSERT_TRUE(schemas.ok()) << schemas.error().text();
  schemas_ = *schemas;
}

void Kit::TearDown() { std::filesystem::remove_all(folder_); }

void Kit::tensor(const std::string& name, DType dtype, formats::Shape shape,
                 std::vector<std::byte> bytes) {
  tensors_.push_back({name, dtype, std::move(shape), std::move(bytes)});
}

void Kit::tensor(const std::string& name, DType dtype, formats::Shape shape) {
  std::vector<std::byte> bytes(plan::tensor_nbytes(dtype, shape).value());
  auto state = static_cast<uint32_t>(std::hash<std::string>{}(name)) | 1u;
  for (size_t i = 0; i < bytes.size(); ++i) {
    state = state * 1664525u + 1013904223u;
    bytes[i] = static_cast<std::byte>(state >> 24);
    if (bytes[i] == std::byte{0xee}) bytes[i] = std::byte{0};  // what "checked" refuses
  }
  // Finite, of moderate size: the exponent's byte comes from a narrow range.
  size_t width = dtype == DType::BF16 ? 2 : 4;
  if (dtype == DType::BF16 || dtype == DType::F32) {
    for (size_t i = width - 1; i < bytes.size(); i += width) {
      bytes[i] = (bytes[i] & std::byte{0x80}) | std::byte{0x3e};
    }
  }
  tensor(name, dtype, std::move(shape), std::move(bytes));
}

void Kit::linear(const std::string& path, uint64_t out, uint64_t in, const std::string& mode,
                 std::map<std::string, int64_t> fields) {
  tensor(path + ".weight", DType::BF16, {out, in});
  if (mode == "resident" || mode == "value") tensor(path + ".scale", DType::F32, {1});
  layer({path, {path}, mode, std::move(fields)});
}

void Kit::write() {
  std::vector<formats::TensorSpec> specs;
  for (const KitTensor& one : tensors_) {
    formats::TensorSpec& spec = specs.emplace_back();
    spec.name = one.name;
    spec.dtype = one.dtype;
    spec.shape = one.shape;
  }
  auto writer = formats::SafetensorsWriter::create(file(), specs);
  ASSERT_TRUE(writer.ok()) << writer.error().text();
  for (const KitTensor& one : tensors_) ASSERT_TRUE(writer->append(one.bytes).ok());
  ASSERT_TRUE(writer->finish().ok());
  auto checkpoint = formats::open_checkpoint(files_, file());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().text();
  checkpoint_ = std::make_shared<const formats::Checkpoint>(std::move(checkpoint).value());
  faults().reads = 0;
  faults().read_nbytes = 0;
  faults().largest_read = 0;
}

graph::Graph Kit::graph() const {
  graph::Graph out;
  out.family = "kit";
  graph::GraphComponent component;
  component.name = "transformer";
  out.components.push_back(component);
  const auto& entries = checkpoint_->components[0].tensors;
  for (const KitLayer& from : layers_) {
    graph::Layer layer;
    layer.path = from.path;
    layer.kind = graph::LayerKind::linear;
    for (uint32_t p = 0; p < from.parts.size(); ++p) {
      graph::Part part;
      part.name = from.parts[p];
      part.shard = from.parts.size() > 1 ? std::string(1, static_cast<char>('a' + p)) : "";
      for (uint32_t t = 0; t < entries.size(); ++t) {
        const std::string prefix = part.name + ".";
        if (!entries[t].name.starts_with(prefix)) continue;
        layer.tensors.push_back({t, p, 0, entries[t].name.substr(prefix.size())});
        const std::string& suffix = layer.tensors.back().suffix;
        layer.has_bias |= suffix == "bias" || suffix == "linear.bias";
        if (layer.tensors.back().suffix != "weight") continue;
        part.out_count = part.file_total = entries[t].shape[0];
        layer.in = entries[t].shape.size() > 1 ? entries[t].shape[1] : 0;
      }
      part.out_begin = layer.out;
      layer.out += part.out_count;
      layer.parts.push_back(part);
    }
    out.layers.push_back(std::move(layer));
  }
  return out;
}

Result<std::vector<plan::Routed>> Kit::routed() const {
  std::vector<plan::Routed> out;
  for (const KitLayer& layer : layers_) {
    plan::Routed routed;
    routed.rule = "kit.yaml:" + std::to_string(out.size() + 1) + ":1";
    routed.on_unsupported = on_unsupported_;
    routed.from_declaration = from_declaration_;
    if (!layer.mode.empty()) {
      std::vector<Node::Entry> entries{{"method", Node::of_text("toy")},
                                       {"mode", Node::of_text(layer.mode)}};
      for (const auto& [name, value] : layer.fields) {
        entries.emplace_back(name, Node::of_integer(value));
      }
      LS_TRY(auto choice, config::build_method_choice(Node::of_map(std::move(entries)), schemas_));
      routed.choice = std::make_shared<const config::MethodChoice>(std::move(choice));
      routed.wish = layer.wish;
    }
    out.push_back(std::move(routed));
  }
  return out;
}

Result<plan::Plan> Kit::make_plan(const plan::LoadOptions& options) {
  LS_TRY(auto decisions, routed());
  return plan::plan_routed(checkpoint_, graph(), {}, std::move(decisions), *registry_, target_,
                           options);
}

Result<LoadedModel> Kit::load_all(const plan::LoadOptions& options, const LoadControl& control) {
  auto plan = make_plan(options);
  if (!plan.ok()) ADD_FAILURE() << plan.error().text();
  LS_TRY(plan::Plan made, std::move(plan));
  faults().reads = 0;
  faults().read_nbytes = 0;
  faults().largest_read = 0;
  return load(std::make_shared<const plan::Plan>(std::move(made)), control);
}

const KitTensor& Kit::find(const std::string& name) const {
  for (const KitTensor& one : tensors_) {
    if (one.name == name) return one;
  }
  ADD_FAILURE() << "no tensor " << name;
  return tensors_.front();
}

std::vector<float> Kit::floats(const std::string& name) const {
  const KitTensor& from = find(name);
  std::vector<float> out;
  if (from.dtype == DType::F32) {
    out.resize(from.bytes.size() / 4);
    std::memcpy(out.data(), from.bytes.data(), from.bytes.size());
    return out;
  }
  for (size_t i = 0; i + 1 < from.bytes.size(); i += 2) {
    uint16_t bits = 0;
    std::memcpy(&bits, &from.bytes[i], 2);
    out.push_back(widen(bits));
  }
  return out;
}

const plan::LayerPlan& Kit::plan_of(const plan::Plan& plan, const std::string& path) {
  for (const plan::LayerPlan& layer : plan.layers) {
    if (plan.layer_of(layer).path == path) return layer;
  }
  ADD_FAILURE() << "no layer " << path;
  return plan.layers.front();
}

std::vector<std::byte> Kit::stored(const LoadedModel& model, const std::string& path,
                                   const std::string& name) const {
  const plan::LayerPlan& layer = plan_of(model.plan(), path);
  int64_t index = layer.find_stored(name);
  if (index < 0) {
    ADD_FAILURE() << path << " stores no " << name;
    return {};
  }
  auto position = static_cast<uint32_t>(&layer - model.plan().layers.data());
  const std::byte* at = model.stored(position, static_cast<uint32_t>(index));
  return {at, at + layer.stored[static_cast<size_t>(index)].slab_nbytes()};
}

std::vector<float> Kit::stored_floats(const LoadedModel& model, const std::string& path,
                                      const std::string& name) const {
  std::vector<std::byte> bytes = stored(model, path, name);
  std::vector<float> out(bytes.size() / sizeof(float));
  std::memcpy(out.data(), bytes.data(), out.size() * sizeof(float));
  return out;
}

void Kit::expect_right(const LoadedModel& model) const {
  for (const KitLayer& layer : layers_) expect_layer(model, layer);
}

void Kit::expect_layer(const LoadedModel& model, const KitLayer& layer) const {
  SCOPED_TRACE(layer.path + " " + layer.mode);
  std::string mode = mode_or_default(layer);
  bool apart = layer.mode == "split" && layer.parts.size() > 1;
  std::vector<float> expected;
  std::vector<std::byte> raw;
  for (const std::string& part : layer.parts) {
    std::vector<float> values = floats(part + ".weight");
    expected.insert(expected.end(), values.begin(), values.end());
    const auto& bytes = find(part + ".weight").bytes;
    raw.insert(raw.end(), bytes.begin(), bytes.end());
    if (!apart) continue;
    for (float& value : values) value *= 2;
    EXPECT_EQ(stored_floats(model, part, "weight"), values) << part;
  }
  if (apart) return;
  if (mode.empty() || mode == "identity" || mode == "checked" || mode == "keep") {
    EXPECT_EQ(stored(model, layer.path, "weight"), raw);
    return;
  }
  if (mode == "swapped") {
    size_t row = find(layer.parts[0] + ".weight").shape[1] * 2;
    std::vector<std::byte> turned;
    for (size_t at = 0; at < raw.size(); at += row) {
      auto begin = raw.begin() + static_cast<ptrdiff_t>(at);
      auto middle = begin + static_cast<ptrdiff_t>(row / 2);
      turned.insert(turned.end(), middle, begin + static_cast<ptrdiff_t>(row));
      turned.insert(turned.end(), begin, middle);
    }
    EXPECT_EQ(stored(model, layer.path, "weight"), turned);
    return;
  }
  float factor = 2;
  if (mode == "packed") factor = -2;
  if (mode == "resident" || mode == "value") factor = floats(layer.path + ".scale")[0];
  if (mode == "amax") {
    float amax = 0;
    for (float value : expected) amax = std::max(amax, std::fabs(value));
    EXPECT_EQ(stored_floats(model, layer.path, "amax"), std::vector<float>{amax});
    factor = 1 / amax;
  }
  for (float& value : expected) value *= factor;
  EXPECT_EQ(stored_floats(model, layer.path, "weight"), expected);
}

void Kit::expect_error(const Result<LoadedModel>& model, Code code, const std::string& text) {
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().code, code);
  EXPECT_NE(model.error().text().find(text), std::string::npos) << model.error().text();
}

void Kit::expect_as_planned(const LoadedModel& model) {
  const Report& report = model.report();
  uint64_t predicted = report.predicted_peak_host, measured = report.measured_peak_host;
  EXPECT_LE(measured, predicted + std::max<uint64_t>(predicted / 50, 16u << 20));
  EXPECT_LE(predicted, measured + std::max<uint64_t>(measured / 10, 64u << 20));
  uint64_t slabs = 0, after = 0, stored = 0;
  for (const plan::Slab& slab : model.plan().slabs) slabs += slab.nbytes;
  for (const plan::LayerPlan& layer : model.plan().layers) {
    after += layer.nbytes_after;
    if (layer.shared_with >= 0) continue;
    for (const plan::Stored& one : layer.stored) stored += one.slab_nbytes();
  }
  EXPECT_EQ(model.plan().peaks.stored, slabs);
  EXPECT_EQ(after, stored);
  EXPECT_LE(stored, slabs);
}

}  // namespace loadstone::load::testing
