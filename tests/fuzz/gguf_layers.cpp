// Input: a GGUF file. Every matrix in it goes the way of a layer: through the plugin's library it
// is planned, produced in pieces, decoded, multiplied and saved. A refusal is fine; anything else
// must keep the bytes and stay inside its buffers.
#include <cstdlib>
#include <string_view>

#include "base/testing/memory_file.hpp"
#include "common/testing/driver.hpp"
#include "formats/gguf.hpp"

namespace {

using namespace loadstone;
using common::testing::Driver;
using common::testing::Json;
using common::testing::Produced;
using common::testing::Refusal;
using common::testing::TestLayer;

constexpr uint64_t kMaxElems = 1u << 14;

void run_in_order(uint64_t count, void (*body)(void*, uint64_t), void* context) {
  for (uint64_t i = 0; i < count; ++i) body(context, i);
}

struct Drivers {
  Drivers() : reading("gguf"), decoding("gguf"), writing("gguf") {
    reading.configure(Json::object());
    decoding.configure({{"unquantized_modules", {"blocks.0"}}});
    writing.configure({{"type", "Q4_1"}});
  }
  Driver reading, decoding, writing;
};

Drivers& drivers() {
  static Drivers* const all = [] {
    Driver::lent_parallel_for = run_in_order;
    return new Drivers;
  }();
  return *all;
}

/// Adds a tensor's rows as the next part of the layer.
void add_part(TestLayer& layer, const formats::TensorEntry& tensor, std::string_view file) {
  const auto number = static_cast<uint32_t>(layer.parts().size());
  const uint64_t rows = tensor.shape.size() > 1 ? tensor.shape[tensor.shape.size() - 2] : 1;
  layer.part("part" + std::to_string(number), layer.out, rows);
  layer.tensor(
      "weight", static_cast<uint32_t>(tensor.dtype), {tensor.shape.begin(), tensor.shape.end()},
      std::vector<char>(file.begin() + static_cast<ptrdiff_t>(tensor.offset),
                        file.begin() + static_cast<ptrdiff_t>(tensor.offset + tensor.nbytes)),
      number);
  layer.out += rows;
  layer.in = tensor.shape.empty() ? 1 : tensor.shape.back();
}

void run(Driver& driver, TestLayer& layer) {
  try {
    Produced produced = driver.produce(layer);
    if (produced.answer.work.verdict != LS_VERDICT_QUANTIZE) return;
    const auto weight = driver.dequantize(layer, produced, 0, layer.out, layer.in);
    const std::vector<float> x(layer.in, 1.0f);
    Driver::Run product;
    product.m = 1;
    product.k = layer.in;
    product.n = layer.out;
    product.x = x.data();
    driver.apply(layer, produced, product);
    const auto saved = driver.save(layer, produced);
    for (size_t i = 0; i < saved.size(); ++i) {
      const bool same_type = saved[i].shape.dtype == layer.sources()[i].dtype;
      if (same_type && saved[i].bytes != layer.sources()[i].bytes) std::abort();
    }
  } catch (const Refusal&) {
  }
}

bool fits(const formats::TensorEntry& tensor) {
  uint64_t elems = 1;
  for (const uint64_t dim : tensor.shape) elems *= dim;  // the file holds them: no overflow
  return elems <= kMaxElems && tensor.shape.size() <= LS_MAX_RANK;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t nbytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), nbytes);
  const auto file = formats::read_gguf(loadstone::testing::MemoryFile(text), nbytes);
  if (!file.ok()) return 0;
  TestLayer fused;  // all of them together, whatever their types and widths
  size_t matrices = 0;
  for (const formats::TensorEntry& tensor : file->tensors) {
    if (!fits(tensor) || ++matrices > 8) continue;
    TestLayer layer;
    add_part(layer, tensor, text);
    for (Driver* one : {&drivers().reading, &drivers().decoding, &drivers().writing}) {
      run(*one, layer);
    }
    add_part(fused, tensor, text);
  }
  if (!fused.parts().empty()) run(drivers().reading, fused);
  return 0;
}
