#include "serialized.hpp"

#include <stdexcept>

namespace loadstone::testing {
namespace {

using formats::TensorEntry;

constexpr uint64_t kGroup = 32;

/// Float32 ones without end.
class Ones final : public File {
 public:
  explicit Ones(std::string path) : File(std::move(path)) {}
  ssize_t pread_some(std::span<std::byte> into, uint64_t offset) const override {
    constexpr unsigned char kOne[] = {0, 0, 0x80, 0x3f};
    for (size_t i = 0; i < into.size(); ++i) into[i] = std::byte{kOne[(offset + i) % 4]};
    return static_cast<ssize_t>(into.size());
  }
  Result<FileIdentity> identity() const override { return FileIdentity{}; }
};

TensorEntry tensor(const std::string& name, DType dtype, formats::Shape shape) {
  TensorEntry out;
  out.name = name;
  out.dtype = dtype;
  out.shape = std::move(shape);
  out.nbytes = layout_of(dtype)->block_nbytes;
  for (const uint64_t extent : out.shape) out.nbytes *= extent;
  return out;
}

std::vector<TensorEntry> written(const std::string& tool, const std::string& module, uint64_t out,
                                 uint64_t in) {
  const auto name = [&](const char* suffix) { return module + "." + suffix; };
  if (tool == "modelopt") {
    return {tensor(name("weight"), DType::F8_E4M3, {out, in}),
            tensor(name("weight_scale"), DType::F32, {}),
            tensor(name("input_scale"), DType::F32, {})};
  }
  if (tool == "autoround") {
    const uint64_t groups = in / kGroup;
    return {tensor(name("qweight"), DType::I32, {in / 8, out}),
            tensor(name("qzeros"), DType::I32, {groups, out / 8}),
            tensor(name("scales"), DType::F16, {groups, out})};
  }
  if (tool == "msmodelslim") {
    return {tensor(name("weight"), DType::I8, {out, in}),
            tensor(name("weight_scale"), DType::F32, {out, 1}),
            tensor(name("weight_offset"), DType::F32, {out, 1})};
  }
  if (tool == "compressed_tensors") {
    return {tensor(name("weight"), DType::I8, {out, in}),
            tensor(name("weight_scale"), DType::F32, {out, 1})};
  }
  throw std::runtime_error("unknown tool " + tool);
}

formats::Declaration compressed_tensors_declaration() {
  auto weights = parse_json(R"({"num_bits": 8, "type": "int", "strategy": "channel"})", "weights");
  return {"quantization_config", "config.json", "",
          Node::of_map(
              {{"quant_method", Node::of_text("compressed-tensors")},
               {"format", Node::of_text("int-quantized")},
               {"config_groups",
                Node::of_map({{"group_0",
                               Node::of_map({{"targets", Node::of_list({Node::of_text("Linear")})},
                                             {"weights", *std::move(weights)}})}})}})};
}

/// What the tool writes beside a component whose tensors are these.
formats::Declaration declared(const std::string& tool, const std::vector<TensorEntry>& tensors,
                              const std::set<std::string>& quantized) {
  if (tool == "modelopt") {
    return {"quantization_config", "config.json", "",
            Node::of_map({{"quant_method", Node::of_text("modelopt")},
                          {"quant_algo", Node::of_text("FP8")}})};
  }
  if (tool == "autoround") {
    return {"quantization_config", "config.json", "",
            Node::of_map({{"quant_method", Node::of_text("auto-round")},
                          {"bits", Node::of_integer(4)},
                          {"group_size", Node::of_integer(static_cast<int64_t>(kGroup))},
                          {"sym", Node::of_bool(true)},
                          {"packing_format", Node::of_text("auto_round:auto_gptq")}})};
  }
  if (tool == "compressed_tensors") return compressed_tensors_declaration();
  std::vector<std::pair<std::string, Node>> types;
  for (const TensorEntry& one : tensors) {
    const std::string module = one.name.substr(0, one.name.rfind('.'));
    types.emplace_back(one.name,
                       Node::of_text(quantized.contains(module) ? "W8A8_DYNAMIC" : "FLOAT"));
  }
  return {"quant_model_description.json", "quant_model_description.json", "",
          Node::of_map(std::move(types))};
}

}  // namespace

void serialize(formats::Checkpoint& checkpoint,
               const std::set<std::pair<uint32_t, std::string>>& modules, const std::string& tool) {
  for (formats::FileEntry& file : checkpoint.files) {
    file = {file.path, std::make_shared<Ones>(file.path), FileIdentity{}};
  }
  for (uint32_t c = 0; c < checkpoint.components.size(); ++c) {
    formats::Component& component = checkpoint.components[c];
    std::vector<TensorEntry> tensors;
    std::set<std::string> quantized;
    uint64_t offset = 4096;
    for (TensorEntry& plain : component.tensors) {
      const size_t dot = plain.name.rfind('.');
      const std::string module = plain.name.substr(0, dot);
      std::vector<TensorEntry> made = {plain};
      if (plain.name.substr(dot + 1) == "weight" && modules.contains({c, module})) {
        made = written(tool, module, plain.shape[0], plain.shape[1]);
        quantized.insert(module);
      }
      for (TensorEntry& one : made) {
        one.file = plain.file;
        one.offset = offset;
        offset += one.nbytes;
        tensors.push_back(std::move(one));
      }
    }
    if (quantized.empty()) continue;
    component.tensors = std::move(tensors);
    component.declarations.push_back(declared(tool, component.tensors, quantized));
  }
}

}  // namespace loadstone::testing
