// Prompts as Qwen-Image's text model reads them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "qwen_image/text_model.hpp"
#include "runtime/tokenizer/tokenizer.hpp"

namespace loadstone::networks::qwen_image {

struct EncodedPrompt {
  std::vector<int32_t> ids;  // of the whole template, at most 1024 + 34
  at::Tensor embeddings;     // [L, width]: the first 34 tokens dropped, at most 512 kept
};

/// Errors: invalid_argument (not UTF-8, too long).
Result<EncodedPrompt> encode_prompt(const std::string& prompt,
                                    const tokenizer::Tokenizer& tokenizer, const TextModel& model);

}  // namespace loadstone::networks::qwen_image
