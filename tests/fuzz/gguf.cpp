// Input: a GGUF file.
#include "formats/gguf.hpp"

#include <cstdlib>
#include <string_view>

#include "base/testing/memory_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t nbytes) {
  using namespace loadstone;
  const std::string_view text(reinterpret_cast<const char*>(bytes), nbytes);
  const auto file = formats::read_gguf(testing::MemoryFile(text), nbytes);
  if (!file.ok()) return 0;
  uint64_t end = 0;
  for (const formats::TensorEntry& tensor : file->tensors) {
    if (tensor.offset < end || tensor.offset + tensor.nbytes > nbytes) std::abort();
    end = tensor.offset + tensor.nbytes;
  }
  (void)file->metadata.to_json();
  return 0;
}
