// What the MX methods have in common as classes for the plugin wrapper; each adds its name, fields,
// claims, configure, read_declaration and declaration.
#pragma once

#include "common/mx/bound.hpp"
#include "common/mx/saving.hpp"

namespace loadstone::common::mx {

struct Method {
  using Config = mx::Config;
  using Session = mx::Session;
  using Bound = mx::Bound;

  static constexpr bool kDecodes = true;

  static const char* ignored(const Config& config, const sdk::Layer& layer) {
    return sdk::ignored_by(config.ignored_layers, layer);
  }

  static void plan(const Config& config, const sdk::Layer& layer, const sdk::Target&,
                   sdk::Plan& out) {
    NoForm instead;
    const auto form = find_form(config, layer, instead);
    if (!form || !agree_on_mul(*form, out, instead)) return instead.answer(out);
    mx::plan(config, *form, layer, out);
  }

  static void dequantize(const Config& config, const sdk::Layer& layer, const sdk::Rows& rows) {
    mx::dequantize(config, layer, rows);
  }

  static void save_layer(const Config& config, const sdk::Layer& layer, uint64_t, ls_sink* sink) {
    mx::save_layer(config, layer, sink);
  }

  static void save_read(const Config& config, const sdk::Layer& layer, uint64_t,
                        const sdk::Buffers& stored, uint64_t index, uint64_t offset,
                        uint64_t nbytes, void* out) {
    mx::save_read(config, layer, stored, index, offset, nbytes, out);
  }
};

}  // namespace loadstone::common::mx
