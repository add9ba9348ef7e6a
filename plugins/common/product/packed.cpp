#include "common/product/packed.hpp"

#include <cstring>
#include <loadstone/plugin.hpp>

#include "common/product/rows.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#define LOADSTONE_TARGET_PACKED \
  __attribute__((target("amx-tile,avx512f,avx512bw,avx512dq,avx512vl,avx2,f16c,bmi2")))

namespace loadstone::common::packed {
namespace {

constexpr uint64_t kTile = 16;                   // rows and columns of an accumulator
constexpr uint64_t kBlockNbytes = 1024;          // of packed activation: 16 rows, one step
constexpr uint64_t kDecodedNbytes = 512u << 10;  // of W per task: a quarter of a core's cache

/// Sizes that follow from unit and shape.
struct Layout {
  Layout(const Unit& unit, const Shape& s)
      : item(unit.item_nbytes),
        kp(round_up(std::max<uint64_t>(s.k, 1), 64 / unit.item_nbytes)),
        stride(kp * item + 64),  // off powers of two: no two rows in one cache set
        groups(s.groups()) {
    const uint64_t pairs = std::max<uint64_t>(kDecodedNbytes / (2 * kTile * stride), 1);
    const uint64_t wanted = ceil_div(ceil_div(s.n, 2 * kTile), 8);  // leave work for some threads
    block_rows = 2 * kTile * std::clamp<uint64_t>(wanted, 1, pairs);
  }
  uint64_t steps() const { return kp * item / 64; }
  uint64_t values_nbytes(uint64_t m) const { return round_up(m, kTile) * kp * item; }
  /// A task's decoded rows of W; or 16 rows of items, three rows of floats and a row's scales.
  uint64_t slice_nbytes() const {
    const uint64_t floats = 3 * kp + round_up(groups, 16);
    return round_up(std::max(block_rows * stride, kTile * stride + floats * sizeof(float)), 64);
  }

  uint64_t item, kp, stride, groups, block_rows = 0;
};

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t column_nbytes[16] = {};
  uint8_t rows[16] = {};
};

LOADSTONE_TARGET_PACKED void configure_tiles() {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.column_nbytes[tile] = 64;
    config.rows[tile] = 16;
  }
  // g++'s intrinsic claims to read 8 of the 64 bytes: keep the other stores.
  __asm__ volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

LOADSTONE_TARGET_PACKED void release_tiles() { _tile_release(); }

/// 16 rows of 16 32-bit items, transposed in registers.
LOADSTONE_TARGET_PACKED inline __attribute__((always_inline)) void transpose(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
    r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
    r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
  }
}

/// 16 rows of items, `stride` bytes apart, to packed blocks.
LOADSTONE_TARGET_PACKED void pack_rows(const char* rows, uint64_t stride, uint64_t steps,
                                       bool offset, char* packed) {
  const __m512i flip = offset ? _mm512_set1_epi8(static_cast<char>(-128)) : _mm512_setzero_si512();
  for (uint64_t step = 0; step < steps; ++step) {
    __m512i r[16];
    for (uint64_t i = 0; i < kTile; ++i) {
      r[i] = _mm512_xor_si512(_mm512_loadu_si512(rows + i * stride + step * 64), flip);
    }
    transpose(r);
    for (uint64_t i = 0; i < kTile; ++i) {
      _mm512_storeu_si512(packed + step * kBlockNbytes + i * 64, r[i]);
    }
  }
}

/// sum += acc·(sx·sw) of one accumulator and group; rows are W's, columns the activation's.
LOADSTONE_TARGET_PACKED void add_group(const float* acc, const float* sx, const float* sw,
                                       float* sum) {
  const __m512 x = _mm512_loadu_ps(sx);
  for (uint64_t i = 0; i < kTile; ++i) {
    const __m512 scale = _mm512_mul_ps(x, _mm512_set1_ps(sw[i]));
    const __m512 product = _mm512_mul_ps(_mm512_loadu_ps(acc + 16 * i), scale);
    _mm512_storeu_ps(sum + 16 * i, _mm512_add_ps(_mm512_loadu_ps(sum + 16 * i), product));
  }
}

/// acc += each row's constant; rows are W's.
LOADSTONE_TARGET_PACKED void add_constants(int32_t* acc, const int32_t* constants, uint64_t rows) {
  for (uint64_t i = 0; i < rows; ++i) {
    int32_t* at = acc + 16 * i;
    const __m512i sum = _mm512_add_epi32(_mm512_loadu_si512(at), _mm512_set1_epi32(constants[i]));
    _mm512_storeu_si512(at, sum);
  }
}

LOADSTONE_TARGET_PACKED void to_floats(void* acc, uint64_t count) {
  for (uint64_t i = 0; i < count; i += 16) {
    auto* at = static_cast<int32_t*>(acc) + i;
    _mm512_storeu_ps(at, _mm512_cvtepi32_ps(_mm512_loadu_si512(at)));
  }
}

/// Rounds and stores up to 16 values.
LOADSTONE_TARGET_PACKED inline __attribute__((always_inline)) void store(uint32_t dtype, void* to,
                                                                         __m512 v, __mmask16 mask) {
  if (dtype == LS_DTYPE_F32) return _mm512_mask_storeu_ps(to, mask, v);
  if (dtype == LS_DTYPE_F16) {
    const __m256i half = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm256_mask_storeu_epi16(to, mask, half);
  }
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __m512i chosen = _mm512_mask_mov_epi32(rounded, nan, quiet);
  _mm512_mask_cvtepi32_storeu_epi16(to, mask, _mm512_srli_epi32(chosen, 16));
}

/// What the last step of an accumulator needs.
struct Finish {
  const float* sw;    // 16 row scales of W, or null: already scaled
  const float* bias;  // 16
  const float* sx;    // of the activation rows
  uint64_t m, n;      // rows of the activation and of W that exist
};

LOADSTONE_TARGET_PACKED void finish_tile(const float* acc, const Finish& f, const ls_apply& call,
                                         uint64_t row, uint64_t column) {
  __m512i r[16];
  for (uint64_t i = 0; i < kTile; ++i) r[i] = _mm512_loadu_si512(acc + 16 * i);
  transpose(r);
  const auto mask = static_cast<__mmask16>((1u << f.n) - 1);
  const __m512 bias = _mm512_loadu_ps(f.bias);
  for (uint64_t i = 0; i < f.m; ++i) {
    __m512 y = _mm512_castsi512_ps(r[i]);
    if (f.sw != nullptr) {
      y = _mm512_mul_ps(_mm512_loadu_ps(f.sw), y);
      y = _mm512_mul_ps(_mm512_set1_ps(f.sx[i]), y);
    }
    store(call.y_dtype, y_at(call, row + i, column), _mm512_add_ps(y, bias), mask);
  }
}

/// One call's work on a block of W's rows.
class Block {
 public:
  Block(const Unit& unit, const Shape& shape, const Layout& layout, const ls_apply& call,
        const Weight& weight, const void* activation, char* slice)
      : unit_(unit),
        shape_(shape),
        layout_(layout),
        call_(call),
        weight_(weight),
        values_(static_cast<const char*>(activation)),
        scales_(reinterpret_cast<const float*>(values_ + layout.values_nbytes(call.m))),
        rows_(slice) {}

  void run(uint64_t first, uint64_t count) {
    for (uint64_t r = 0; r < round_up(count, 2 * kTile); ++r) {
      char* row = rows_ + r * layout_.stride;
      if (r < count) weight_.decode(first + r, row);
      const uint64_t filled = r < count ? shape_.k * layout_.item : 0;
      std::memset(row + filled, 0, layout_.kp * layout_.item - filled);
    }
    if (unit_.tiles) configure_tiles();
    for (uint64_t m = 0; m < call_.m; m += 2 * kTile) {
      for (uint64_t r = 0; r < count; r += 2 * kTile) square(m, first, r, count);
    }
    if (unit_.tiles) release_tiles();
  }

 private:
  const char* packed_rows(uint64_t m) const {
    return values_ + m / kTile * layout_.steps() * kBlockNbytes;
  }

  /// 32 activation rows by 32 rows of W.
  void square(uint64_t m, uint64_t first, uint64_t r, uint64_t count) const {
    alignas(64) float acc[4 * 256];
    const char* a = rows_ + r * layout_.stride;
    const char* b0 = packed_rows(m);
    const char* b1 = m + kTile < call_.m ? packed_rows(m + kTile) : b0;
    if (shape_.group != 0) return grouped_square(m, first, r, count, a, b0, b1);
    unit_.multiply(a, layout_.stride, b0, b1, 0, layout_.steps(), acc);
    if (weight_.constants != nullptr) {
      for (uint64_t tile = 0; tile < 4; ++tile) {
        const uint64_t row = r + tile / 2 * kTile;
        if (row >= count) continue;
        add_constants(reinterpret_cast<int32_t*>(acc) + tile * 256, weight_.constants + first + row,
                      std::min(kTile, count - row));
      }
    }
    if (unit_.integers()) to_floats(acc, 4 * 256);
    finish(acc, m, first, r, count);
  }

  void grouped_square(uint64_t m, uint64_t first, uint64_t r, uint64_t count, const char* a,
                      const char* b0, const char* b1) const {
    alignas(64) float acc[4 * 256], sum[4 * 256] = {}, sw[2 * kTile] = {};
    const uint64_t mp = round_up(call_.m, kTile), per_group = shape_.group * layout_.item / 64;
    for (uint64_t g = 0; g < layout_.groups; ++g) {
      const uint64_t begin = g * per_group;
      const uint64_t end = std::min(layout_.steps(), begin + per_group);
      unit_.multiply(a, layout_.stride, b0, b1, begin, end, acc);
      for (uint64_t i = 0; i < std::min(2 * kTile, count - r); ++i) {
        sw[i] = weight_.scales(first + r + i)[g];
      }
      for (uint64_t tile = 0; tile < 4; ++tile) {
        const uint64_t at = m + (tile % 2) * kTile;
        if (at >= call_.m) continue;
        add_group(acc + tile * 256, scales_ + g * mp + at, sw + (tile / 2) * kTile,
                  sum + tile * 256);
      }
    }
    finish(sum, m, first, r, count);
  }

  void finish(const float* acc, uint64_t m, uint64_t first, uint64_t r, uint64_t count) const {
    for (uint64_t half = 0; half < 2 && r + half * kTile < count; ++half) {
      const uint64_t begin = first + r + half * kTile;
      const uint64_t n = std::min(kTile, first + count - begin);
      alignas(64) float sw[kTile] = {}, bias[kTile] = {};
      bias_row(call_, begin, n, bias);
      for (uint64_t i = 0; i < n; ++i) sw[i] = weight_.scales(begin + i)[0];
      for (uint64_t side = 0; side < 2 && m + side * kTile < call_.m; ++side) {
        const uint64_t row = m + side * kTile;
        const Finish f{shape_.group == 0 ? sw : nullptr, bias, scales_ + row,
                       std::min(kTile, call_.m - row), n};
        finish_tile(acc + (2 * half + side) * 256, f, call_, row, begin);
      }
    }
  }

  const Unit& unit_;
  const Shape& shape_;
  const Layout& layout_;
  const ls_apply& call_;
  const Weight& weight_;
  const char* values_;
  const float* scales_;
  char* rows_;
};

/// 16 rows of the activation, quantized and packed.
class Packer {
 public:
  Packer(const Unit& unit, const Shape& shape, const Layout& layout, const ls_apply& call,
         const PackRow& pack, char* activation)
      : unit_(unit),
        shape_(shape),
        layout_(layout),
        call_(call),
        pack_(pack),
        values_(activation),
        scales_(reinterpret_cast<float*>(activation + layout.values_nbytes(call.m))) {}

  void run(uint64_t tile, char* slice) const {
    auto* widened = reinterpret_cast<float*>(slice + kTile * layout_.stride);
    float* room = widened + layout_.kp;
    float* row_scales = room + 2 * layout_.kp;
    const uint64_t mp = round_up(call_.m, kTile);
    for (uint64_t i = 0; i < kTile; ++i) {
      const uint64_t m = tile * kTile + i;
      char* row = slice + i * layout_.stride;
      const uint64_t filled = m < call_.m ? shape_.k * layout_.item : 0;
      std::memset(row + filled, 0, layout_.kp * layout_.item - filled);
      if (m < call_.m) {
        pack_(m, x_row(call_, m, shape_.k, widened), room, row, row_scales);
      } else {
        std::fill(row_scales, row_scales + layout_.groups, 0.0f);
      }
      for (uint64_t g = 0; g < layout_.groups; ++g) scales_[g * mp + m] = row_scales[g];
    }
    pack_rows(slice, layout_.stride, layout_.steps(), unit_.offset,
              values_ + tile * layout_.steps() * kBlockNbytes);
  }

 private:
  const Unit& unit_;
  const Shape& shape_;
  const Layout& layout_;
  const ls_apply& call_;
  const PackRow& pack_;
  char* values_;
  float* scales_;
};

}  // namespace

// Activation: packed blocks, then scales as [groups][m rounded up to 16].
uint64_t activation_nbytes(const Unit& unit, const Shape& shape, uint64_t m) {
  const Layout layout(unit, shape);
  return layout.values_nbytes(m) + layout.groups * round_up(m, kTile) * sizeof(float);
}

uint64_t workspace_nbytes(const Unit& unit, const Shape& shape) {
  return kMaxTasks * Layout(unit, shape).slice_nbytes();
}

void prepare(const Unit& unit, const Shape& shape, const ls_apply& call, const PackRow& pack,
             void* activation) {
  const Layout layout(unit, shape);
  const Packer packer(unit, shape, layout, call, pack, static_cast<char*>(activation));
  const uint64_t count = ceil_div(call.m, kTile), tasks = std::min(kMaxTasks, count);
  sdk::parallel_for(tasks, [&](uint64_t task) {
    char* slice = static_cast<char*>(call.workspace) + task * layout.slice_nbytes();
    for (uint64_t tile = task; tile < count; tile += tasks) packer.run(tile, slice);
  });
}

void apply(const Unit& unit, const Shape& shape, const ls_apply& call, const Weight& weight,
           uint64_t begin, uint64_t count, const void* activation) {
  const Layout layout(unit, shape);
  const uint64_t blocks = ceil_div(count, layout.block_rows), tasks = std::min(kMaxTasks, blocks);
  sdk::parallel_for(tasks, [&](uint64_t task) {
    char* slice = static_cast<char*>(call.workspace) + task * layout.slice_nbytes();
    Block block(unit, shape, layout, call, weight, activation, slice);
    for (uint64_t b = task; b < blocks; b += tasks) {
      const uint64_t first = b * layout.block_rows;
      block.run(begin + first, std::min(layout.block_rows, count - first));
    }
  });
}

}  // namespace loadstone::common::packed

#else

namespace loadstone::common::packed {

// No unit exists here, so nothing calls these.
uint64_t activation_nbytes(const Unit&, const Shape&, uint64_t) { return 0; }
uint64_t workspace_nbytes(const Unit&, const Shape&) { return 0; }
void prepare(const Unit&, const Shape&, const ls_apply&, const PackRow&, void*) {}
void apply(const Unit&, const Shape&, const ls_apply&, const Weight&, uint64_t, uint64_t,
           const void*) {}

}  // namespace loadstone::common::packed

#endif
