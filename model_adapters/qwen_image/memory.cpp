#include "qwen_image/memory.hpp"

#include <algorithm>

#include "runtime/torch_setup.hpp"

namespace loadstone::networks::qwen_image {
namespace {

constexpr uint64_t kSegments = 64 << 20;  // that LibTorch's allocator rounds a recording up to
constexpr int64_t kFewestRows = 64;       // of a strip of the picture
constexpr int64_t kStripReach = 208;      // rows that a strip reads above and below it

}  // namespace

runtime::RunMemory plan_memory(const TextModel& text, const Transformer& transformer,
                               const CausalVae& vae, const StepShape& step,
                               const PictureSize& picture, const RunKind& kind) {
  runtime::RunMemory out;
  const auto phase = [&](uint64_t nbytes, uint64_t recordings) {
    out.step = std::max(out.step, nbytes);
    // A recording keeps what it works on in memory of its own.
    if (kind.recording) out.recorded += recordings * (nbytes + kSegments);
  };
  if (!text.device().is_cpu()) {
    phase(text.forward_nbytes(kind.read_tokens, kind.quantized_text), step.text_tokens.size());
  }
  if (!transformer.device().is_cpu()) {
    phase(Denoiser::step_nbytes(transformer, step, kind.steps, kind.quantized), 1);
  }
  if (!vae.device().is_cpu()) {
    out.decode = vae.decode_nbytes(picture.batch, picture.height, picture.width);
  }
  return out;
}

DecodeRows choose_decode_rows(const CausalVae& vae, const PictureSize& picture, uint32_t asked) {
  const int64_t height = picture.height;
  const auto needs = [&](int64_t rows) {
    return vae.decode_nbytes(picture.batch, std::min(height, rows + kStripReach), picture.width);
  };
  DecodeRows out{asked == 0 ? height : std::min<int64_t>(asked, height), 0, {}};
  if (asked == 0) {
    const uint64_t free = runtime::free_nbytes(vae.device());
    while (out.rows > kFewestRows && needs(out.rows) > free) {
      out.rows = (out.rows / 2 + 7) / 8 * 8;
    }
    if (out.rows < height) {
      out.why = "decoded " + std::to_string(out.rows) + " rows at a time: found " +
                std::to_string(free >> 20) + " MiB free on " + vae.device().str() + ", all " +
                std::to_string(height) + " rows need " + std::to_string(needs(height) >> 20) +
                " MiB";
    }
  }
  if (!vae.device().is_cpu()) out.nbytes = needs(out.rows);
  return out;
}

}  // namespace loadstone::networks::qwen_image
