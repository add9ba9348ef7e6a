// Small parts of the runtime: the product for plugins, noise, traces, names of pictures.
#include <ATen/Parallel.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "runtime/attention.hpp"
#include "runtime/attention_calls.hpp"
#include "runtime/gemm.hpp"
#include "runtime/image_files.hpp"
#include "runtime/linear.hpp"
#include "runtime/noise.hpp"
#include "runtime/testing/seeded.hpp"
#include "runtime/torch_setup.hpp"
#include "runtime/trace.hpp"
#include "runtime/weights.hpp"

namespace loadstone::runtime {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct GemmType {
  uint32_t dtype;
  at::ScalarType type;
  double tolerance;
};

TEST(TorchGemm, MultipliesEveryDtypeWithScales) {
  const GemmType types[] = {{LS_DTYPE_F32, at::kFloat, 1e-5},
                            {LS_DTYPE_BF16, at::kBFloat16, 1e-5},
                            {LS_DTYPE_F16, at::kHalf, 1e-5},
                            {LS_DTYPE_F8_E4M3, at::kFloat8_e4m3fn, 1e-5},
                            {LS_DTYPE_I8, at::kChar, 0}};
  const at::Tensor x_scale = at::tensor(std::vector<float>{0.5, 2, 4});
  const at::Tensor w_scale = at::tensor(std::vector<float>{1, 0.25});
  for (const GemmType& type : types) {
    const bool integers = type.type == at::kChar;
    const at::Tensor x = at::randn({3, 40}).mul(integers ? 40 : 1).to(type.type);
    const at::Tensor w = at::randn({2, 40}).mul(integers ? 40 : 1).to(type.type);
    at::Tensor y = at::zeros({3, 2});
    ls_gemm call{};
    call.struct_size = sizeof(call);
    call.dtype = type.dtype;
    call.place = LS_PLACE_HOST;
    call.m = 3;
    call.n = 2;
    call.k = 40;
    call.x = x.const_data_ptr();
    call.w = w.const_data_ptr();
    call.y = y.mutable_data_ptr<float>();
    const at::Tensor product = x.to(at::kDouble).matmul(w.to(at::kDouble).t());
    ASSERT_EQ(torch_gemm(&call), LS_OK);
    EXPECT_TRUE(at::allclose(y.to(at::kDouble), product, type.tolerance, type.tolerance));
    call.x_scale = x_scale.const_data_ptr<float>();
    call.w_scale = w_scale.const_data_ptr<float>();
    call.x_per_row = call.w_per_row = 1;
    ASSERT_EQ(torch_gemm(&call), LS_OK);
    EXPECT_TRUE(at::allclose(
        y.to(at::kDouble),
        product.mul(x_scale.to(at::kDouble).unsqueeze(1)).mul(w_scale.to(at::kDouble).unsqueeze(0)),
        1e-5, 1e-5));
    call.x_per_row = call.w_per_row = 0;
    ASSERT_EQ(torch_gemm(&call), LS_OK);
    EXPECT_TRUE(at::allclose(y.to(at::kDouble), product.mul(0.5), 1e-5, 1e-5));
  }
}

TEST(TorchGemm, Int8SumsAreExact) {
  const int64_t k = 70000;  // 127·127·k is beyond float32's integers
  const at::Tensor x = at::full({1, k}, 127, at::TensorOptions().dtype(at::kChar));
  at::Tensor y = at::zeros({1, 1});
  ls_gemm call{};
  call.struct_size = sizeof(call);
  call.dtype = LS_DTYPE_I8;
  call.place = LS_PLACE_HOST;
  call.m = call.n = 1;
  call.k = static_cast<uint64_t>(k);
  call.x = call.w = x.const_data_ptr();
  call.y = y.mutable_data_ptr<float>();
  ASSERT_EQ(torch_gemm(&call), LS_OK);
  EXPECT_EQ(y.item().toFloat(), static_cast<float>(127 * 127 * k));
}

TEST(TorchGemm, RefusesWhatItCannotMultiply) {
  ls_gemm call{};
  call.struct_size = sizeof(call);
  call.dtype = LS_DTYPE_F64;
  call.place = LS_PLACE_HOST;
  EXPECT_EQ(torch_gemm(&call), LS_UNSUPPORTED);
  call.dtype = LS_DTYPE_F32;
  call.place = LS_PLACE_CUDA;
  EXPECT_EQ(torch_gemm(&call), LS_UNSUPPORTED);
}

TEST(TorchSetup, SetsTheThreadsOfOperators) {
  ASSERT_TRUE(set_up_torch(1).ok());
  EXPECT_EQ(at::get_num_threads(), 1);
}

TEST(Noise, DependsOnTheSeedAloneAndIsOneDraw) {
  const at::Tensor a = draw_noise({2, 1, 16, 4, 4}, 7);
  EXPECT_TRUE(at::equal(a, draw_noise({2, 1, 16, 4, 4}, 7)));
  EXPECT_FALSE(at::equal(a, draw_noise({2, 1, 16, 4, 4}, 8)));
  EXPECT_TRUE(at::equal(a.view({-1}), draw_noise({512}, 7)));
}

TEST(PlainLinear, GeluIsOfTheWholeProduct) {
  const at::Tensor w = at::randn({5, 8}), b = at::randn({5}), x = at::randn({3, 8});
  for (const at::Tensor& bias : {b, at::Tensor()}) {
    const auto layer = plain_linear(w, bias);
    at::Tensor y = at::zeros({3, 5});
    SharedActivation shared;
    layer->gelu_into(x, y, shared);
    EXPECT_TRUE(at::equal(y, at::gelu((*layer)(x), "tanh")));
    EXPECT_FALSE(layer->into_without_bias(x, y, shared).defined());
    EXPECT_TRUE(at::equal(y, (*layer)(x)));
  }
}

TEST(Attention, CallsAreCountedByWhoComputedThem) {
  const at::Tensor x = at::randn({1, 2, 2048, 8}).to(at::kBFloat16);
  const AttentionCall call{.q = x, .k = x, .v = x, .scale = 0.25};
  EXPECT_FALSE(takes_cudnn(call));  // on the CPU
  const AttentionCalls before = attention_calls();
  attention(call);
  EXPECT_EQ(attention_calls().torch, before.torch + 1);
  EXPECT_EQ(attention_calls().cudnn, before.cudnn);
}

TEST(Attention, GroupedAndCausal) {
  const at::Tensor q = at::randn({1, 4, 3, 8}), k = at::randn({1, 2, 3, 8}),
                   v = at::randn({1, 2, 3, 8});
  const at::Tensor out = attention({.q = q, .k = k, .v = v, .scale = 0.25, .causal = true});
  EXPECT_THAT(out.sizes(), ElementsAre(1, 3, 32));
  // The first query sees the first key alone: its value, a head of kv for two of q.
  for (int64_t head = 0; head < 4; ++head) {
    EXPECT_TRUE(at::allclose(out[0][0].narrow(0, head * 8, 8), v[0][head / 2][0]));
  }
}

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "loadstone_XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string in_folder(const std::string& name) const { return folder_ + "/" + name; }
  std::string folder_;
};

TEST_F(Files, TensorsComeBack) {
  const std::string path = in_folder("t.safetensors");
  const at::Tensor a = at::randn({2, 3}), b = at::arange(4, at::TensorOptions().dtype(at::kInt));
  ASSERT_TRUE(write_tensors(path, {{"latents", a.t()}, {"ids", b}}).ok());
  auto back = read_tensor(system_files(), path, "latents");
  ASSERT_TRUE(back.ok()) << back.error().text();
  EXPECT_TRUE(at::equal(*back, a.t()));
  EXPECT_EQ(read_tensor(system_files(), path, "latent").error().text(),
            "tensor is not in the file: " + path +
                ": found latents and ids, expected \"latent\"; did you mean latents?");
  EXPECT_THAT(read_tensor(system_files(), path, "ids").error().text(),
              HasSubstr("found I32, expected F32"));
}

TEST(PicturePaths, SeveralAreNumbered) {
  EXPECT_THAT(picture_paths("a/b.png", 1), ElementsAre("a/b.png"));
  EXPECT_THAT(picture_paths("a/b.png", 2), ElementsAre("a/b_0.png", "a/b_1.png"));
  EXPECT_THAT(picture_paths("a.d/b", 2), ElementsAre("a.d/b_0", "a.d/b_1"));
}

TEST(ModelConfig, ValuesAreChecked) {
  auto node =
      parse_json(R"({"n": 3, "zero": 0, "text": "x", "list": [1, 2], "on": true})", "config.json");
  ASSERT_TRUE(node.ok());
  EXPECT_EQ(*config_count(*node, "n"), 3);
  EXPECT_THAT(*config_counts(*node, "list"), ElementsAre(1, 2));
  EXPECT_EQ(*config_number(*node, "missing", 0.5), 0.5);
  EXPECT_TRUE(config_must_be_off(*node, "missing").ok());
  EXPECT_THAT(config_count(*node, "zero").error().text(),
              HasSubstr("found 0 as zero, expected a count"));
  EXPECT_THAT(config_count(*node, "missing").error().text(),
              HasSubstr("found nothing as missing, expected a count"));
  EXPECT_THAT(config_number(*node, "text", 0).error().text(), HasSubstr("found \"x\" as text"));
  EXPECT_THAT(config_must_be_off(*node, "on").error().text(),
              HasSubstr("found on true, expected false"));
}

}  // namespace
}  // namespace loadstone::runtime
