// Prompts as Qwen-Image's text model reads them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/tokenizer/tokenizer.hpp"

namespace loadstone::networks::qwen_image {

constexpr int64_t kDropped = 34;  // tokens of the template's head, whatever they are

struct ReadPrompt {
  std::vector<int32_t> ids;  // of the whole template, at most 1024 + 34
  at::Tensor used;           // those that the text model reads, int64: the head and at most 512
};

/// Errors: invalid_argument (not UTF-8, too long).
Result<ReadPrompt> read_prompt(const std::string& prompt, const tokenizer::Tokenizer& tokenizer);

}  // namespace loadstone::networks::qwen_image
