// AutoRound, GPTQ and AWQ: integers of 2 to 8 bits in 32-bit words, one scale and zero point a
// group, weights only (integers.hpp); and AutoRound's NVFP4 (floats.hpp). Layouts: README.md.
#include <loadstone/plugin.hpp>

#include "autoround/declaration.hpp"
#include "autoround/floats.hpp"
#include "autoround/integers.hpp"

namespace loadstone::autoround {
namespace {

constexpr const char* kPackings[] = {"auto_round:auto_gptq", "auto_round:auto_awq", "auto_round",
                                     "auto_round:gptqmodel", "auto_round:llm_compressor"};
constexpr const char* kBackends[] = {"auto", "gptq", "gptq:marlin", "awq", "awq:marlin", "marlin"};

constexpr ls_field declared_only(ls_field field) {
  field.declared_only = 1;
  return field;
}

/// Each call goes to the kind of codes that the configuration names.
struct AutoRound {
  static constexpr const char* kName = "autoround";
  static constexpr const char* kSummary =
      "W2 to W8 integers of AutoRound, GPTQ and AWQ checkpoints, and AutoRound's NVFP4";
  static constexpr const char* kAliases[] = {"auto_round", "inc"};
  static constexpr bool kDecodes = true;
#if defined(LOADSTONE_CUDA)
  static constexpr bool kCuda = true;
#endif
  static constexpr ls_field kFields[] = {
      sdk::integer_field("bits", "bits of a weight; needed", nullptr, 2, 8),
      sdk::integer_field("weight_bits", "the same as bits, and wins over it", nullptr, 2, 8),
      sdk::integer_field("group_size", "columns that share a scale, -1: a row; needed", nullptr, -1,
                         1 << 24),
      sdk::field(LS_FIELD_BOOL, "sym", "zero points in the middle", "true"),
      sdk::choice_field("packing_format", "order of codes and form of zero points",
                        "\"auto_round:auto_gptq\"", kPackings),
      sdk::field(LS_FIELD_TREE, "block_name_to_quantize",
                 "modules that begin so are packed: a list, or one text with commas"),
      sdk::field(LS_FIELD_TREE, "extra_config",
                 "layer, trailing part of its name or regular expression: {bits, group_size, sym}"),
      sdk::field(LS_FIELD_TEXT, "data_type",
                 "kind of codes: int or nv_fp; other methods read mx_fp and fp", "\"int\""),
      sdk::choice_field("backend", "kernel choice of other engines; not used here", "\"auto\"",
                        kBackends),
      sdk::integer_field("act_bits", "bits of activations; 16: as they are", nullptr, 1, 32),
      declared_only(sdk::field(LS_FIELD_BOOL, "desc_act", "columns are grouped by g_idx", "false")),
      declared_only(sdk::field(LS_FIELD_BOOL, "is_checkpoint_autoround_serialized",
                               "the checkpoint declares this method", "false")),
      sdk::ignored_layers_field(),
  };
  static constexpr ls_claim kClaims[] = {
      sdk::claim("quantization_config", "auto-round"),
      sdk::claim("quantization_config", "intel/auto-round"),
      sdk::claim("quantization_config", "gptq"),
      sdk::claim("quantization_config", "awq"),
      sdk::claim("quantization_config.json", "auto-round"),
      sdk::claim("quantization_config.json", "gptq"),
      sdk::claim("quantization_config.json", "awq"),
      sdk::claim("quantize_config.json"),
  };

  using Config = autoround::Config;
  static Config configure(const sdk::Values& values) { return autoround::configure(values); }
  static void read_declaration(const sdk::Node& node, uint64_t, sdk::Declaration& out) {
    autoround::read_declaration(node, out);
  }

  static void plan(const Config& config, const sdk::Layer& layer, const sdk::Target& target,
                   sdk::Plan& out) {
    config.nvfp4 ? Floats::plan(config, layer, target, out)
                 : Integers::plan(config, layer, target, out);
  }

  struct Session {
    Session(const Config& config, const sdk::Layer& layer, const sdk::Begin& begin) {
      if (config.nvfp4) {
        floats.emplace(config, layer, begin);
      } else {
        integers.emplace(Integers::Session{config, layer, begin});
      }
    }
    void feed(const sdk::Piece& piece) { floats ? floats->feed(piece) : integers->feed(piece); }
    void end(const void* stat, uint32_t trouble) {
      floats ? floats->end(stat, trouble) : integers->end(stat, trouble);
    }

    std::optional<Floats::Session> floats;
    std::optional<Integers::Session> integers;
  };

  static void dequantize(const Config& config, const sdk::Layer& layer, const sdk::Rows& rows) {
    config.nvfp4 ? Floats::dequantize(config, layer, rows)
                 : Integers::dequantize(config, layer, rows);
  }

  struct Bound {
    Bound(const Config& config, const sdk::Binding& binding) {
      if (config.nvfp4) {
        floats.emplace(config, binding);
      } else {
        integers.emplace(config, binding);
      }
    }
    void sizes(uint32_t variant, uint64_t m, ls_sizes& out) const {
      floats ? floats->sizes(variant, m, out) : integers->sizes(variant, m, out);
    }
    void prepare(const ls_apply& call) const {
      if (floats) floats->prepare(call);
    }
    void apply(const ls_apply& call) const { floats ? floats->apply(call) : integers->apply(call); }

    std::optional<Floats::Bound> floats;
    std::optional<Integers::Bound> integers;
  };

  static void save_layer(const Config& config, const sdk::Layer& layer, uint64_t note,
                         ls_sink* sink) {
    config.nvfp4 ? Floats::save_layer(config, layer, note, sink)
                 : Integers::save_layer(config, layer, note, sink);
  }

  static void save_read(const Config& config, const sdk::Layer& layer, uint64_t note,
                        const sdk::Buffers& stored, uint64_t index, uint64_t offset,
                        uint64_t nbytes, void* out) {
    config.nvfp4 ? Floats::save_read(config, layer, note, stored, index, offset, nbytes, out)
                 : Integers::save_read(config, layer, note, stored, index, offset, nbytes, out);
  }
};

}  // namespace
}  // namespace loadstone::autoround

LOADSTONE_PLUGIN("autoround", "0.2.0", "Apache-2.0", loadstone::autoround::AutoRound)
