#include "kernels/few_rows_bench.hpp"

#include <cstdio>

#include "common/codecs/half.hpp"
#include "common/cuda/decoded_layer.hpp"
#include "common/cuda/ggml.hpp"
#include "common/cuda/packs_layer.hpp"
#include "kernels/device.hpp"
#include "kernels/timing.hpp"

namespace loadstone::gpu_kernels {
namespace {

namespace cuda = common::cuda;
using common::testing::Random;
using Call = std::function<void(uint64_t copy, const ls_apply& call)>;

constexpr uint64_t kTurnNbytes = uint64_t{256} << 20;

class FewRows {
 public:
  FewRows(uint64_t n, uint64_t k)
      : n_(n), k_(k), x_(random_halves(16 * k)), bias_(random_halves(n)), y_(16 * n * 2) {}

  /// Copies of random bytes, and a call of one of them timed at each number of rows.
  void run(const char* what, uint64_t nbytes, uint64_t workspace_nbytes, const Call& call,
           const std::function<void(const std::vector<Memory>&)>& bind,
           const std::vector<uint64_t>& rows) {
    std::vector<uint32_t> bytes(nbytes / 4);
    Random random(5);
    // Random halves of about 2^-6 are fine as scales, wherever they lie.
    for (uint32_t& one : bytes) one = ((random.bits() << 16 ^ random.bits()) & 0xa7ffa7ffu);
    std::vector<Memory> copies;
    for (uint64_t i = 0; i <= kTurnNbytes / nbytes; ++i) copies.emplace_back(bytes);
    bind(copies);
    const Memory workspace(workspace_nbytes);
    for (const uint64_t m : rows) {
      ls_apply apply = sdk::make<ls_apply>();
      apply.m = m;
      apply.x = x_.at();
      apply.y = y_.at();
      apply.bias = bias_.at();
      apply.x_dtype = apply.y_dtype = apply.bias_dtype = LS_DTYPE_BF16;
      apply.x_stride = k_;
      apply.y_stride = n_;
      apply.workspace = workspace.at();
      uint64_t turn = 0;
      const double us = graph_time_of(static_cast<int>(2 * copies.size()) + 20, [&](auto stream) {
        apply.stream = stream;
        call(turn++ % copies.size(), apply);
      });
      std::printf("  %-30s M %-11lu %8.2f us %7.0f GB/s of packed bytes\n", what, m, us,
                  static_cast<double>(nbytes) / us * 1e-3);
      std::fflush(stdout);
    }
  }

  void words(const char* what, int_packs::Packing packing, const std::vector<uint64_t>& rows) {
    int_packs::Matrix w;
    w.packing = packing;
    w.n = n_;
    w.k = k_;
    w.group_size = 128;
    w.groups = k_ / w.group_size;
    const uint64_t words = n_ * k_ / 2, zeros = w.groups * n_ / 2, scales = w.groups * n_ * 2;
    std::vector<int_packs::Matrix> bound;
    run(
        what, words + zeros + scales, 0,
        [&](uint64_t copy, const ls_apply& call) { cuda::PacksLayer(bound[copy]).run(call); },
        [&](const std::vector<Memory>& copies) {
          for (const Memory& copy : copies) {
            bound.push_back(w);
            bound.back().qweight = copy.at<uint32_t>();
            bound.back().qzeros = copy.at<uint32_t>(words);
            bound.back().scales = copy.at(words + zeros);
          }
        },
        rows);
  }

  void blocks(ggml::Type type) {
    const ggml::TypeInfo& info = *ggml::find_type(uint32_t{type});
    const uint64_t nbytes = n_ * k_ / info.elems * info.nbytes;
    std::vector<cuda::GgmlRun> bound;
    const auto bind = [&](const std::vector<Memory>& copies) {
      for (const Memory& copy : copies) bound.push_back({type, copy.at<uint8_t>(), 0, n_, k_});
    };
    run(info.name, nbytes, 0,
        [&](uint64_t copy, const ls_apply& call) {
          check(cuda::ggml_few_rows(bound[copy], cuda::eights_of(call, 0, n_, k_)));
        },
        bind, {1, 4, 16});
    bound.clear();
    const std::string decoded = std::string(info.name) + ", decoded";
    run(decoded.c_str(), nbytes, cuda::decoded_nbytes(n_, k_, 16),
        [&](uint64_t copy, const ls_apply& call) {
          cuda::run_decoded(
              n_, k_,
              [&](uint64_t begin, uint64_t count, void* out, uint32_t dtype, cudaStream_t stream) {
                return cuda::ggml_decode(bound[copy], begin, count, out, dtype, stream);
              },
              call);
        },
        bind, {1, 16});
  }

 private:
  static std::vector<uint16_t> random_halves(uint64_t count) {
    Random random(2);
    std::vector<uint16_t> out(count);
    for (uint16_t& one : out) one = common::bf16_encode(random.uniform());
    return out;
  }

  uint64_t n_, k_;
  Memory x_, bias_, y_;
};

}  // namespace

void bench_few_rows(uint64_t n, uint64_t k) {
  std::printf("\nN %lu, K %lu\n", n, k);
  FewRows bench(n, k);
  bench.words("words, groups of 128", int_packs::Packing::gptq, {1, 2, 4, 8, 16});
  bench.words("AWQ words, groups of 128", int_packs::Packing::awq, {1, 4, 16});
  for (const ggml::Type type : {ggml::kQ4_0, ggml::kQ4_K, ggml::kQ8_0}) bench.blocks(type);
}

}  // namespace loadstone::gpu_kernels
