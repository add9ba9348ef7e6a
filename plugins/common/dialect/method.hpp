// A dialect as a class for the plugin wrapper: it says how it reads a layer (Reader), and every
// other call goes to common/scaled or common/mx. Derive from Method<Dialect> and add name, fields,
// claims, configure, read_declaration, declaration, ignored, and
//   static std::optional<Reader> reader_of(const Config&, const sdk::Layer&, NoForm& instead);
//                      how the layer is read, or the verdict instead
//   static constexpr Known kKnown[];   tensors that the tool writes and that no product reads
#pragma once

#include <variant>

#include "common/mx/method.hpp"
#include "common/scaled/bound.hpp"
#if defined(LOADSTONE_CUDA)
#include "common/cuda/either.hpp"
#include "common/scaled/device.hpp"
#endif

namespace loadstone::common::dialect {

/// MX formats are common/mx's business, everything else common/scaled's.
using Reader = std::variant<scaled::Spec, mx::Config>;

/// A tensor that is declared unused where nothing reads it.
struct Known {
  const char *name, *reason;
};

inline const mx::Config* as_mx(const Reader& reader) { return std::get_if<mx::Config>(&reader); }

/// The form of a layer that plan_layer accepted.
inline scaled::Form form_of(const Reader& reader, const sdk::Layer& layer) {
  NoForm instead;
  auto form = scaled::find_form(std::get<scaled::Spec>(reader), layer, instead);
  if (form) return std::move(*form);
  sdk::fail(LS_INVALID_ARGUMENT, "layer was not planned by this method: " + instead.reason);
}

/// False, with the verdict, where the layer doesn't fit.
inline bool plan_reader(const Reader& reader, const sdk::Layer& layer,
                        [[maybe_unused]] const sdk::Target& target, sdk::Plan& out,
                        NoForm& instead) {
  if (const auto* own = as_mx(reader)) return mx::plan_layer(*own, layer, target, out, instead);
  auto form = scaled::find_form(std::get<scaled::Spec>(reader), layer, instead);
  if (!form || !scaled::agree_on_input(*form, out, instead)) return false;
#if defined(LOADSTONE_CUDA)
  scaled::Form there = *form;
  if (target.cuda() && !scaled::fit_device(target, there, instead)) return false;
#endif
  scaled::plan(*form, layer, out);
#if defined(LOADSTONE_CUDA)
  if (target.cuda() && !form->decodes) {
    out.quantize(scaled::device_kernel_name(target, there, layer));
    out.reason(scaled::device_reason(target, *form, there));
    if (there.weight_only()) out.work().activation_error = 0;
  }
#endif
  return true;
}

inline bool is_named(uint32_t tensor, const sdk::Plan& plan) {
  const auto reads = [&](const auto& one) { return one.tensor == tensor; };
  const auto& unused = plan.all_unused();
  return std::any_of(plan.all_sources().begin(), plan.all_sources().end(), reads) ||
         std::any_of(plan.all_identities().begin(), plan.all_identities().end(), reads) ||
         std::any_of(unused.begin(), unused.end(),
                     [&](const auto& one) { return one.first == tensor; });
}

class Session {
 public:
  Session(Reader reader, const sdk::Layer& layer, const sdk::Begin& begin)
      : reader_(std::move(reader)) {
    if (const auto* own = as_mx(reader_)) {
      mx_.emplace(*own, layer, begin);
    } else {
      scaled_.emplace(form_of(reader_, layer), layer, begin);
    }
  }
  void feed(const sdk::Piece& piece) { mx_ ? mx_->feed(piece) : scaled_->feed(piece); }
  void end(const void*, uint32_t) { mx_ ? mx_->end() : scaled_->end(); }

 private:
  Reader reader_;
  std::optional<mx::Session> mx_;
  std::optional<scaled::Session> scaled_;
};

template <typename Mx, typename Scaled>
class BoundBy {
 public:
  BoundBy(Reader reader, const sdk::Binding& binding) : reader_(std::move(reader)) {
    if (const auto* own = as_mx(reader_)) {
      mx_.emplace(*own, binding);
      return;
    }
    scaled::Form form = form_of(reader_, binding.layer);
#if defined(LOADSTONE_CUDA)
    NoForm instead;
    if (binding.target.cuda() && !scaled::fit_device(binding.target, form, instead)) {
      sdk::fail(LS_UNSUPPORTED, instead.reason);
    }
#endif
    scaled_.emplace(std::move(form), binding);
  }
  uint32_t variant(const ls_step& step) const { return mx_ ? mx_->variant(step) : 0; }
  void sizes(uint32_t variant, uint64_t m, ls_sizes& out) const {
    mx_ ? mx_->sizes(variant, m, out) : scaled_->sizes(m, out);
  }
  void prepare(const ls_apply& call) const { mx_ ? mx_->prepare(call) : scaled_->prepare(call); }
  void apply(const ls_apply& call) const { mx_ ? mx_->apply(call) : scaled_->apply(call); }

 private:
  Reader reader_;
  std::optional<Mx> mx_;
  std::optional<Scaled> scaled_;
};

using Bound = BoundBy<mx::Bound, scaled::Bound>;
#if defined(LOADSTONE_CUDA)
using AnyBound = cuda::EitherBound<Bound, BoundBy<mx::DeviceBound, scaled::DeviceBound>>;
#else
using AnyBound = Bound;
#endif

template <typename Dialect, typename DialectConfig>
struct Method {
  using Config = DialectConfig;
  static constexpr bool kDecodes = true;
#if defined(LOADSTONE_CUDA)
  static constexpr bool kCuda = true;
#endif

  static void plan(const Config& config, const sdk::Layer& layer, const sdk::Target& target,
                   sdk::Plan& out) {
    NoForm instead;
    const auto reader = Dialect::reader_of(config, layer, instead);
    if (!reader || !plan_reader(*reader, layer, target, out, instead)) return instead.answer(out);
    for (uint64_t i = 0; i < layer.tensor_count(); ++i) {
      const sdk::Tensor tensor = layer.tensor(i);
      if (is_named(tensor.index, out)) continue;
      for (const Known& known : Dialect::kKnown) {
        if (tensor.suffix() == known.name) out.unused(tensor, known.reason);
      }
    }
  }

  struct Session : dialect::Session {
    Session(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin)
        : dialect::Session(known_reader(config, layer), layer, begin) {}
  };
  struct Bound : AnyBound {
    Bound(const Config& config, const sdk::Binding& binding)
        : AnyBound(known_reader(config, binding.layer), binding) {}
  };

  static void dequantize(const Config& config, const sdk::Layer& layer, const sdk::Rows& rows) {
    const Reader reader = known_reader(config, layer);
    if (const auto* own = as_mx(reader)) return mx::dequantize(*own, layer, rows);
    scaled::dequantize(form_of(reader, layer), layer, rows);
  }

  static void save_layer(const Config& config, const sdk::Layer& layer, uint64_t, ls_sink* sink) {
    const Reader reader = known_reader(config, layer);
    if (const auto* own = as_mx(reader)) return mx::save_layer(*own, layer, sink);
    scaled::save_layer(form_of(reader, layer), sink);
  }

  static void save_read(const Config& config, const sdk::Layer& layer, uint64_t,
                        const sdk::Buffers& stored, uint64_t index, uint64_t offset,
                        uint64_t nbytes, void* out) {
    const Reader reader = known_reader(config, layer);
    if (const auto* own = as_mx(reader)) {
      return mx::save_read(*own, layer, stored, index, offset, nbytes, out);
    }
    scaled::save_read(form_of(reader, layer), stored, index, offset, nbytes, out);
  }

 private:
  static Reader known_reader(const Config& config, const sdk::Layer& layer) {
    NoForm instead;
    if (auto reader = Dialect::reader_of(config, layer, instead)) return std::move(*reader);
    sdk::fail(LS_INVALID_ARGUMENT, "layer was not planned by this method: " + instead.reason);
  }
};

}  // namespace loadstone::common::dialect
