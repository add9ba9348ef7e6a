// AutoRound's NVFP4: e2m1 codes, e4m3 scales of 16 columns, and global scales that divide. Part of
// autoround.cpp.
//   weight_packed U8 [N, K/2]   weight_scale F8_E4M3 [N, K/16]   weight_global_scale F32 [1]
//   input_global_scale F32 [1], where activations are e2m1 too
//   w = (q·(1/global))·scale, in this order. Source: numeric-definitions, sections 5 and 8.
#pragma once

#include "autoround/config.hpp"
#include "common/dialect/method.hpp"

namespace loadstone::autoround {

struct Floats : common::dialect::Method<Floats, Config> {
  static constexpr common::dialect::Known kKnown[] = {
      {"input_global_scale", "activations are not scaled by it here"}};

  static std::optional<common::dialect::Reader> reader_of(const Config& config,
                                                          const sdk::Layer& layer,
                                                          common::NoForm& instead) {
    bool kept = false, quantized = false, plain = false;
    for (uint64_t i = 0; i < layer.part_count(); ++i) {
      const bool packed = layer.find(i, "weight_packed").has_value();
      (packed ? quantized : plain) = true;
      kept = kept || (packed && config.of(layer.part(i).path()).kept);
    }
    if (kept) {
      sdk::fail(LS_INVALID_CHECKPOINT,
                "packed tensors rejected: found \"weight_packed\", expected \"weight\": the "
                "configuration leaves this layer as it was");
    }
    if (quantized && plain) {
      instead.set(LS_VERDICT_SPLIT, "some parts are packed, some stored as they were");
    } else if (!quantized && (config.declared || layer.wants_decode())) {
      instead.set(LS_VERDICT_KEEP, "stored unquantized in the checkpoint");
    } else if (!quantized) {
      instead.set(
          LS_VERDICT_UNSUPPORTED,
          "found plain weights, expected weight_packed and its scales: such checkpoints are "
          "read, not made");
    }
    if (plain || !quantized) return std::nullopt;
    common::scaled::Spec spec;
    spec.method = "autoround";
    spec.codes = common::scaled::Codes::e2m1;
    spec.scale = common::scaled::Scale::group;
    spec.group = common::kNvfp4Group;
    spec.order = common::Nvfp4Order::reciprocal;
    spec.names[common::scaled::kWeight] = "weight_packed";
    spec.names[common::scaled::kGlobal] = "weight_global_scale";
    if (config.quantizes_activations) {
      spec.input = common::scaled::Input::nvfp4;
      spec.names[common::scaled::kInput] = "input_global_scale";
    }
    return spec;
  }
};

}  // namespace loadstone::autoround
