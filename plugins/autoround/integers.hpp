// Integers in 32-bit words: how a layer is planned, produced, multiplied and saved. Part of
// autoround.cpp; layouts and formulas: README.md.
#pragma once

#include <algorithm>

#include "autoround/stored.hpp"
#include "common/numerics/floats.hpp"
#include "common/weight_only/weight_only.hpp"
#if defined(LOADSTONE_CUDA)
#include "autoround/device.hpp"
#include "common/cuda/either.hpp"
#include "common/cuda/target.hpp"
#endif

namespace loadstone::autoround {

struct Integers {
  static constexpr uint64_t kFewRows = 4;
  static constexpr uint64_t kDecodeRows = 32;  // decoded at once
  static constexpr uint64_t kDecodeSlots = 8;  // of scratch, one task each

  static void plan(const Config& config, const sdk::Layer& layer, const sdk::Target& target,
                   sdk::Plan& plan) {
    const auto presence = presence_of(layer);
    if (presence.packed == 0) return plan_plain(config, layer, plan);
    if (presence.plain != 0) return plan.split("some parts are packed, some stored as they were");
    if (!layer.is_matrix()) return plan.unsupported("found packed tensors, expected a matrix");
    if (!config.refusal.empty()) return plan.unsupported(config.refusal);
    const std::optional<Setting> setting = setting_of(config, layer);
    if (!setting) return plan.split("parts have different bits or group sizes");
    if (setting->kept) {
      sdk::fail(LS_INVALID_CHECKPOINT,
                "packed tensors rejected: found \"qweight\", expected "
                "\"weight\": the configuration leaves this layer as it was");
    }
    require_known(*setting);
    if (config.packing == int_packs::Packing::awq && setting->bits != 4) {
      return plan.unsupported("found " + std::to_string(setting->bits) +
                              " bits, expected 4 with packing_format auto_round:auto_awq");
    }
    const Form form = form_of(layer, config, *setting);
    const std::string shape = unsupported_shape(form);
    if (!shape.empty()) return plan.unsupported(shape);
    check_form(form, config, *setting);
    plan_form(config, layer, form, target, plan);
  }

 private:
  static void plan_plain(const Config& config, const sdk::Layer& layer, sdk::Plan& plan) {
    if (config.declared || layer.wants_decode()) {
      return plan.keep("stored unquantized in the checkpoint");
    }
    plan.unsupported(
        "found plain weights, expected qweight, qzeros and scales: such checkpoints are read, not "
        "made");
  }

  static void require_known(const Setting& setting) {
    const char* missing = setting.bits == 0         ? "bits"
                          : setting.group_size == 0 ? "group_size"
                                                    : nullptr;
    if (missing == nullptr) return;
    sdk::fail(LS_INVALID_CONFIG, std::string(missing) +
                                     " missing: found packed tensors, expected " + missing +
                                     " in the configuration or the checkpoint's declaration");
  }

  static void plan_form(const Config& config, const sdk::Layer& layer, const Form& form,
                        [[maybe_unused]] const sdk::Target& target, sdk::Plan& plan) {
    const Order order = order_of(config, form, plan);
    if (order == Order::missing_values) {
      plan.quantize(kernel_name(form));
      return;
    }
    if (order == Order::differs || (order == Order::shuffled && layer.groups() > 1)) {
      return plan.split("parts have different g_idx");
    }
    declare_g_idx(form, order, layer.wants_decode(), plan);
    if (layer.wants_decode()) return plan_decode(layer, form, plan);
#if defined(LOADSTONE_CUDA)
    common::NoForm instead;
    if (target.cuda() && !common::cuda::takes("autoround", target, layer.groups(), instead)) {
      return instead.answer(plan);
    }
#endif
    const int_packs::Matrix& m = form.matrix;
    store(layer, form, "qweight", LS_DTYPE_I32, weight_column(m), &PackedPart::qweight, plan);
    store(layer, form, "qzeros", LS_DTYPE_I32, zero_column(m), &PackedPart::qzeros, plan);
    store(layer, form, "scales", m.scale_dtype, scale_column(m), &PackedPart::scales, plan);
    if (order == Order::shuffled) {
      plan.identity(plan.stored("g_idx", LS_DTYPE_I32, {m.k}), *form.parts[0].g_idx);
    }
    plan.quantize(kernel_name(form)).in = m.k;
#if defined(LOADSTONE_CUDA)
    if (target.cuda()) {
      const bool shuffled = order == Order::shuffled;
      plan.quantize(device_kernel_name(form)).in = m.k;
      plan.reason(device_reason(form, shuffled));
    }
#endif
  }

  static std::string kernel_name(const Form& form) {
    return std::string(form.matrix.packing == int_packs::Packing::awq ? "awq" : "gptq") + "_w" +
           std::to_string(form.matrix.bits) + "_float32";
  }

  static void declare_g_idx(const Form& form, Order order, bool decoding, sdk::Plan& plan) {
    for (size_t i = 0; i < form.parts.size(); ++i) {
      const auto& g_idx = form.parts[i].g_idx;
      if (!g_idx) continue;
      if (order == Order::plain) {
        plan.unused(*g_idx, "trivial: column / group_size");
      } else if (decoding) {
        plan.unused(*g_idx, "read while planning");
      } else if (i > 0) {
        plan.unused(*g_idx, "equal to the first part's");
      }
    }
  }

  static void plan_decode(const sdk::Layer& layer, const Form& form, sdk::Plan& plan) {
    const uint64_t in = form.matrix.k;
    if (layer.groups() > 1) {
      plan.stored("weight", layer.load_dtype(), {layer.groups(), layer.out(), in});
    } else {
      plan.stored("weight", layer.load_dtype(), {layer.out(), in});
    }
    for (const PackedPart& part : form.parts) {
      plan.resident(part.qweight);
      plan.resident(part.qzeros);
      plan.resident(part.scales);
    }
    ls_work& work = plan.decode("packed in the checkpoint, decoded");
    work.session_scratch = kDecodeSlots * kDecodeRows * in * sizeof(float);
    work.in = in;
  }

 public:
  // ---- producing ----

  struct Session {
    const Config& config;
    const sdk::Layer& layer;
    const sdk::Begin& begin;

    /// Pieces are in their place already; what they hold is checked once all are.
    void feed(const sdk::Piece&) {}

    void end(const void*, uint32_t) {
      const Form form = known_form(config, layer);
      if (layer.wants_decode()) return decode(form);
      for (uint32_t group = begin.group_begin(); group < begin.group_begin() + begin.group_count();
           ++group) {
        check_scales(bind_matrix(form, begin.stored(), group), label_of(form, group));
      }
    }

   private:
    static std::string label_of(const Form& form, uint32_t group) {
      for (const PackedPart& part : form.parts) {
        if (part.group == group) return part.scales.label();
      }
      return "\"scales\"";
    }

    /// Finite, as what it scales is, and not zero where a code differs from its zero point.
    /// Negative ones are fine.
    static void check_scales(const int_packs::Matrix& m, const std::string& label) {
      for (uint64_t group = 0; group < m.groups; ++group) {
        for (uint64_t n = 0; n < m.n; ++n) {
          const float scale = int_packs::scale_at(m, group, n);
          if (scale != 0 && common::is_finite(scale * 256.0f)) continue;  // no level is larger
          const char* found = why_refused(m, group, n, scale);
          if (found == nullptr) continue;
          sdk::fail(LS_INVALID_CHECKPOINT, "scale rejected: " + label + ": found " + found +
                                               " at [" + std::to_string(group) + ", " +
                                               std::to_string(n) + "]");
        }
      }
    }

    static const char* why_refused(const int_packs::Matrix& m, uint64_t group, uint64_t n,
                                   float scale) {
      if (!common::is_finite(scale)) return "a value that isn't finite";
      const float level = largest_level(m, group, n);
      if (scale == 0 && level != 0) return "zero for codes that aren't";
      return common::is_finite(scale * level) ? nullptr : "a value whose products leave float32";
    }

    /// max |code - zero point| of a group.
    static float largest_level(const int_packs::Matrix& m, uint64_t group, uint64_t n) {
      const auto zero = static_cast<int64_t>(int_packs::zero_at(m, group, n));
      int64_t out = 0;
      for (uint64_t k = 0; k < m.k; ++k) {
        if (m.group_of(k) != group) continue;
        out = std::max(out, std::abs(int64_t{int_packs::code_at(m, k, n)} - zero));
      }
      return static_cast<float>(out);
    }

    void decode(const Form& form) const {
      const sdk::Buffers resident = begin.resident();
      for (size_t i = 0; i < form.parts.size(); ++i) {
        const PackedPart& part = form.parts[i];
        if (part.group < begin.group_begin() ||
            part.group >= begin.group_begin() + begin.group_count()) {
          continue;
        }
        int_packs::Matrix m = form.matrix;
        m.n = part.file_rows;
        m.qweight = static_cast<const uint32_t*>(resident.raw(3 * i).at);
        m.qzeros = static_cast<const uint32_t*>(resident.raw(3 * i + 1).at);
        m.scales = resident.raw(3 * i + 2).at;
        if (part.g_idx && !is_trivial(*part.g_idx, m.group_size)) {
          m.g_idx = values_of(*part.g_idx).data();
        }
        check_scales(m, part.scales.label());
        decode_part(m, part);
      }
    }

    void decode_part(const int_packs::Matrix& m, const PackedPart& part) const {
      const uint32_t dtype = layer.load_dtype();
      char* to = static_cast<char*>(begin.stored().raw(0).at);
      sdk::parallel_for(kDecodeSlots, [&](uint64_t slot) {
        float* rows = begin.scratch<float>() + slot * kDecodeRows * m.k;
        for (uint64_t row = slot * kDecodeRows; row < part.count;
             row += kDecodeSlots * kDecodeRows) {
          const uint64_t count = std::min(kDecodeRows, part.count - row);
          int_packs::dequantize(m, part.file_begin + row, count, rows);
          const uint64_t at = part.group * layer.out() + part.out_begin + row;
          common::narrow(dtype, rows, to + at * m.k * common::float_nbytes(dtype), count * m.k);
        }
      });
    }
  };

  static void dequantize(const Config& config, const sdk::Layer& layer, const sdk::Rows& rows) {
    const int_packs::Matrix m = bind_matrix(known_form(config, layer), rows.stored(), rows.group());
    const uint64_t tasks = (rows.count() + kDecodeRows - 1) / kDecodeRows;
    sdk::parallel_for(tasks, [&](uint64_t task) {
      const uint64_t row = task * kDecodeRows;
      int_packs::dequantize(m, rows.begin() + row, std::min(kDecodeRows, rows.count() - row),
                            rows.raw().out + row * m.k);
    });
  }

  // ---- running ----

  class HostBound {
   public:
    HostBound(const Config& config, const sdk::Binding& binding)
        : out_(binding.layer.out()), product_(make(config, binding)) {}

    void sizes(uint32_t, uint64_t m, ls_sizes& out) const {
      out.workspace_nbytes = product_.workspace_nbytes(m);
    }
    void prepare(const ls_apply&) const {}
    void apply(const ls_apply& call) const { product_.apply(call); }

   private:
    common::WeightOnlyProduct make(const Config& config, const sdk::Binding& binding) {
      const Form form = known_form(config, binding.layer);
      for (uint32_t group = 0; group < binding.layer.groups(); ++group) {
        matrices_.push_back(bind_matrix(form, binding.stored, group));
      }
      return common::WeightOnlyProduct(
          binding.layer, form.matrix.k, kFewRows,
          [this](uint32_t group, uint64_t begin, uint64_t count, float* out) {
            int_packs::dequantize(matrices_[group], begin, count, out);
          },
          [this](uint64_t begin, uint64_t count, const float* x, uint64_t m, float* y) {
            for (uint64_t i = 0; i < m; ++i) {
              int_packs::multiply(matrices_[0], begin, count, x + i * matrices_[0].k,
                                  y + i * out_ + begin);
            }
          });
    }

    uint64_t out_;
    std::vector<int_packs::Matrix> matrices_;  // a group each
    common::WeightOnlyProduct product_;
  };

#if defined(LOADSTONE_CUDA)
  using Bound = common::cuda::EitherBound<HostBound, PacksBound>;
#else
  using Bound = HostBound;
#endif

  // ---- saving: each part's columns, in the layout they came in ----

  struct Saved {
    const char* name;
    uint32_t dtype, part;
    uint64_t stored;
    Column column;
  };

  static std::vector<Saved> saved_tensors(const sdk::Layer& layer, const Form& form,
                                          bool with_g_idx) {
    const int_packs::Matrix& m = form.matrix;
    std::vector<Saved> out;
    for (uint32_t part = 0; part < layer.part_count(); ++part) {
      out.push_back({"qweight", LS_DTYPE_I32, part, 0, weight_column(m)});
      out.push_back({"qzeros", LS_DTYPE_I32, part, 1, zero_column(m)});
      out.push_back({"scales", m.scale_dtype, part, 2, scale_column(m)});
      if (with_g_idx) {
        out.push_back(
            {"g_idx", LS_DTYPE_I32, part, 3, {1, 4, [](const int_packs::Matrix& own, uint64_t) {
                                                return own.k;
                                              }}});
      }
    }
    return out;
  }

  static bool has_order(const Form& form) {
    const auto& g_idx = form.parts[0].g_idx;
    return g_idx && g_idx->value != nullptr && !is_trivial(*g_idx, form.matrix.group_size);
  }

  static void save_layer(const Config& config, const sdk::Layer& layer, uint64_t, ls_sink* sink) {
    const Form form = known_form(config, layer);
    for (const Saved& saved : saved_tensors(layer, form, has_order(form))) {
      ls_stored out = sdk::make<ls_stored>();
      out.name = saved.name;
      out.dtype = saved.dtype;
      std::fill(out.shape, out.shape + LS_MAX_RANK, uint64_t{1});
      const uint64_t items = saved.column.words(form.matrix, form.parts[saved.part].count);
      out.rank = saved.stored == 3 ? 1 : 2;
      out.shape[0] = saved.stored == 3 ? items : saved.column.rows;
      if (out.rank == 2) out.shape[1] = items;
      sdk::check_host(sdk::host().save_tensor(sink, &out, saved.part), "save_tensor");
    }
  }

  static void save_read(const Config& config, const sdk::Layer& layer, uint64_t,
                        const sdk::Buffers& stored, uint64_t index, uint64_t offset,
                        uint64_t nbytes, void* out) {
    const Form form = known_form(config, layer);
    const auto all = saved_tensors(layer, form, stored.count() > 3);
    if (index >= all.size()) sdk::fail(LS_INVALID_ARGUMENT, "saved tensor out of range");
    const Saved& saved = all[index];
    const PackedPart& part = form.parts[saved.part];
    const Column& column = saved.column;
    const uint64_t row_nbytes = column.words(form.matrix, part.count) * column.item;
    const uint64_t stride = column.words(form.matrix, form.matrix.n) * column.item;
    if (offset > column.rows * row_nbytes || nbytes > column.rows * row_nbytes - offset) {
      sdk::fail(LS_INVALID_ARGUMENT, "saved tensor read out of range");
    }
    const char* base = static_cast<const char*>(stored.raw(saved.stored).at);
    if (saved.stored != 3) {
      base += part.group * column.rows * stride +
              column.words(form.matrix, part.out_begin) * column.item;
    }
    for (uint64_t done = 0; done < nbytes;) {
      const uint64_t row = (offset + done) / row_nbytes, at = (offset + done) % row_nbytes;
      const uint64_t count = std::min(row_nbytes - at, nbytes - done);
      std::memcpy(static_cast<char*>(out) + done, base + row * stride + at, count);
      done += count;
    }
  }
};

}  // namespace loadstone::autoround
