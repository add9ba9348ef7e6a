#include "common/cuda/packs_layer.hpp"

namespace loadstone::common::cuda {

void PacksLayer::run(const ls_apply& call) const {
  FewRows few{};
  few.w = w_;
  few.x = call.x;
  few.bias = call.bias;
  few.y = call.y;
  few.x_dtype = call.x_dtype;
  few.bias_dtype = call.bias_dtype;
  few.y_dtype = call.y_dtype;
  few.m = call.m;
  few.x_stride = call.x_stride;
  few.y_stride = call.y_stride;
  few.stream = stream_of(call);
  if (few_rows_fit(few)) return check(few_rows(few), "product of a few rows");
  if (const EightsProduct all = eights_of(call, 0, w_.n, w_.k); eights_fit(all)) {
    return check(words_few_rows(w_, all), "product of a few rows");
  }
  run_decoded(
      w_.n, w_.k,
      [this](uint64_t begin, uint64_t count, void* out, uint32_t dtype, cudaStream_t stream) {
        return decode_packs(w_, begin, count, out, dtype, stream);
      },
      call);
}

}  // namespace loadstone::common::cuda
