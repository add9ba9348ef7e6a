#include "common/product/int8_product.hpp"

#include <cstring>
#include <loadstone/plugin.hpp>

#include "common/kernel.hpp"
#include "common/numerics/int8.hpp"
#include "common/product/few.hpp"
#include "common/product/host_product.hpp"
#include "common/product/rows.hpp"

namespace loadstone::common {
namespace {

// A float32 sum of products of at most 128² is exact while it stays below 2^24: 1024 of them.
constexpr uint64_t kStretch = 1024;
constexpr uint64_t kPanelElements = 1u << 20;
constexpr uint64_t kChunkRows = 16;  // one task

uint64_t panel_rows(const Int8Shape& s) {
  const uint64_t rows = kPanelElements / std::min(kStretch, std::max<uint64_t>(s.k, 1));
  return std::clamp<uint64_t>(rows, 1, std::max<uint64_t>(s.n, 1));
}

/// Where the float path keeps things in the workspace.
struct Room {
  Room(const Int8Shape& s, uint64_t m, void* workspace)
      : x(static_cast<float*>(workspace)),
        w(x + m * std::min(kStretch, s.k)),
        y(w + panel_rows(s) * std::min(kStretch, s.k)),
        bias(y + m * panel_rows(s)),
        sums(reinterpret_cast<int32_t*>(bias + panel_rows(s))),
        end(sums + m * panel_rows(s)) {}
  float *x, *w, *y, *bias;
  int32_t *sums, *end;
};

LOADSTONE_INLINE void add_exact_body(const float* __restrict y, int32_t* __restrict sums,
                                     size_t n) {
  for (size_t i = 0; i < n; ++i) sums[i] += static_cast<int32_t>(y[i]);
}
LOADSTONE_INLINE void add_constants_body(const int32_t* __restrict constants,
                                         int32_t* __restrict sums, size_t n) {
  for (size_t i = 0; i < n; ++i) sums[i] += constants[i];
}
LOADSTONE_INLINE void finish_body(const int32_t* __restrict sums, float sx,
                                  const float* __restrict sw, const float* __restrict bias,
                                  float* __restrict y, size_t n) {
  for (size_t i = 0; i < n; ++i) y[i] = sx * (sw[i] * static_cast<float>(sums[i])) + bias[i];
}

LOADSTONE_KERNEL(add_exact, (const float* y, int32_t* sums, size_t n), (y, sums, n))
LOADSTONE_KERNEL(add_constants, (const int32_t* c, int32_t* sums, size_t n), (c, sums, n))
LOADSTONE_KERNEL(finish,
                 (const int32_t* sums, float sx, const float* sw, const float* bias, float* y,
                  size_t n),
                 (sums, sx, sw, bias, y, n))

}  // namespace

Int8Product::Int8Product(Int8Shape shape)
    : Int8Product(shape, packed::int8_units().empty() ? nullptr : packed::int8_units().front()) {}
Int8Product::Int8Product(Int8Shape shape, const packed::Unit* unit) : shape_(shape), unit_(unit) {}

const char* Int8Product::path() const { return unit_ != nullptr ? unit_->name : "host_f32"; }

uint64_t Int8Product::activation_nbytes(uint64_t m) const {
  if (unit_ != nullptr && m > kFewRows) {
    return packed::activation_nbytes(*unit_, packed_shape(), m);
  }
  return round_up(m * shape_.k, 64) + m * sizeof(float);
}

uint64_t Int8Product::workspace_nbytes(uint64_t m) const {
  // A few rows: widened ones in prepare, or a task's decoded row of W.
  if (m <= kFewRows) return kMaxTasks * round_up(shape_.k, 64) * sizeof(float);
  if (unit_ != nullptr) return packed::workspace_nbytes(*unit_, packed_shape());
  const Room room(shape_, m, nullptr);
  const auto apply = reinterpret_cast<uint64_t>(room.end);
  return std::max(apply, kMaxTasks * shape_.k * sizeof(float));
}

void Int8Product::prepare(const ls_apply& call, const QuantizeRowInt8& quantize,
                          void* activation) const {
  if (unit_ != nullptr && call.m > kFewRows) {
    return packed::prepare(
        *unit_, packed_shape(), call,
        [&](uint64_t, const float* x, float*, void* items, float* scales) {
          scales[0] = quantize(x, static_cast<int8_t*>(items));
        },
        activation);
  }
  auto* codes = static_cast<int8_t*>(activation);
  auto* scales = reinterpret_cast<float*>(codes + round_up(call.m * shape_.k, 64));
  const uint64_t tasks = std::min(kMaxTasks, call.m);
  sdk::parallel_for(tasks, [&](uint64_t task) {
    float* room = static_cast<float*>(call.workspace) + task * shape_.k;
    for (uint64_t i = task; i < call.m; i += tasks) {
      scales[i] = quantize(x_row(call, i, shape_.k, room), codes + i * shape_.k);
    }
  });
}

void Int8Product::apply(const ls_apply& call, const Int8Weight& weight,
                        const void* activation) const {
  if (unit_ != nullptr && call.m > kFewRows) {
    const uint64_t k = shape_.k;
    const packed::Weight rows{[&](uint64_t row, void* items) {
                                if (weight.decode)
                                  return weight.decode(row, 0, k, static_cast<int8_t*>(items));
                                std::memcpy(items, weight.codes + row * k, k);
                              },
                              [&](uint64_t row) { return weight.scales + row; }, weight.constants};
    return packed::apply(*unit_, packed_shape(), call, rows, 0, shape_.n, activation);
  }
  ls_apply with = call;
  with.activation = const_cast<void*>(activation);
  if (call.m <= kFewRows) return apply_few(with, weight);
  const auto* scales = reinterpret_cast<const float*>(static_cast<const char*>(activation) +
                                                      round_up(call.m * shape_.k, 64));
  apply_floats(with, weight, scales);
}

void Int8Product::apply_few(const ls_apply& call, const Int8Weight& weight) const {
  const uint64_t k = shape_.k;
  const auto* x = static_cast<const int8_t*>(call.activation);
  const auto* scales = reinterpret_cast<const float*>(x + round_up(call.m * k, 64));
  const uint64_t chunks = ceil_div(shape_.n, kChunkRows), tasks = std::min(kMaxTasks, chunks);
  sdk::parallel_for(tasks, [&](uint64_t task) {
    auto* decoded = static_cast<int8_t*>(call.workspace) + task * round_up(k, 64);
    for (uint64_t chunk = chunks * task / tasks; chunk < chunks * (task + 1) / tasks; ++chunk) {
      const uint64_t first = chunk * kChunkRows, rows = std::min(kChunkRows, shape_.n - first);
      int32_t sums[kFewRows * kChunkRows];
      float line[kChunkRows], bias[kChunkRows];
      for (uint64_t r = 0; r < rows; ++r) {
        if (weight.decode) weight.decode(first + r, 0, k, decoded);
        const int8_t* codes = weight.decode ? decoded : weight.codes + (first + r) * k;
        const int32_t constant = weight.constants == nullptr ? 0 : weight.constants[first + r];
        for (uint64_t i = 0; i < call.m; ++i) {
          sums[i * kChunkRows + r] = constant + dot_int8(codes, x + i * k, k);
        }
      }
      bias_row(call, first, rows, bias);
      for (uint64_t i = 0; i < call.m; ++i) {
        finish_for(cpu_in_use())(sums + i * kChunkRows, scales[i], weight.scales + first, bias,
                                 line, rows);
        narrow(call.y_dtype, line, y_at(call, i, first), rows);
      }
    }
  });
}

/// sums += x·wᵀ over columns [begin, begin+depth) of K, rows [first, first+rows) of W.
void Int8Product::add_stretch(const ls_apply& call, const Int8Weight& weight, uint64_t first,
                              uint64_t rows, uint64_t begin, uint64_t depth) const {
  const Room room(shape_, call.m, call.workspace);
  const auto* x = static_cast<const int8_t*>(call.activation);
  const auto widen_rows = [&](uint64_t count, float* to, const auto& codes_of) {
    sdk::parallel_for(ceil_div(count, kChunkRows), [&](uint64_t chunk) {
      int8_t decoded[kStretch];
      for (uint64_t r = chunk * kChunkRows; r < std::min(count, (chunk + 1) * kChunkRows); ++r) {
        int8_dequantize(codes_of(r, decoded), 1.0f, to + r * depth, depth);
      }
    });
  };
  widen_rows(call.m, room.x, [&](uint64_t r, int8_t*) { return x + r * shape_.k + begin; });
  widen_rows(rows, room.w, [&](uint64_t r, int8_t* decoded) -> const int8_t* {
    if (!weight.decode) return weight.codes + (first + r) * shape_.k + begin;
    weight.decode(first + r, begin, depth, decoded);
    return decoded;
  });
  host_product(room.x, room.w, room.y, call.m, rows, depth);
  add_exact_for(cpu_in_use())(room.y, room.sums, call.m * rows);
}

void Int8Product::apply_floats(const ls_apply& call, const Int8Weight& weight,
                               const float* scales) const {
  const Room room(shape_, call.m, call.workspace);
  for (uint64_t first = 0; first < shape_.n; first += panel_rows(shape_)) {
    const uint64_t rows = std::min(panel_rows(shape_), shape_.n - first);
    std::memset(room.sums, 0, call.m * rows * sizeof(int32_t));
    for (uint64_t begin = 0; begin < shape_.k; begin += kStretch) {
      add_stretch(call, weight, first, rows, begin, std::min(kStretch, shape_.k - begin));
    }
    bias_row(call, first, rows, room.bias);
    sdk::parallel_for(ceil_div(call.m, kChunkRows), [&](uint64_t chunk) {
      for (uint64_t i = chunk * kChunkRows; i < std::min(call.m, (chunk + 1) * kChunkRows); ++i) {
        float* line = room.y + i * rows;
        if (weight.constants != nullptr) {
          add_constants_for(cpu_in_use())(weight.constants + first, room.sums + i * rows, rows);
        }
        finish_for(cpu_in_use())(room.sums + i * rows, scales[i], weight.scales + first, room.bias,
                                 line, rows);
        narrow(call.y_dtype, line, y_at(call, i, first), rows);
      }
    });
  }
}

}  // namespace loadstone::common
