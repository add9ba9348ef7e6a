// Input: a byte that picks a type, a byte of options, then blocks. Every kernel of the machine
// decodes what the scalar one decodes; what a type encodes decodes to finite values again.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "common/ggml/check.hpp"
#include "common/ggml/dequantize.hpp"
#include "common/ggml/multiply.hpp"
#include "common/ggml/quantize.hpp"

namespace {

using namespace loadstone;

constexpr uint64_t kMaxBlocks = 5;  // more than any kernel takes at once

/// Equal bits, the payload of a NaN aside.
void require_same(const std::vector<float>& a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) != std::isnan(b[i])) std::abort();
    if (!std::isnan(a[i]) && std::memcmp(&a[i], &b[i], sizeof(float)) != 0) std::abort();
  }
}

std::vector<float> decode(const ggml::TypeInfo& type, const uint8_t* blocks, uint64_t count,
                          ggml::Stores stores, common::Cpu cpu) {
  std::vector<float> out(count * type.elems);
  ggml::dequantizer(type.type, stores, cpu)(blocks, count, out.data());
  return out;
}

/// What `quantize` does with such weights: whole blocks whose values decode.
void encode_again(const ggml::TypeInfo& type, std::vector<float> values) {
  const ggml::Quantize encode = ggml::quantizer(type.type);
  if (encode == nullptr) return;
  for (float& value : values) {
    if (!std::isfinite(value)) value = 0;
  }
  const uint64_t count = values.size() / type.elems;
  const std::unique_ptr<uint8_t[]> blocks(new uint8_t[count * type.nbytes]);
  encode(values.data(), count, blocks.get());
  if (ggml::first_bad_scale(type.type, blocks.get(), count) != count) return;  // beyond float16
  for (const float value :
       decode(type, blocks.get(), count, ggml::Stores::cached, common::Cpu::scalar)) {
    if (!std::isfinite(value)) std::abort();
  }
}

void multiply(const ggml::TypeInfo& type, const uint8_t* blocks, uint64_t count, uint64_t m) {
  const uint64_t in = count * type.elems;
  const std::vector<float> x(m * in, 0.5f);
  std::vector<float> y(m);
  ggml::multiply(type.type, blocks, 1, in, x.data(), m, y.data(), 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t nbytes) {
  if (nbytes < 2) return 0;
  const ggml::TypeInfo& type = ggml::kTypes[bytes[0] % std::size(ggml::kTypes)];
  const uint32_t options = bytes[1];
  if (!type.decodes || ggml::dequantizer(type.type) == nullptr) return 0;
  const uint64_t count = std::min<uint64_t>((nbytes - 2) / type.nbytes, kMaxBlocks);
  // Exactly as long as the blocks: a read past them is seen. Plain floats are of 4.
  const std::unique_ptr<uint8_t[]> blocks(new uint8_t[count * type.nbytes]);
  std::copy_n(bytes + 2, count * type.nbytes, blocks.get());

  const auto scalar = decode(type, blocks.get(), count, ggml::Stores::cached, common::Cpu::scalar);
  // One of the other ways an input: more inputs a second reach more than all ways of each.
  const ggml::Stores stores = (options & 1) != 0 ? ggml::Stores::streamed : ggml::Stores::cached;
  const common::Cpu cpu = (options & 2) != 0 ? common::best_cpu() : common::Cpu::avx2;
  if (cpu <= common::best_cpu()) {
    require_same(scalar, decode(type, blocks.get(), count, stores, cpu));
  }
  const uint64_t bad = ggml::first_bad_scale(type.type, blocks.get(), count);
  for (uint64_t i = 0; i < bad * type.elems; ++i) {
    if (std::isnan(scalar[i])) std::abort();  // finite scales give numbers
  }
  if ((options & 4) != 0 && count > 0) {
    multiply(type, blocks.get(), count, 1 + (options >> 3) % ggml::kMaxMultiplyRows);
  }
  if ((options & 4) == 0) encode_again(type, scalar);
  return 0;
}
