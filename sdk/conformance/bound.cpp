#include <algorithm>
#include <loadstone/plugin/floats.hpp>

#include "conformance/engine.hpp"

namespace loadstone::conformance {

using plugin::call_plugin;
using plugin::check_call;

namespace {

/// Rows of x_dtype (or row numbers), `stride` elements apart, no better aligned than the dtype.
Guarded rows_of_x(const Call& call, uint64_t columns, uint64_t stride) {
  if (call.x_dtype == LS_DTYPE_I64) {
    Guarded out("x", call.m * stride * sizeof(int64_t), sizeof(int64_t));
    for (uint64_t i = 0; i < call.m; ++i) {
      out.as<int64_t>()[i * stride] = static_cast<int64_t>(call.x[i]);
    }
    return out;
  }
  const uint64_t item = sdk::float_nbytes(call.x_dtype);
  Guarded out("x", call.m * stride * item, item);
  for (uint64_t i = 0; i < call.m; ++i) {
    sdk::narrow(call.x_dtype, call.x.data() + i * columns, columns, out.data() + i * stride * item);
  }
  return out;
}

Result<uint32_t> variant_of(const plugin::Method& method, const ls_bound* bound, Arena& arena,
                            const std::string& title) {
  uint32_t variant = 0;
  if (method.table().variant == nullptr) return variant;
  ls_step step{};
  step.struct_size = sizeof step;
  step.index = 1;
  step.count = 4;
  const ls_step* now = arena.put(step);
  const int32_t status = call_plugin([&] { return method.table().variant(bound, now, &variant); });
  LS_CHECK(check_call(status, method, "variant", title));
  return variant;
}

/// Lives in `arena`.
Result<const ls_sizes*> sizes_of(const plugin::Method& method, const ls_bound* bound,
                                 uint32_t variant, uint64_t m, Arena& arena,
                                 const std::string& title) {
  ls_sizes empty{};
  empty.struct_size = sizeof empty;
  ls_sizes* need = arena.put(empty);
  std::memset(reinterpret_cast<std::byte*>(need) + sizeof(uint32_t), 0,
              std::min<size_t>(need->struct_size, sizeof empty) - sizeof(uint32_t));
  const int32_t status = call_plugin([&] { return method.table().sizes(bound, variant, m, need); });
  LS_CHECK(check_call(status, method, "sizes", title));
  if (need->workspace_nbytes > (1ull << 32) || need->activation_nbytes > (1ull << 32) ||
      need->key_nbytes > sizeof need->key) {
    return Error{Code::internal, "sizes are out of range", title, "", ""};
  }
  return need;
}

/// y as float32, m × width; nothing was written between its rows.
Result<std::vector<float>> values_of_y(const Call& call, const Guarded& y, uint64_t width) {
  const uint64_t item = sdk::float_nbytes(call.y_dtype), stride = width + call.y_pad;
  std::vector<float> out(call.m * width);
  for (uint64_t i = 0; i < call.m; ++i) {
    sdk::widen(call.y_dtype, y.data() + i * stride * item, width, out.data() + i * width);
    const std::byte* pad = y.data() + (i * stride + width) * item;
    for (uint64_t b = 0; b < call.y_pad * item; ++b) {
      if (pad[b] == std::byte{0xCC}) continue;
      return Error{Code::internal, "guard bytes overwritten", "y", "found a write between rows",
                   ""};
    }
  }
  return out;
}

}  // namespace

Bound::Bound(const plugin::Method& method, const CaseView& view) : method_(&method), view_(&view) {}

Bound::Bound(Bound&& other) noexcept
    : method_(other.method_),
      view_(other.view_),
      arena_(std::move(other.arena_)),
      handle_(std::exchange(other.handle_, nullptr)) {}

Bound::~Bound() {
  if (handle_ != nullptr) method_->table().unbind(handle_);
}

Result<Bound> Bound::bind(const plugin::MethodConfig& config, const CaseView& view,
                          const plugin::LayerAnswer& answer, const Produced& produced,
                          const StructSizes* sizes) {
  const plugin::Method& method = config.method();
  if (method.table().bind == nullptr) {
    return Error{Code::unsupported, "method has no bind", view.source().title, "", ""};
  }
  Bound out(method, view);
  out.arena_ = std::make_unique<Arena>(sizes);
  ls_target target{};
  target.struct_size = sizeof target;
  target.kind = LS_TARGET_CPU;
  target.name = "cpu";
  const ls_target* to = out.arena_->put(target);
  const ls_buffer* const* stored = buffers_of(*out.arena_, produced);
  const int32_t status = call_plugin([&] {
    return method.table().bind(config.handle(), &view.get(), to, answer.work.note, stored,
                               produced.stored.size(), &out.handle_);
  });
  LS_CHECK(check_call(status, method, "bind", view.source().title));
  if (out.handle_ == nullptr) {
    return Error{Code::internal, "bind gave no layer", view.source().title, "", ""};
  }
  return out;
}

Result<std::vector<float>> Bound::apply(const Call& call, const StructSizes* sizes) const {
  const LayerCase& layer = view_->source();
  const ls_method& table = method_->table();
  Arena arena(sizes);
  LS_TRY(const uint32_t variant, variant_of(*method_, handle_, arena, layer.title));
  LS_TRY(const ls_sizes* need, sizes_of(*method_, handle_, variant, call.m, arena, layer.title));
  const bool gathers = layer.kind == LS_KIND_GATHER;
  const uint64_t columns = gathers ? 1 : layer.in;
  const uint64_t width = gathers ? layer.in : layer.out;
  const uint64_t y_item = sdk::float_nbytes(call.y_dtype);
  const uint64_t y_stride = width + call.y_pad;
  Guarded x = rows_of_x(call, columns, columns + call.x_pad);
  Guarded y("y", call.m * y_stride * y_item, y_item);
  Guarded workspace("workspace", need->workspace_nbytes);
  Guarded activation("activation", need->activation_nbytes);
  Guarded bias("bias", layer.out * sizeof(float), sizeof(float));
  if (call.bias) std::memcpy(bias.data(), call.bias_values.data(), bias.nbytes());
  ls_apply out{};
  out.struct_size = sizeof out;
  out.variant = variant;
  out.x_dtype = call.x_dtype;
  out.y_dtype = call.y_dtype;
  out.m = call.m;
  out.x_stride = columns + call.x_pad;
  out.y_stride = y_stride;
  out.x = x.data();
  out.y = y.data();
  out.bias = call.bias ? bias.data() : nullptr;
  out.bias_dtype = LS_DTYPE_F32;
  out.group_end = call.group_end.empty() ? nullptr : call.group_end.data();
  out.activation = need->activation_nbytes == 0 ? nullptr : activation.data();
  out.workspace = workspace.data();
  const ls_apply* handed = arena.put(out);
  const std::vector<std::byte> before(x.bytes().begin(), x.bytes().end());
  if (need->activation_nbytes > 0) {
    if (table.prepare == nullptr) {
      return Error{Code::internal, "activation bytes without prepare", layer.title, "", ""};
    }
    const int32_t prepared = call_plugin([&] { return table.prepare(handle_, handed); });
    LS_CHECK(check_call(prepared, *method_, "prepare", layer.title));
  }
  const int32_t status = call_plugin([&] { return table.apply(handle_, handed); });
  LS_CHECK(check_call(status, *method_, "apply", layer.title));
  for (const Guarded* memory : {&x, &y, &workspace, &activation, &bias}) LS_CHECK(memory->check());
  if (!std::equal(before.begin(), before.end(), x.data())) {
    return Error{Code::internal, "x overwritten", layer.title, "found other bytes", ""};
  }
  return values_of_y(call, y, width);
}

}  // namespace loadstone::conformance
