#include "qwen_image/prompt.hpp"

#include <ATen/ops/tensor.h>

#include <algorithm>

#include "runtime/tokenizer/unicode.hpp"

namespace loadstone::networks::qwen_image {
namespace {

constexpr std::string_view kBefore =
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n";
constexpr std::string_view kAfter = "<|im_end|>\n<|im_start|>assistant\n";
constexpr size_t kHead = kDropped, kMaxTokens = 1024 + kHead;
constexpr size_t kMaxKept = 512;

}  // namespace

Result<ReadPrompt> read_prompt(const std::string& prompt, const tokenizer::Tokenizer& tokenizer) {
  // Here, so that an error counts the prompt's own bytes.
  if (auto codes = tokenizer::decode_utf8(prompt); !codes) return std::move(codes).error();
  ReadPrompt out;
  LS_TRY(out.ids, tokenizer.encode(std::string(kBefore) + prompt + std::string(kAfter)));
  if (out.ids.size() > kMaxTokens) out.ids.resize(kMaxTokens);
  // The model is causal: tokens behind the kept ones change nothing.
  const size_t used = std::min(out.ids.size(), kHead + kMaxKept);
  if (used <= kHead) {
    return Error{Code::invalid_checkpoint,
                 "prompt has no tokens",
                 "",
                 "found " + std::to_string(out.ids.size()) +
                     " with the template, expected more than " + std::to_string(kHead),
                 "",
                 {}};
  }
  out.used = at::tensor(
      std::vector<int64_t>(out.ids.begin(), out.ids.begin() + static_cast<ptrdiff_t>(used)));
  return out;
}

}  // namespace loadstone::networks::qwen_image
