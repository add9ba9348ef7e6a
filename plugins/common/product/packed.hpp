// Inside the products: x packed once, W's rows as they are, 32 by 32 outputs at a time on the
// processor's dot-product instructions. W's rows are the left operand and the packed activation the
// right one, so y comes out transposed, 16 by 16, and is turned while it is scaled.
//
// Items are bf16 values (float32 sums) or int8 codes (exact int32 sums). 64 bytes of a row are one
// step: 32 bf16 or 64 int8. The activation is packed as [m/16][steps] blocks of 1 KiB: 16 rows of
// 16 columns of 4 bytes (pairs or quads of K down, activation rows across).
#pragma once

#include <loadstone/plugin.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace loadstone::common::packed {

/// One way to multiply. Steps [begin, end) of 32 rows at `a` (`stride` bytes apart) by two packed
/// blocks of 16 activation rows, into four 16×16 accumulators [rows of W][activation rows]: float32
/// for bf16, int32 for int8.
struct Unit {
  const char* name;      // "amx_bf16"
  uint64_t item_nbytes;  // 2: bf16; 1: int8
  bool tiles;            // needs the tile registers configured
  bool offset;           // wants the activation's codes plus 128, as unsigned bytes
  void (*multiply)(const char* a, uint64_t stride, const char* b0, const char* b1, uint64_t begin,
                   uint64_t end, void* acc);
  bool integers() const { return item_nbytes == 1; }
};

/// What this process may use at the level in use (LOADSTONE_CPU counts), best first.
const std::vector<const Unit*>& bf16_units();
const std::vector<const Unit*>& int8_units();

struct Shape {
  uint64_t n = 0, k = 0;
  uint64_t group = 0;  // of K per scale, a multiple of 32; 0: one scale a row. bf16 only
  uint64_t groups() const { return group == 0 ? 1 : (k + group - 1) / group; }
};

/// Row `row` of x, widened, to k items and groups() scales; `room` holds two rows of k floats, each
/// rounded up to 32.
using PackRow =
    std::function<void(uint64_t row, const float* x, float* room, void* items, float* scales)>;

struct Weight {
  std::function<void(uint64_t row, void* items)> decode;  // k items
  std::function<const float*(uint64_t row)> scales;       // groups() scales
  const int32_t* constants = nullptr;  // int8: added to each row's sums; null: none
};

uint64_t activation_nbytes(const Unit& unit, const Shape& shape, uint64_t m);
uint64_t workspace_nbytes(const Unit& unit, const Shape& shape);
void prepare(const Unit& unit, const Shape& shape, const ls_apply& call, const PackRow& pack,
             void* activation);
/// Rows [begin, begin+count) of W; y = sx·(sw·acc) + bias, or groups summed in order. Integers: acc
/// with the row's constant.
void apply(const Unit& unit, const Shape& shape, const ls_apply& call, const Weight& weight,
           uint64_t begin, uint64_t count, const void* activation);

}  // namespace loadstone::common::packed
