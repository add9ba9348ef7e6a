// Text to picture with Qwen-Image: prompt → text model → transformer × steps → VAE decoder.
#pragma once

#include "runtime/drawer.hpp"

namespace loadstone::networks::qwen_image {

/// Errors: invalid_checkpoint (a missing tensor, tokenizer, scheduler; parts that don't fit).
Result<std::unique_ptr<runtime::Drawer>> make_drawer(const runtime::DrawerSource& source);

}  // namespace loadstone::networks::qwen_image
