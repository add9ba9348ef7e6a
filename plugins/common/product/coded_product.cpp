#include "common/product/coded_product.hpp"

#include <loadstone/plugin.hpp>

#include "common/codecs/half.hpp"
#include "common/kernel.hpp"
#include "common/product/few.hpp"
#include "common/product/host_product.hpp"
#include "common/product/rows.hpp"

namespace loadstone::common {
namespace {

// ---- the float path: panels of W rows, decoded, through the host's product ----
constexpr uint64_t kPanelElements = 1u << 20;  // 4 MiB of float32: a large cache's worth
constexpr uint64_t kChunkRows = 16;            // of a panel, one task

uint64_t panel_rows(const CodedShape& s) {
  const uint64_t rows = kPanelElements / std::max<uint64_t>(s.k, 1);
  return std::clamp<uint64_t>(rows, std::min<uint64_t>(64, s.n), std::max<uint64_t>(s.n, 1));
}
uint64_t chunks_of(const CodedShape& s) { return ceil_div(panel_rows(s), kChunkRows); }

/// A task's decoded row, where a few rows of x are multiplied.
uint64_t few_slice(const CodedShape& s) { return round_up(s.k * sizeof(uint16_t), 64); }

LOADSTONE_INLINE void scale_values_body(float* __restrict x, float s, size_t n) {
  for (size_t i = 0; i < n; ++i) x[i] *= s;
}
LOADSTONE_INLINE void finish_row_body(float sx, const float* __restrict sw,
                                      const float* __restrict bias, float* __restrict acc,
                                      size_t n) {
  for (size_t i = 0; i < n; ++i) acc[i] = sx * (sw[i] * acc[i]) + bias[i];
}
LOADSTONE_INLINE void add_bias_body(const float* __restrict bias, float* __restrict acc, size_t n) {
  for (size_t i = 0; i < n; ++i) acc[i] += bias[i];
}

LOADSTONE_KERNEL(scale_values, (float* x, float s, size_t n), (x, s, n))
LOADSTONE_KERNEL(finish_row, (float sx, const float* sw, const float* bias, float* acc, size_t n),
                 (sx, sw, bias, acc, n))
LOADSTONE_KERNEL(add_bias, (const float* bias, float* acc, size_t n), (bias, acc, n))

/// value·scale by groups, in place.
void scale_groups(float* values, const float* scales, const CodedShape& s) {
  for (uint64_t g = 0; g < s.groups(); ++g) {
    const uint64_t begin = g * s.group;
    scale_values_for(cpu_in_use())(values + begin, scales[g], std::min(s.group, s.k - begin));
  }
}

}  // namespace

CodedProduct::CodedProduct(CodedShape shape)
    : CodedProduct(shape, packed::bf16_units().empty() ? nullptr : packed::bf16_units().front()) {}
CodedProduct::CodedProduct(CodedShape shape, const packed::Unit* unit)
    : shape_(shape), unit_(unit) {}

const char* CodedProduct::path() const { return unit_ != nullptr ? unit_->name : "host_f32"; }

uint64_t CodedProduct::activation_nbytes(uint64_t m) const {
  if (unit_ != nullptr && m > kFewRows) return packed::activation_nbytes(*unit_, packed_shape(), m);
  return (m * shape_.k + m * shape_.groups()) * sizeof(float);
}

uint64_t CodedProduct::workspace_nbytes(uint64_t m) const {
  const uint64_t prepare = std::min(kMaxTasks, m) * 2 * shape_.k * sizeof(float);
  if (m <= kFewRows) return std::max(prepare, kMaxTasks * few_slice(shape_));
  if (unit_ != nullptr) return packed::workspace_nbytes(*unit_, packed_shape());
  const uint64_t rows = panel_rows(shape_);
  const uint64_t halves = round_up(chunks_of(shape_) * shape_.k * sizeof(uint16_t), 64);
  const uint64_t apply = (rows * shape_.k + m * rows + 2 * rows) * sizeof(float) + halves;
  return std::max(prepare, apply);
}

void CodedProduct::prepare(const ls_apply& call, const QuantizeRow& quantize,
                           void* activation) const {
  if (unit_ == nullptr || call.m <= kFewRows) {
    return prepare_floats(call, quantize, static_cast<float*>(activation));
  }
  const uint64_t k = shape_.k;
  packed::prepare(
      *unit_, packed_shape(), call,
      [&](uint64_t row, const float* x, float* room, void* items, float* scales) {
        float* values = room + round_up(k, 32);
        quantize(row, x, room, values, scales);
        bf16_encode(values, static_cast<uint16_t*>(items), k);
      },
      activation);
}

void CodedProduct::apply(const ls_apply& call, const CodedWeight& weight, uint64_t begin,
                         uint64_t count, const void* activation) const {
  const auto* values = static_cast<const float*>(activation);
  if (call.m <= kFewRows) return apply_few(call, weight, begin, count, values);
  if (unit_ == nullptr) return apply_floats(call, weight, begin, count, values);
  const packed::Weight rows{
      [&](uint64_t row, void* items) { weight.decode(row, static_cast<uint16_t*>(items)); },
      weight.scales};
  packed::apply(*unit_, packed_shape(), call, rows, begin, count, activation);
}

// Activation: m rows of k values (more than a few with groups: times their scales), then m·groups
// scales.
void CodedProduct::prepare_floats(const ls_apply& call, const QuantizeRow& quantize,
                                  float* values) const {
  const CodedShape& s = shape_;
  float* scales = values + call.m * s.k;
  auto* room = static_cast<float*>(call.workspace);
  const uint64_t tasks = std::min(kMaxTasks, call.m);
  sdk::parallel_for(tasks, [&](uint64_t task) {
    for (uint64_t i = task; i < call.m; i += tasks) {
      float* row = values + i * s.k;
      float* row_scales = scales + i * s.groups();
      float* own = room + task * 2 * s.k;
      quantize(i, x_row(call, i, s.k, own), own + s.k, row, row_scales);
      if (s.group != 0 && call.m > kFewRows) scale_groups(row, row_scales, s);
    }
  });
}

void CodedProduct::apply_few(const ls_apply& call, const CodedWeight& weight, uint64_t begin,
                             uint64_t count, const float* values) const {
  const CodedShape& s = shape_;
  const float* scales = values + call.m * s.k;
  const uint64_t width = s.group == 0 ? std::max<uint64_t>(s.k, 1) : s.group;
  const uint64_t chunks = ceil_div(count, kChunkRows), tasks = std::min(kMaxTasks, chunks);
  const auto of_row = [&](uint64_t row, uint16_t* half, float* lines) {
    if (!weight.dot) weight.decode(row, half);
    const float* sw = weight.scales(row);
    for (uint64_t i = 0; i < call.m; ++i) {
      const float* x = values + i * s.k;
      float& y = lines[i * kChunkRows];
      y = 0;
      for (uint64_t g = 0; g < s.groups(); ++g) {
        const uint64_t at = g * width, here = std::min(width, s.k - at);
        const float sum =
            weight.dot ? weight.dot(row, at, here, x + at) : dot_bf16(half + at, x + at, here);
        const float sx = scales[i * s.groups() + g];
        y = s.group == 0 ? sx * (sw[0] * sum) : y + sum * (sx * sw[g]);
      }
    }
  };
  sdk::parallel_for(tasks, [&](uint64_t task) {
    auto* half =
        reinterpret_cast<uint16_t*>(static_cast<char*>(call.workspace) + task * few_slice(s));
    for (uint64_t chunk = chunks * task / tasks; chunk < chunks * (task + 1) / tasks; ++chunk) {
      const uint64_t first = chunk * kChunkRows, rows = std::min(kChunkRows, count - first);
      float lines[kFewRows * kChunkRows], bias[kChunkRows];
      for (uint64_t r = 0; r < rows; ++r) of_row(begin + first + r, half, lines + r);
      bias_row(call, begin + first, rows, bias);
      for (uint64_t i = 0; i < call.m; ++i) {
        float* line = lines + i * kChunkRows;
        for (uint64_t r = 0; r < rows; ++r) line[r] += bias[r];
        narrow(call.y_dtype, line, y_at(call, i, begin + first), rows);
      }
    }
  });
}

void CodedProduct::apply_floats(const ls_apply& call, const CodedWeight& weight, uint64_t begin,
                                uint64_t count, const float* values) const {
  const CodedShape& s = shape_;
  const float* scales = values + call.m * s.k;
  const uint64_t rows = panel_rows(s);
  auto* panel = static_cast<float*>(call.workspace);
  float* acc = panel + rows * s.k;
  float* row_scales = acc + call.m * rows;
  float* bias = row_scales + rows;
  auto* halves = reinterpret_cast<uint16_t*>(bias + rows);
  for (uint64_t first = begin; first < begin + count; first += rows) {
    const uint64_t here = std::min(rows, begin + count - first);
    sdk::parallel_for(ceil_div(here, kChunkRows), [&](uint64_t chunk) {
      uint16_t* half = halves + chunk * s.k;
      for (uint64_t r = chunk * kChunkRows; r < std::min(here, (chunk + 1) * kChunkRows); ++r) {
        weight.decode(first + r, half);
        bf16_decode(half, panel + r * s.k, s.k);
        const float* of_row = weight.scales(first + r);
        if (s.group != 0) scale_groups(panel + r * s.k, of_row, s);
        row_scales[r] = of_row[0];
      }
    });
    host_product(values, panel, acc, call.m, here, s.k);
    bias_row(call, first, here, bias);
    sdk::parallel_for(ceil_div(call.m, kChunkRows), [&](uint64_t chunk) {
      for (uint64_t i = chunk * kChunkRows; i < std::min(call.m, (chunk + 1) * kChunkRows); ++i) {
        float* line = acc + i * here;
        if (s.group != 0) {
          add_bias_for(cpu_in_use())(bias, line, here);
        } else {
          finish_row_for(cpu_in_use())(scales[i], row_scales, bias, line, here);
        }
        narrow(call.y_dtype, line, y_at(call, i, first), here);
      }
    });
  }
}

}  // namespace loadstone::common
