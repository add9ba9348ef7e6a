// Small models on disk, planned with the toy plugin, for tests of planning and loading.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/testing/faulty_file.hpp"
#include "formats/safetensors_writer.hpp"
#include "load/loaded_model.hpp"
#include "plan/planner.hpp"

namespace loadstone::load::testing {

struct KitTensor {
  std::string name;
  DType dtype = DType::BF16;
  formats::Shape shape;
  std::vector<std::byte> bytes;
};

/// A layer of one or more parts (module names); its tensors are those below its parts.
struct KitLayer {
  std::string path;
  std::vector<std::string> parts;
  std::string mode;                       // of the toy; "": kept
  std::map<std::string, int64_t> fields;  // of the toy
  plan::Decision wish = plan::Decision::quantize;
};

/// Use: tensor(…) and layer(…), then write(), then plan() and load().
class Kit : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  /// BF16 or F32 values from a small generator, by name; integers count up.
  void tensor(const std::string& name, DType dtype, formats::Shape shape);
  void tensor(const std::string& name, DType dtype, formats::Shape shape,
              std::vector<std::byte> bytes);
  void layer(KitLayer layer) { layers_.push_back(std::move(layer)); }
  /// A linear layer with weight BF16 (out, in), in a mode of the toy.
  void linear(const std::string& path, uint64_t out, uint64_t in, const std::string& mode,
              std::map<std::string, int64_t> fields = {});

  /// One file, tensors in the order they were added; opens it through `files_`.
  void write();
  Result<plan::Plan> make_plan(const plan::LoadOptions& options = {});
  /// Plans and loads; fails the test if the plan can't be made.
  Result<LoadedModel> load_all(const plan::LoadOptions& options = {},
                               const LoadControl& control = {});

  const KitTensor& find(const std::string& name) const;
  std::vector<float> floats(const std::string& name) const;  // of a BF16 or F32 tensor
  /// A stored tensor of a loaded layer, by path and name.
  std::vector<std::byte> stored(const LoadedModel& model, const std::string& path,
                                const std::string& name) const;
  std::vector<float> stored_floats(const LoadedModel& model, const std::string& path,
                                   const std::string& name) const;
  static const plan::LayerPlan& plan_of(const plan::Plan& plan, const std::string& path);

  /// Every stored tensor is what its mode says, computed here from the tensors written.
  void expect_right(const LoadedModel& model) const;
  /// Bytes equal the plan; peaks within the bounds of the design, both ways.
  static void expect_as_planned(const LoadedModel& model);

  /// The load failed so, and its words hold `text`.
  static void expect_error(const Result<LoadedModel>& model, Code code, const std::string& text);

  ::loadstone::testing::Faults& faults() { return files_.faults(); }
  std::string file() const { return (folder_ / "model.safetensors").string(); }

  std::filesystem::path folder_;
  ::loadstone::testing::FaultyFileSystem files_;
  std::vector<KitTensor> tensors_;
  std::vector<KitLayer> layers_;
  std::shared_ptr<const formats::Checkpoint> checkpoint_;
  std::unique_ptr<plugin::Registry> registry_;
  config::Schemas schemas_;
  config::OnUnsupported on_unsupported_ = config::OnUnsupported::error;
  bool from_declaration_ = false;
  plan::Target target_;

  graph::Graph graph() const;
  Result<std::vector<plan::Routed>> routed() const;

 private:
  void expect_layer(const LoadedModel& model, const KitLayer& layer) const;
};

}  // namespace loadstone::load::testing
