// Checkpoints of public tools with one tensor damaged: each must be refused with that tensor's
// name. Whatever safetensors lie under LOADSTONE_SHARED/checkpoints are tried, every side tensor of
// every layer, once a kind of damage (S27 to S31 of the checklist of hostile inputs).
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "formats/checkpoint.hpp"
#include "load/dequantize.hpp"
#include "load/testing/checkpoints.hpp"

namespace loadstone::load {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// One safetensors file taken apart.
class File {
 public:
  explicit File(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    uint64_t length = 0;
    in.read(reinterpret_cast<char*>(&length), sizeof length);
    std::string text(length, 0);
    in.read(text.data(), static_cast<std::streamsize>(length));
    const std::string all{std::istreambuf_iterator<char>(in), {}};
    const Json header = Json::parse(text);
    for (const auto& [name, what] : header.items()) {
      if (name == "__metadata__") {
        metadata_ = what;
        continue;
      }
      const auto begin = what["data_offsets"][0].get<size_t>();
      const auto end = what["data_offsets"][1].get<size_t>();
      tensors[name] = {what["dtype"], what["shape"], all.substr(begin, end - begin)};
    }
  }

  void write(const fs::path& path) const {
    Json header = Json::object();
    if (!metadata_.is_null()) header["__metadata__"] = metadata_;
    std::string data;
    for (const auto& [name, tensor] : tensors) {
      header[name] = {{"dtype", tensor.dtype},
                      {"shape", tensor.shape},
                      {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
      data += tensor.bytes;
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const uint64_t length = text.size();
    fs::remove(path);
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), sizeof length);
    out << text << data;
  }

  struct Tensor {
    std::string dtype;
    std::vector<uint64_t> shape;
    std::string bytes;
    uint64_t count() const {
      uint64_t out = 1;
      for (const uint64_t dim : shape) out *= dim;
      return out;
    }
  };
  std::map<std::string, Tensor> tensors;

 private:
  Json metadata_;
};

std::string leaf_of(const std::string& name) { return name.substr(name.rfind('.') + 1); }

/// The last value made NaN, in the field's own encoding; false where the dtype has none.
bool make_nan(File::Tensor& tensor, bool e8m0) {
  static const std::map<std::string, std::string> kNan = {
      {"F32", {"\x00\x00\xc0\x7f", 4}}, {"BF16", {"\xc0\x7f", 2}}, {"F16", {"\x00\x7e", 2}},
      {"F8_E4M3", {"\x7f", 1}},         {"F8_E8M0", {"\xff", 1}},  {"U8", {"\xff", 1}}};
  const auto nan = kNan.find(tensor.dtype);
  if (nan == kNan.end() || (tensor.dtype == "U8" && !e8m0)) return false;
  if (tensor.bytes.size() < nan->second.size()) return false;
  tensor.bytes.replace(tensor.bytes.size() - nan->second.size(), nan->second.size(), nan->second);
  return true;
}

using Damage = bool (*)(File& file, const std::string& name);

struct Kind {
  const char* what;
  const char* check;                // of the checklist
  std::set<std::string> needed_by;  // leaves; empty: all side tensors
  Damage damage;                    // false: this tensor can't have it
};

/// Without these nothing says what the codes are worth.
const std::set<std::string> kScales = {
    "weight_scale", "weight_scale_inv",    "weight_scale_2", "weight_dual_scale",
    "scales",       "weight_global_scale", "scale_weight",   "qzeros"};

const Kind kKinds[] = {
    {"missing", "S27", kScales,
     [](File& file, const std::string& name) {
       // Floats without scales are floats: kept, with a note.
       const auto weight = file.tensors.find(name.substr(0, name.rfind('.')) + ".weight");
       const bool floats = weight != file.tensors.end() && weight->second.dtype == "BF16";
       return !floats && file.tensors.erase(name) == 1;
     }},
    {"of another dtype",
     "S28",
     {},
     [](File& file, const std::string& name) {
       File::Tensor& tensor = file.tensors[name];
       tensor.dtype = "BOOL";
       tensor.bytes.assign(tensor.count(), 1);
       return true;
     }},
    {"too wide",
     "S28",
     {},
     [](File& file, const std::string& name) {
       File::Tensor& tensor = file.tensors[name];
       const uint64_t item = tensor.bytes.size() / std::max<uint64_t>(tensor.count(), 1);
       if (tensor.shape.empty()) tensor.shape = {1};
       tensor.shape.back() += 1;
       tensor.bytes.resize(tensor.count() * item, 0x3c);
       return true;
     }},
    {"not a number",
     "S29",
     {"weight_scale", "weight_scale_inv", "weight_scale_2", "weight_dual_scale", "scales",
      "weight_global_scale", "scale_weight", "input_scale", "input_global_scale", "scale_input",
      "pre_quant_scale", "mul_scale", "deq_scale"},
     [](File& file, const std::string& name) {
       const std::string leaf = leaf_of(name);
       return make_nan(file.tensors[name], leaf == "weight_scale");
     }},
    {"beside a stray scale", "S31", kScales,
     [](File& file, const std::string& name) {
       const std::string stray = name.substr(0, name.rfind('.') + 1) + "stray_scale";
       return file.tensors.emplace(stray, File::Tensor{"F32", {1}, std::string(4, 0)}).second;
     }},
    {"out of range",
     "S30",
     {"g_idx"},
     [](File& file, const std::string& name) {
       File::Tensor& tensor = file.tensors[name];
       if (tensor.dtype != "I32" || tensor.bytes.size() < 4) return false;
       const int32_t far = 1 << 20;
       std::memcpy(tensor.bytes.data(), &far, sizeof far);
       return true;
     }},
};

/// Whether an error speaks of the damage: the tensor's leaf name, the field's own name where the
/// file has an older one, or the stray tensor.
bool names(const std::string& said, const std::string& leaf) {
  const std::string known = leaf == "scale_weight" ? "weight_scale" : leaf;
  return said.find(leaf) != std::string::npos || said.find(known) != std::string::npos ||
         said.find("stray_scale") != std::string::npos;
}

/// Weights keep out: these belong to them.
bool is_side_tensor(const std::string& name) {
  static const std::set<std::string> kSide = {"weight_scale",
                                              "weight_scale_inv",
                                              "weight_scale_2",
                                              "weight_dual_scale",
                                              "scales",
                                              "qzeros",
                                              "g_idx",
                                              "weight_zero_point",
                                              "weight_global_scale",
                                              "input_scale",
                                              "scale_weight",
                                              "input_global_scale",
                                              "scale_input",
                                              "mul_scale",
                                              "pre_quant_scale",
                                              "weight_offset",
                                              "input_offset",
                                              "quant_bias",
                                              "deq_scale",
                                              "weight_g_idx"};
  return kSide.count(leaf_of(name)) != 0;
}

class Damaged : public testing::SharedCheckpoints {
 protected:
  Status load(const fs::path& folder) {
    const fs::path output = work_ / "output";
    fs::remove_all(output);
    LS_TRY(auto opened, formats::open_checkpoint(system_files(), folder.string()));
    auto checkpoint = std::make_shared<const formats::Checkpoint>(std::move(opened));
    LS_TRY(auto graph, graph::build_graph(*checkpoint, LOADSTONE_SOURCE_DIR "/model_adapters"));
    DequantizeOptions options;
    options.output = output.string();
    LS_CHECK(dequantize(checkpoint, std::move(graph), *registry_, options));
    return {};
  }

  /// Tries every kind of damage on one side tensor of each leaf name in `path`; how many.
  int damage(const fs::path& copy, const fs::path& path, const std::string& artifact) {
    const File whole(path);
    std::set<std::pair<std::string, std::string>> done;
    int out = 0;
    for (const auto& [name, tensor] : whole.tensors) {
      if (!is_side_tensor(name)) continue;
      for (const Kind& kind : kKinds) {
        const std::string leaf = leaf_of(name);
        if (!kind.needed_by.empty() && kind.needed_by.count(leaf) == 0) continue;
        if (!done.emplace(kind.what, leaf).second) continue;
        File damaged = whole;
        if (!kind.damage(damaged, name)) continue;
        damaged.write(path);
        const Status status = load(copy);
        ++out;
        const std::string said = status.ok() ? "loads" : status.error().text();
        EXPECT_TRUE(!status.ok() && names(said, leaf))
            << kind.check << ": " << artifact << ": \"" << name << "\" " << kind.what << " ("
            << tensor.dtype << "): " << said;
      }
    }
    whole.write(path);
    return out;
  }
};

TEST_F(Damaged, EverySideTensorIsRefusedByName) {
  std::map<std::string, int> counts;  // by tool
  for (const auto& entry : fs::recursive_directory_iterator(checkpoints())) {
    if (entry.path().filename() != "expect.json") continue;
    const fs::path folder = entry.path().parent_path();
    const std::string artifact = fs::relative(folder, checkpoints()).string();
    const fs::path copy = work_ / "checkpoint";
    fs::remove_all(copy);
    fs::copy(folder, copy, fs::copy_options::recursive);
    for (const char* name : {"expect.json", "truth.json", "truth.safetensors"}) {
      fs::remove(copy / name);
    }
    if (!load(copy).ok()) continue;  // not served: the test of truths says so
    for (const auto& file : fs::recursive_directory_iterator(copy)) {
      if (file.path().extension() != ".safetensors") continue;
      counts[artifact.substr(0, artifact.find('/'))] += damage(copy, file.path(), artifact);
    }
  }
  for (const auto& [tool, count] : counts) std::cout << tool << ": " << count << " damaged\n";
  EXPECT_FALSE(counts.empty());
}

}  // namespace
}  // namespace loadstone::load
