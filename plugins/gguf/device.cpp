#include "gguf/device.hpp"

#include <algorithm>

#include "common/numerics/floats.hpp"

namespace loadstone::gguf {

namespace cuda = common::cuda;

std::string device_kernel_name(const sdk::Layer& layer, const Matrix& matrix) {
  std::string name = matrix.uniform() ? matrix.segments[0].type->name : "mixed";
  for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return "gguf_" + name + (layer.kind() == LS_KIND_GATHER ? "_lookup" : "_mma_cublaslt");
}

BlocksBound::BlocksBound(const ggml::TypeInfo* made, const sdk::Binding& binding)
    : n_(binding.layer.out()), k_(0), gathers_(binding.layer.kind() == LS_KIND_GATHER) {
  Matrix matrix = matrix_of(binding.layer);
  if (matrix.plain()) {
    for (Segment& segment : matrix.segments) segment.type = made;
  }
  k_ = matrix.in;
  device_ = cuda::device_of(binding.stored.raw(0).at);
  const cuda::OnDevice guard(device_);
  const bool shared = matrix.uniform();
  for (size_t i = 0; i < matrix.segments.size(); ++i) {
    const Segment& segment = matrix.segments[i];
    const auto* base = static_cast<const uint8_t*>(binding.stored.raw(shared ? 0 : i).at);
    const uint64_t row = shared ? segment.begin : 0;
    runs_.push_back({segment.type->type, base + row * row_nbytes(*segment.type, k_), segment.begin,
                     segment.count, k_});
    cuda::check(cuda::ggml_prepare(segment.type->type), "copying grids");
  }
}

void BlocksBound::sizes(uint32_t, uint64_t m, ls_sizes& out) const {
  if (!gathers_) out.workspace_nbytes = cuda::decoded_nbytes(n_, k_, m);
}

cudaError_t BlocksBound::decode(uint64_t begin, uint64_t count, void* out, uint32_t dtype,
                                cudaStream_t stream) const {
  for (const cuda::GgmlRun& run : runs_) {
    const uint64_t from = std::max(begin, run.begin);
    const uint64_t to = std::min(begin + count, run.begin + run.count);
    if (from >= to) continue;
    char* at = static_cast<char*>(out) + (from - begin) * k_ * common::float_nbytes(dtype);
    const cudaError_t status =
        cuda::ggml_decode(run, from - run.begin, to - from, at, dtype, stream);
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

void BlocksBound::gather(const ls_apply& call) const {
  if (call.x_dtype != LS_DTYPE_I64) {
    sdk::fail(LS_INVALID_ARGUMENT, "gather expects I64 row numbers");
  }
  cuda::GgmlGather gather{};
  gather.ids = static_cast<const int64_t*>(call.x);
  gather.id_stride = std::max<uint64_t>(call.x_stride, 1);
  gather.count = call.m;
  gather.n = n_;
  gather.stride = call.y_stride;
  gather.out = call.y;
  gather.dtype = call.y_dtype;
  gather.stream = cuda::stream_of(call);
  for (const cuda::GgmlRun& run : runs_) {
    cuda::check(cuda::ggml_gather(run, gather), "looking rows up");
  }
}

void BlocksBound::few_rows(const ls_apply& call) const {
  for (const cuda::GgmlRun& run : runs_) {
    const cuda::EightsProduct part = cuda::eights_of(call, run.begin, run.count, k_);
    cuda::check(cuda::ggml_few_rows(run, part), "product of a few rows");
  }
}

void BlocksBound::apply(const ls_apply& call) const {
  if (call.m == 0) return;
  const cuda::OnDevice guard(device_);
  if (gathers_) return gather(call);
  if (cuda::eights_fit(cuda::eights_of(call, 0, n_, k_))) return few_rows(call);
  cuda::run_decoded(
      n_, k_,
      [this](uint64_t begin, uint64_t count, void* out, uint32_t dtype, cudaStream_t stream) {
        return decode(begin, count, out, dtype, stream);
      },
      call);
}

}  // namespace loadstone::gguf
