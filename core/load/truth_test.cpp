// Checkpoints written by public quantization tools, dequantized and held against what the tools
// themselves say their weights are. Whatever lies under LOADSTONE_SHARED/checkpoints is tried; a
// table of tools and formats says what came of it.
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <map>
#include <set>

#include "formats/checkpoint.hpp"
#include "load/dequantize.hpp"
#include "load/testing/checkpoints.hpp"

namespace loadstone::load {

namespace {

namespace fs = std::filesystem;

Node read_json(const fs::path& path) {
  auto text = read_text(system_files(), path.string(), 64u << 20);
  auto node = text.ok() ? parse_json(*text, path.string()) : Result<Node>(text.error());
  EXPECT_TRUE(node.ok()) << (node.ok() ? "" : node.error().text());
  return node.ok() ? *node : Node{};
}

/// SHA-256 of float32 values after adding 0.0 (so that -0 counts as 0), in hex.
std::string digest_of(std::vector<float> values) {
  for (float& value : values) value += 0.0f;
  unsigned char hash[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_Digest(values.data(), values.size() * sizeof(float), hash, &length, EVP_sha256(), nullptr);
  std::string out;
  for (unsigned i = 0; i < length; ++i) {
    constexpr char kHex[] = "0123456789abcdef";
    out += kHex[hash[i] >> 4];
    out += kHex[hash[i] & 15];
  }
  return out;
}

/// `kept` has names as stored; single files may put a prefix before them.
std::string without_prefix(std::string_view name) {
  for (std::string_view prefix : {"model.diffusion_model.", "diffusion_model."}) {
    if (name.starts_with(prefix)) return std::string(name.substr(prefix.size()));
  }
  return std::string(name);
}

struct Written {
  formats::Shape shape;
  std::vector<float> values;  // of F32 tensors
};

class Truth : public testing::SharedCheckpoints {
 protected:
  /// The checkpoint alone, without what describes it.
  fs::path clean_copy(const fs::path& from) {
    fs::path to = work_ / "checkpoint";
    fs::remove_all(to);
    fs::copy(from, to, fs::copy_options::recursive);
    for (const char* name : {"expect.json", "truth.json", "truth.safetensors"})
      fs::remove(to / name);
    return to;
  }

  Result<DequantizeReport> run(const fs::path& from, bool fold) {
    fs::path output = work_ / "output";
    fs::remove_all(output);
    LS_TRY(auto opened, formats::open_checkpoint(system_files(), clean_copy(from).string()));
    auto checkpoint = std::make_shared<const formats::Checkpoint>(std::move(opened));
    LS_TRY(auto graph, graph::build_graph(*checkpoint, LOADSTONE_SOURCE_DIR "/model_adapters"));
    DequantizeOptions options;
    options.output = output.string();
    options.fold = fold;
    return dequantize(checkpoint, std::move(graph), *registry_, options);
  }

  /// All tensors of the output, "folder/name" as truth.json writes it when there are several files.
  std::map<std::string, Written> read_back(const DequantizeReport& report) {
    std::map<std::string, Written> out;
    for (const DequantizedFile& file : report.files) {
      auto opened = formats::open_checkpoint(system_files(), file.path);
      EXPECT_TRUE(opened.ok()) << (opened.ok() ? "" : opened.error().text());
      if (!opened.ok()) continue;
      std::string prefix = report.files.size() > 1 ? fs::path(file.path).stem().string() + "/" : "";
      for (const auto& entry : opened->components[0].tensors) {
        Written& written = out[prefix + entry.name];
        written.shape = entry.shape;
        if (entry.dtype != DType::F32) continue;
        written.values.resize(entry.nbytes / sizeof(float));
        auto bytes = std::as_writable_bytes(std::span(written.values));
        EXPECT_TRUE(opened->files[entry.file].file->read_exact(bytes, entry.offset).ok());
      }
    }
    return out;
  }

  void compare(const std::map<std::string, Written>& written, const Node& truth,
               const Node& expect) {
    std::set<std::string> known;
    for (const auto& [name, what] : truth.find("tensors")->entries()) {
      SCOPED_TRACE(name);
      known.insert(name);
      auto mine = written.find(name);
      if (mine == written.end()) {
        ADD_FAILURE() << "not written";
        continue;
      }
      std::vector<uint64_t> shape(mine->second.shape.begin(), mine->second.shape.end());
      std::vector<uint64_t> wanted;
      for (const Node& dim : what.find("shape")->items()) {
        wanted.push_back(static_cast<uint64_t>(dim.integer()));
      }
      EXPECT_EQ(shape, wanted);
      const Node* digest = what.find("sha256_f32");
      if (digest == nullptr) digest = what.find("sha256");
      EXPECT_EQ(digest_of(mine->second.values), digest->text());
    }
    if (const Node* kept = expect.find("kept"); kept != nullptr && kept->is_list()) {
      for (const Node& stored : kept->items()) {
        std::string name = without_prefix(stored.text());
        known.insert(name);
        EXPECT_TRUE(written.count(name)) << name << " is kept, not written";
      }
    }
    // No leftover of quantization under a name of its own.
    const std::set<std::string> leftovers{
        "weight_scale_inv", "weight_scale_2", "weight_offset", "weight_shape",     "qweight",
        "qzeros",           "scales",         "g_idx",         "comfy_quant",      "scaled_fp8",
        "quant_bias",       "scale_weight",   "weight_packed", "weight_zero_point"};
    for (const auto& [name, tensor] : written) {
      std::string leaf = name.substr(name.find_last_of("./") + 1);
      bool left = leaf.ends_with("_scale") || leftovers.count(leaf) != 0;
      EXPECT_TRUE(known.count(name) != 0 || !left) << name << " is written";
    }
  }

  /// --fold multiplies X.input_mul into X.weight, one product an element, and writes no vector.
  void compare_folded(const fs::path& folder, const std::map<std::string, Written>& plain) {
    constexpr std::string_view kFactors = ".input_mul";
    auto is_factors = [&](const auto& one) { return one.first.ends_with(kFactors); };
    if (std::none_of(plain.begin(), plain.end(), is_factors)) return;
    auto report = run(folder, true);
    ASSERT_TRUE(report.ok()) << report.error().text();
    std::map<std::string, Written> folded = read_back(*report);
    EXPECT_TRUE(std::none_of(folded.begin(), folded.end(), is_factors));
    for (const auto& [name, factors] : plain) {
      if (!name.ends_with(kFactors)) continue;
      std::string weight = name.substr(0, name.size() - kFactors.size()) + ".weight";
      ASSERT_TRUE(plain.count(weight) && folded.count(weight)) << weight;
      std::vector<float> expected = plain.at(weight).values;
      for (size_t i = 0; i < expected.size(); ++i) {
        expected[i] *= factors.values[i % factors.values.size()];
      }
      EXPECT_EQ(folded.at(weight).values, expected) << weight;
    }
  }
};

/// A refusal that says why the format isn't read. That no plugin reads a declaration is none: all
/// plugins are built.
bool is_refusal(const Error& error) {
  return error.code == Code::unsupported &&
         error.text().find("expected a declaration that a plugin reads") == std::string::npos;
}

/// Tool × format × status: how many artifacts and layers of each.
class Table {
 public:
  void add(const std::string& tool, const Node& expect, const std::string& status) {
    std::map<std::string, int> formats;
    for (const auto& [module, scheme] : expect.find("layers")->entries()) {
      ++formats[format_of(scheme.text())];
    }
    for (const auto& [format, layers] : formats) {
      Count& count = rows_[tool + " | " + format][status];
      ++count.artifacts;
      count.layers += layers;
    }
    ++by_status_[tool][status];
  }
  void print() const {
    std::cout << "| tool | format | artifacts | layers | status |\n|---|---|---|---|---|\n";
    for (const auto& [row, statuses] : rows_) {
      for (const auto& [status, count] : statuses) {
        std::cout << "| " << row << " | " << count.artifacts << " | " << count.layers << " | "
                  << status << " |\n";
      }
    }
    for (const auto& [tool, statuses] : by_status_) {
      std::cout << tool << ":";
      for (const auto& [status, artifacts] : statuses)
        std::cout << " " << status << " " << artifacts;
      std::cout << "\n";
    }
  }

 private:
  struct Count {
    int artifacts = 0, layers = 0;
  };
  /// "Q4_0 [4, 512]" is of the format Q4_0.
  static std::string format_of(const std::string& scheme) {
    return scheme.substr(0, scheme.find(" ["));
  }
  std::map<std::string, std::map<std::string, Count>> rows_;
  std::map<std::string, std::map<std::string, int>> by_status_;
};

int failures() {
  return ::testing::UnitTest::GetInstance()->current_test_info()->result()->total_part_count();
}

TEST_F(Truth, EveryCheckpointDequantizesToItsToolsWeights) {
  Table table;
  int found = 0;
  for (const auto& entry : fs::recursive_directory_iterator(checkpoints())) {
    if (entry.path().filename() != "expect.json") continue;
    fs::path folder = entry.path().parent_path();
    if (!fs::exists(folder / "truth.json")) continue;
    std::string name = fs::relative(folder, checkpoints()).string();
    std::string tool = name.substr(0, name.find('/'));
    SCOPED_TRACE(name);
    ++found;
    Node expect = read_json(folder / "expect.json");
    auto report = run(folder, false);
    if (!report.ok() && is_refusal(report.error())) {
      table.add(tool, expect, "refused: " + report.error().text());
      continue;
    }
    if (!report.ok()) {
      ADD_FAILURE() << report.error().text();
      table.add(tool, expect, "wrong");
      continue;
    }
    int before = failures();
    std::map<std::string, Written> written = read_back(*report);
    compare(written, read_json(folder / "truth.json"), expect);
    compare_folded(folder, written);
    table.add(tool, expect, failures() == before ? "equal" : "wrong");
  }
  table.print();
  EXPECT_GT(found, 0) << "no folder with expect.json and truth.json";
}

TEST_F(Truth, FamiliesAreWrittenByComponentUnchangedInValue) {
  fs::path families = loadstone::testing::shared_folder() / "models/families";
  if (!fs::is_directory(families)) GTEST_SKIP() << "no families at " << families;
  int found = 0;
  for (const auto& entry : fs::directory_iterator(families)) {
    if (!fs::exists(entry.path() / "expect.json")) continue;
    SCOPED_TRACE(entry.path().filename());
    ++found;
    auto report = run(entry.path(), false);
    ASSERT_TRUE(report.ok()) << report.error().text();
    std::map<std::string, int64_t> written, expected;
    for (const DequantizedFile& file : report->files) {
      written[fs::path(file.path).stem()] = static_cast<int64_t>(file.tensors);
      EXPECT_EQ(file.weights, 0u);
    }
    Node expect = read_json(entry.path() / "expect.json");
    for (const auto& [name, component] : expect.find("components")->entries()) {
      expected[name] = component.find("tensors")->integer();
    }
    if (expected.size() == 1) expected = {{"model", expected.begin()->second}};
    EXPECT_EQ(written, expected);

    // Kept floats are widened, nothing else happens to them.
    auto source = formats::open_checkpoint(system_files(), (work_ / "checkpoint").string());
    ASSERT_TRUE(source.ok()) << source.error().text();
    std::map<std::string, Written> outputs = read_back(*report);
    for (const auto& component : source->components) {
      for (const auto& tensor : component.tensors) {
        if (tensor.dtype != DType::BF16) continue;
        std::vector<uint16_t> halves(tensor.nbytes / 2);
        auto bytes = std::as_writable_bytes(std::span(halves));
        ASSERT_TRUE(source->files[tensor.file].file->read_exact(bytes, tensor.offset).ok());
        auto match = std::find_if(outputs.begin(), outputs.end(), [&](const auto& one) {
          const std::string& name = one.first;
          bool named = name == tensor.name || name.ends_with("/" + tensor.name);
          return named && one.second.values.size() == halves.size() &&
                 std::equal(halves.begin(), halves.end(), one.second.values.begin(),
                            [](uint16_t half, float value) {
                              return std::bit_cast<uint32_t>(value) == uint32_t{half} << 16;
                            });
        });
        EXPECT_NE(match, outputs.end()) << tensor.name;
      }
    }
  }
  EXPECT_GT(found, 0);
}

}  // namespace
}  // namespace loadstone::load
