#include "common/product/tiles.hpp"

#include <cstring>
#include <loadstone/plugin.hpp>

#include "common/codecs/half.hpp"
#include "common/kernel.hpp"
#include "common/product/rows.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOADSTONE_TARGET_TILES \
  __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,f16c,bmi2")))

namespace loadstone::common {
namespace {

constexpr uint64_t kTile = 16;  // rows and columns of an accumulator
constexpr uint64_t kStep = 32;  // values of K in one tile
constexpr uint64_t kTileNbytes = 1024;
constexpr uint64_t kBlockNbytes = 512u << 10;  // of decoded W per task: a quarter of a core's cache

bool ask_kernel_for_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  const bool tile = (d >> 24) & 1u, bf16 = (d >> 22) & 1u;     // leaf 7, EDX: AMX-TILE, AMX-BF16
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  return tile && bf16 && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool tiles_available() {
  static const bool available = cpu_in_use() == Cpu::avx512 && ask_kernel_for_tiles();
  return available;
}

namespace tiles {
namespace {

/// Sizes that follow from a shape.
struct Layout {
  explicit Layout(const CodedShape& s)
      : kp(round_up(std::max<uint64_t>(s.k, 1), kStep)),
        stride(kp * sizeof(uint16_t) + 64),  // off powers of two: no two rows in one cache set
        groups(s.groups()) {
    const uint64_t pairs = std::max<uint64_t>(kBlockNbytes / (2 * kTile * stride), 1);
    const uint64_t wanted = ceil_div(ceil_div(s.n, 2 * kTile), 8);  // leave work for some threads
    block_rows = 2 * kTile * std::clamp<uint64_t>(wanted, 1, pairs);
  }
  uint64_t steps() const { return kp / kStep; }
  uint64_t values_nbytes(uint64_t m) const { return round_up(m, kTile) * kp * sizeof(uint16_t); }
  /// A task's decoded rows, or its 16 rows of values and one of x.
  uint64_t slice_nbytes() const {
    const uint64_t floats = 2 * kp + round_up(groups, 16);
    return round_up(std::max(block_rows * stride, kTile * stride + floats * sizeof(float)), 64);
  }

  uint64_t kp, stride, groups, block_rows = 0;
};

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t column_nbytes[16] = {};
  uint8_t rows[16] = {};
};

LOADSTONE_TARGET_TILES void configure_tiles() {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.column_nbytes[tile] = 64;
    config.rows[tile] = 16;
  }
  _tile_loadconfig(&config);
}

/// 16 rows of 16 32-bit items, transposed in registers.
LOADSTONE_TARGET_TILES inline __attribute__((always_inline)) void transpose(__m512i r[16]) {
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

/// 16 rows of bf16 values, `stride` bytes apart, to B tiles: pairs of K down, rows across.
LOADSTONE_TARGET_TILES void pack_tile(const char* rows, uint64_t stride, uint64_t steps,
                                      char* packed) {
  for (uint64_t step = 0; step < steps; ++step) {
    __m512i r[16];
    for (uint64_t i = 0; i < kTile; ++i) {
      r[i] = _mm512_loadu_si512(rows + i * stride + step * 64);
    }
    transpose(r);
    for (uint64_t i = 0; i < kTile; ++i) {
      _mm512_store_si512(packed + step * kTileNbytes + i * 64, r[i]);
    }
  }
}

/// Sum of one group of K into the four accumulators at `acc` ([2][2] tiles of 16 floats by 16).
LOADSTONE_TARGET_TILES void multiply(const char* a, uint64_t stride, const char* b0, const char* b1,
                                     uint64_t begin, uint64_t end, float* acc) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (uint64_t step = begin; step < end; ++step) {
    _tile_loadd(4, a + step * 64, stride);
    _tile_loadd(5, a + kTile * stride + step * 64, stride);
    _tile_loadd(6, b0 + step * kTileNbytes, 64);
    _tile_loadd(7, b1 + step * kTileNbytes, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, acc, 64);
  _tile_stored(1, acc + 256, 64);
  _tile_stored(2, acc + 512, 64);
  _tile_stored(3, acc + 768, 64);
}

/// sum += acc·(sx·sw) of one tile and group; rows are W's, columns the activation's.
LOADSTONE_TARGET_TILES void add_group(const float* acc, const float* sx, const float* sw,
                                      uint64_t sw_stride, float* sum) {
  const __m512 x = _mm512_loadu_ps(sx);
  for (uint64_t i = 0; i < kTile; ++i) {
    const __m512 scale = _mm512_mul_ps(x, _mm512_set1_ps(sw[i * sw_stride]));
    const __m512 product = _mm512_mul_ps(_mm512_loadu_ps(acc + 16 * i), scale);
    _mm512_storeu_ps(sum + 16 * i, _mm512_add_ps(_mm512_loadu_ps(sum + 16 * i), product));
  }
}

/// Rounds and stores up to 16 values.
LOADSTONE_TARGET_TILES inline __attribute__((always_inline)) void store(uint32_t dtype, void* to,
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

/// What the last step of a tile needs.
struct Finish {
  const float* sw;    // 16 row scales of W, or null: already scaled
  const float* bias;  // 16
  const float* sx;    // of the tile's activation rows
  uint64_t m, n;      // rows of the activation and of W that exist
};

LOADSTONE_TARGET_TILES void finish_tile(const float* acc, const Finish& f, const ls_apply& call,
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
  Block(const CodedShape& shape, const Layout& layout, const ls_apply& call,
        const CodedWeight& weight, const void* activation, char* slice)
      : shape_(shape),
        layout_(layout),
        call_(call),
        weight_(weight),
        values_(static_cast<const char*>(activation)),
        scales_(reinterpret_cast<const float*>(values_ + layout.values_nbytes(call.m))),
        rows_(slice) {}

  LOADSTONE_TARGET_TILES void run(uint64_t first, uint64_t count) {
    for (uint64_t r = 0; r < round_up(count, 2 * kTile); ++r) {
      auto* row = reinterpret_cast<uint16_t*>(rows_ + r * layout_.stride);
      if (r < count) weight_.decode(first + r, row);
      const uint64_t filled = r < count ? shape_.k : 0;
      std::memset(row + filled, 0, (layout_.kp - filled) * sizeof(uint16_t));
    }
    configure_tiles();
    for (uint64_t m = 0; m < call_.m; m += 2 * kTile) {
      for (uint64_t r = 0; r < count; r += 2 * kTile) square(m, first, r, count);
    }
    _tile_release();
  }

 private:
  const char* b_tile(uint64_t m) const {
    return values_ + m / kTile * layout_.steps() * kTileNbytes;
  }

  /// 32 activation rows by 32 rows of W.
  LOADSTONE_TARGET_TILES void square(uint64_t m, uint64_t first, uint64_t r, uint64_t count) const {
    alignas(64) float acc[4 * 256], sum[4 * 256];
    const char* a = rows_ + r * layout_.stride;
    const char* b0 = b_tile(m);
    const char* b1 = m + kTile < call_.m ? b_tile(m + kTile) : b0;
    if (shape_.group == 0) {
      multiply(a, layout_.stride, b0, b1, 0, layout_.steps(), acc);
      return finish(acc, m, first, r, count);
    }
    std::memset(sum, 0, sizeof sum);
    alignas(64) float sw[2 * kTile] = {};
    const uint64_t mp = round_up(call_.m, kTile);
    for (uint64_t g = 0; g < layout_.groups; ++g) {
      const uint64_t begin = g * shape_.group / kStep;
      const uint64_t end = std::min(layout_.steps(), begin + shape_.group / kStep);
      multiply(a, layout_.stride, b0, b1, begin, end, acc);
      for (uint64_t i = 0; i < std::min(2 * kTile, count - r); ++i) {
        sw[i] = weight_.scales(first + r + i)[g];
      }
      for (uint64_t tile = 0; tile < 4; ++tile) {
        const uint64_t at = m + (tile % 2) * kTile;
        if (at >= call_.m) continue;
        add_group(acc + tile * 256, scales_ + g * mp + at, sw + (tile / 2) * kTile, 1,
                  sum + tile * 256);
      }
    }
    finish(sum, m, first, r, count);
  }

  LOADSTONE_TARGET_TILES void finish(const float* acc, uint64_t m, uint64_t first, uint64_t r,
                                     uint64_t count) const {
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

  const CodedShape& shape_;
  const Layout& layout_;
  const ls_apply& call_;
  const CodedWeight& weight_;
  const char* values_;
  const float* scales_;
  char* rows_;
};

}  // namespace

// Activation: B tiles ([m/16][kp/32] of 1 KiB), then scales as [groups][m rounded up to 16].
uint64_t activation_nbytes(const CodedShape& shape, uint64_t m) {
  const Layout layout(shape);
  return layout.values_nbytes(m) + layout.groups * round_up(m, kTile) * sizeof(float);
}

uint64_t workspace_nbytes(const CodedShape& shape) {
  return kMaxTasks * Layout(shape).slice_nbytes();
}

void prepare(const CodedShape& shape, const ls_apply& call, const QuantizeRow& quantize,
             void* activation) {
  const Layout layout(shape);
  auto* values = static_cast<char*>(activation);
  auto* scales = reinterpret_cast<float*>(values + layout.values_nbytes(call.m));
  const uint64_t mp = round_up(call.m, kTile), count = mp / kTile;
  const uint64_t tasks = std::min(kMaxTasks, count);
  sdk::parallel_for(tasks, [&](uint64_t task) {
    char* slice = static_cast<char*>(call.workspace) + task * layout.slice_nbytes();
    auto* room = reinterpret_cast<float*>(slice + kTile * layout.stride);
    float* row_values = room + layout.kp;
    float* row_scales = row_values + layout.kp;
    for (uint64_t tile = task; tile < count; tile += tasks) {
      for (uint64_t i = 0; i < kTile; ++i) {
        const uint64_t m = tile * kTile + i;
        auto* row = reinterpret_cast<uint16_t*>(slice + i * layout.stride);
        const uint64_t filled = m < call.m ? shape.k : 0;
        std::memset(row + filled, 0, (layout.kp - filled) * sizeof(uint16_t));
        if (m >= call.m) {
          for (uint64_t g = 0; g < layout.groups; ++g) scales[g * mp + m] = 0.0f;
          continue;
        }
        const float* x = x_row(call, m, shape.k, room);
        quantize(m, x, row_values, row_scales);
        for (uint64_t g = 0; g < layout.groups; ++g) scales[g * mp + m] = row_scales[g];
        bf16_encode(row_values, row, shape.k);
      }
      pack_tile(slice, layout.stride, layout.steps(), values + tile * layout.steps() * kTileNbytes);
    }
  });
}

void apply(const CodedShape& shape, const ls_apply& call, const CodedWeight& weight, uint64_t begin,
           uint64_t count, const void* activation) {
  const Layout layout(shape);
  const uint64_t blocks = ceil_div(count, layout.block_rows);
  const uint64_t tasks = std::min(kMaxTasks, blocks);
  sdk::parallel_for(tasks, [&](uint64_t task) {
    char* slice = static_cast<char*>(call.workspace) + task * layout.slice_nbytes();
    Block block(shape, layout, call, weight, activation, slice);
    for (uint64_t b = task; b < blocks; b += tasks) {
      const uint64_t first = b * layout.block_rows;
      block.run(begin + first, std::min(layout.block_rows, count - first));
    }
  });
}

}  // namespace tiles
}  // namespace loadstone::common

#else

namespace loadstone::common {

bool tiles_available() { return false; }

namespace tiles {

uint64_t activation_nbytes(const CodedShape&, uint64_t) { return 0; }
uint64_t workspace_nbytes(const CodedShape&) { return 0; }
void prepare(const CodedShape&, const ls_apply&, const QuantizeRow&, void*) {}
void apply(const CodedShape&, const ls_apply&, const CodedWeight&, uint64_t, uint64_t,
           const void*) {}

}  // namespace tiles
}  // namespace loadstone::common

#endif
