// Layers of a loaded model as modules: plain, by a method, side by side, in parts.
#include "runtime/quantized.hpp"

#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "runtime/loaded_weights.hpp"
#include "runtime/testing/open_model.hpp"
#include "runtime/trace.hpp"

namespace loadstone::runtime {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class LoadedWeightsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "loadstone_XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    NamedTensors tensors;
    for (const char* layer : {"q", "k", "v"}) {
      tensors.emplace_back(std::string("block.") + layer + ".weight", matrix(4, 8));
    }
    tensors.emplace_back("block.q.bias", at::full({4}, 100.0));
    tensors.emplace_back("norm.weight", at::ones({8}));
    ASSERT_TRUE(write_tensors(file(), tensors).ok());
  }
  void TearDown() override { fs::remove_all(folder_); }

  static at::Tensor matrix(int64_t rows, int64_t columns) {
    return at::arange(rows * columns, at::TensorOptions().dtype(at::kFloat))
        .view({rows, columns})
        .div(16);
  }
  std::string file() const { return (folder_ / "model.safetensors").string(); }

  /// `rules` are entries of the list, each a line.
  std::unique_ptr<LoadedWeights> open(const std::vector<std::string>& rules) {
    std::string config = "version: 1\nmodel: \"" + file() + "\"\n";
    if (!rules.empty()) config += "rules:\n";
    for (const std::string& rule : rules) config += "  - " + rule + "\n";
    auto model = testing::open_configured(config, "tests/runtime_plugins");
    EXPECT_TRUE(model.ok()) << model.error().text();
    if (!model.ok()) return nullptr;
    const std::string component = (*model)->plan().graph.components[0].name;
    auto weights = LoadedWeights::open(*model, component, at::kFloat, state_);
    EXPECT_TRUE(weights.ok()) << weights.error().text();
    return weights.ok() ? std::move(weights).value() : nullptr;
  }

  static std::string stamp(const std::string& layer, const std::string& fields = "") {
    return "{layer: \"" + layer + "\", use: {method: stamp" + fields + "}}";
  }

  const std::string parts_[3] = {"block.q", "block.k", "block.v"};
  fs::path folder_;
  std::shared_ptr<RunState> state_ = std::make_shared<RunState>();
};

TEST_F(LoadedWeightsTest, KeptLayersMultiply) {
  auto weights = open({});
  ASSERT_NE(weights, nullptr);
  auto q = weights->linear("block.q");
  ASSERT_TRUE(q.ok()) << q.error().text();
  EXPECT_EQ((*q)->in(), 8);
  EXPECT_EQ((*q)->out(), 4);
  EXPECT_TRUE((*q)->rows_are_independent());
  const at::Tensor x = at::ones({2, 8});
  const at::Tensor expected = matrix(4, 8).sum(1).add(100).expand({2, 4});
  EXPECT_TRUE(at::equal((**q)(x), expected));
  auto norm = weights->tensor("norm.weight");
  ASSERT_TRUE(norm.ok());
  EXPECT_TRUE(at::equal(*norm, at::ones({8})));
}

TEST_F(LoadedWeightsTest, PartsOfAnUnfusedProjectionStandSideBySide) {
  auto weights = open({});
  ASSERT_NE(weights, nullptr);
  auto qkv = weights->fused("block.qkv", parts_);
  ASSERT_TRUE(qkv.ok()) << qkv.error().text();
  const at::Tensor x = matrix(3, 8);
  const at::Tensor one = x.matmul(matrix(4, 8).t());
  EXPECT_TRUE(at::allclose((**qkv)(x), at::cat({one.add(100), one, one}, 1)));
}

TEST_F(LoadedWeightsTest, LayersOfOneInputAndKeySharePrepare) {
  auto weights = open({stamp("block.q"), stamp("block.k"), stamp("block.v", ", key: 2")});
  ASSERT_NE(weights, nullptr);
  auto qkv = weights->fused("block.qkv", parts_);
  ASSERT_TRUE(qkv.ok()) << qkv.error().text();
  EXPECT_FALSE((*qkv)->rows_are_independent());
  const at::Tensor y = (**qkv)(at::ones({2, 8}));
  ASSERT_FALSE(state_->failure) << state_->failure->text();
  const at::Tensor q = y.narrow(1, 0, 4).sub(100), k = y.narrow(1, 4, 4), v = y.narrow(1, 8, 4);
  EXPECT_TRUE(at::equal(q, k));         // one prepare
  EXPECT_TRUE(at::equal(v, k.add(1)));  // its own: another key
  // The next input is prepared anew.
  EXPECT_TRUE(at::equal((**qkv)(at::ones({2, 8})).narrow(1, 4, 4), k.add(2)));
}

TEST_F(LoadedWeightsTest, MethodsWithEqualKeysShareNothing) {
  auto weights =
      open({stamp("block.q"), "{layer: block.k, use: {method: stamp_too}}", stamp("block.v")});
  ASSERT_NE(weights, nullptr);
  auto qkv = weights->fused("block.qkv", parts_);
  ASSERT_TRUE(qkv.ok()) << qkv.error().text();
  const at::Tensor y = (**qkv)(at::ones({1, 8}));
  ASSERT_FALSE(state_->failure) << state_->failure->text();
  EXPECT_TRUE(at::equal(y.narrow(1, 4, 4), y.narrow(1, 0, 4).sub(99)));
}

TEST_F(LoadedWeightsTest, WithoutKeysNothingIsShared) {
  auto weights = open({stamp("block.*", ", key: 0")});
  ASSERT_NE(weights, nullptr);
  auto qkv = weights->fused("block.qkv", parts_);
  ASSERT_TRUE(qkv.ok());
  const at::Tensor y = (**qkv)(at::ones({1, 8}));
  EXPECT_TRUE(at::equal(y.narrow(1, 8, 4), y.narrow(1, 4, 4).add(1)));
}

TEST_F(LoadedWeightsTest, MethodsSeeTheStep) {
  auto weights = open({stamp("block.k")});
  ASSERT_NE(weights, nullptr);
  auto k = weights->linear("block.k");
  ASSERT_TRUE(k.ok());
  const at::Tensor x = at::ones({1, 8});
  const double before = (**k)(x).sum().item().toDouble();
  state_->step.index = 500;
  const double after = (**k)(x).sum().item().toDouble();
  EXPECT_NEAR(after - before, 4 * 1.5, 1e-4);  // the next number, and the step
}

TEST_F(LoadedWeightsTest, AFailingMethodLeavesItsErrorAndZeros) {
  for (const char* call : {"sizes", "prepare", "apply"}) {
    auto weights = open({stamp("block.k", std::string(", fail: ") + call)});
    ASSERT_NE(weights, nullptr);
    auto k = weights->linear("block.k");
    ASSERT_TRUE(k.ok());
    EXPECT_TRUE(at::equal((**k)(at::ones({2, 8})), at::zeros({2, 4})));
    EXPECT_TRUE(state_->stopped());
    const Status failure = state_->take_failure();
    ASSERT_FALSE(failure.ok());
    EXPECT_THAT(failure.error().text(), HasSubstr("asked to fail"));
    EXPECT_THAT(failure.error().text(), HasSubstr("block.k"));
    EXPECT_FALSE(state_->stopped());
  }
  auto weights = open({stamp("block.k", ", fail: bind")});
  ASSERT_NE(weights, nullptr);
  auto k = weights->linear("block.k");
  ASSERT_FALSE(k.ok());
  EXPECT_THAT(k.error().text(), HasSubstr("asked to fail"));
}

TEST_F(LoadedWeightsTest, ObserversSeeInputAndOutput) {
  auto weights = open({});
  ASSERT_NE(weights, nullptr);
  auto k = weights->linear("block.k");
  ASSERT_TRUE(k.ok());
  std::vector<std::string> seen;
  state_->observer = [&](const std::string&, const std::string& path, const at::Tensor& x,
                         const at::Tensor& y) {
    seen.push_back(path);
    EXPECT_EQ(x.size(1), 8);
    EXPECT_TRUE(at::allclose(y, x.matmul(matrix(4, 8).t())));
  };
  (**k)(matrix(3, 8));
  EXPECT_THAT(seen, ::testing::ElementsAre("block.k"));
}

TEST_F(LoadedWeightsTest, MissingTensorsAreNamed) {
  auto weights = open({});
  ASSERT_NE(weights, nullptr);
  EXPECT_THAT(weights->linear("block.x").error().text(),
              HasSubstr("found no \"block.x\", expected a linear layer"));
  EXPECT_THAT(weights->tensor("norm.bias").error().text(),
              HasSubstr("found no \"norm.bias\", expected a tensor"));
  EXPECT_THAT(weights->embedding("emb").error().text(), HasSubstr("expected an embedding"));
}

}  // namespace
}  // namespace loadstone::runtime
