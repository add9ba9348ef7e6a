// Whether the stored tensors are what the checkpoint's declarations say of them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "config/choice.hpp"
#include "graph/graph.hpp"
#include "plan/routing_declared.hpp"
#include "plan/routing_names.hpp"

namespace loadstone::plan {

inline bool is_product(const graph::Layer& layer) {
  return layer.kind == graph::LayerKind::linear || layer.kind == graph::LayerKind::grouped_linear;
}

/// Counts, over all layers, those stored otherwise than declared.
class StoredForms {
 public:
  /// A layer of a component that `declared` speaks for.
  void add(const graph::Layer& layer, const Declared& declared, const LayerNames& names,
           bool serialized);
  /// A quantized layer that nothing declares or asks for.
  void add_orphan(const graph::Layer& layer);
  /// Notes single layers; adds invalid_checkpoint for a declaration without any quantized tensor
  /// and for quantized tensors without a declaration. `model` is the checkpoint's path.
  void check(const std::string& model, std::vector<std::string>& notes,
             config::Problems& problems) const;

 private:
  struct Counts {
    uint64_t serialized = 0;
    uint64_t plain = 0;       // declared, stored plain
    uint64_t undeclared = 0;  // serialized although the declaration keeps it
    std::string method, first_plain, first_undeclared;
  };
  static void check_one(const std::string& where, const Counts& counts,
                        std::vector<std::string>& notes, config::Problems& problems);

  std::map<std::string, Counts> counts_;  // by declaration
  std::string orphan_;
  uint64_t orphans_ = 0;
};

}  // namespace loadstone::plan
