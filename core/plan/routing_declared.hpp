// What a checkpoint declares about its own quantization, read by the plugins that claim it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/pattern.hpp"
#include "config/problems.hpp"
#include "formats/checkpoint.hpp"
#include "graph/graph.hpp"
#include "plan/routing_entries.hpp"
#include "plan/routing_names.hpp"
#include "plugin/registry.hpp"

namespace loadstone::plan {

/// One component's declaration. Patterns are in checkpoint names.
class Declared {
 public:
  static Result<Declared> make(const graph::GraphComponent& component,
                               const formats::Declaration& declaration,
                               plugin::DeclarationReading reading,
                               const config::MethodSchema& schema);

  const std::string& method() const { return base_->method; }
  const std::string& where() const {
    return where_;
  }  // "transformer/config.json: quantization_config"
  const config::MethodSchema& schema() const { return schema_; }
  /// What the plugin made of it.
  const plugin::DeclarationReading& reading() const { return reading_; }
  /// Fields that hold for all layers.
  const config::MethodChoice& base() const { return *base_; }
  /// The same with the names that the declaration keeps as `ignored_layers`, as `config check`
  /// shows it.
  config::MethodChoice normalized() const;

  /// Whether the declaration quantizes a layer of these names, or any part of it.
  bool covers(const LayerNames& names) const;
  /// The method's fields for a layer: the base with what its patterns set. Equal layers share one.
  /// Null when the parts of a fused layer are declared differently.
  std::shared_ptr<const config::MethodChoice> choice(const LayerNames& names);
  /// The same for each part of a fused layer.
  std::vector<std::shared_ptr<const config::MethodChoice>> part_choices(const LayerNames& names);

 private:
  Declared() = default;
  Status check_values(const plugin::DeclarationReading& reading) const;
  bool keeps(const std::vector<uint32_t>& scopes) const;
  std::shared_ptr<const config::MethodChoice> choice_of(const std::vector<uint32_t>& fields);

  std::string where_;
  config::MethodSchema schema_;
  std::shared_ptr<config::MethodChoice> base_;
  plugin::DeclarationReading reading_;
  config::PatternSet scopes_, fields_;
  bool any_quantize_scope_ = false;
  std::vector<std::pair<std::vector<uint32_t>, std::shared_ptr<const config::MethodChoice>>> made_;
};

/// The user's entry for a component that declares `declared`.
/// Problems: null or "none" for it, another method.
void check_agreement(const std::string& component, const Declared& declared, const Entry& entry,
                     config::Problems& problems);

/// The user's own fields merged into a declared choice: a field that the declaration leaves at its
/// default, or that only says how to run (Field::user_wins), takes the user's; another that it sets
/// must be equal, else a problem. Ignore lists stay apart.
std::shared_ptr<const config::MethodChoice> merge_fields(const config::MethodChoice& declared,
                                                         const config::MethodSchema& schema,
                                                         const std::string& where,
                                                         const config::MethodChoice& user,
                                                         config::Problems& problems);

/// The method that reads a declaration. Errors: unsupported (known and refused with the reason, or
/// claimed by no plugin).
Result<std::string> reader_of(const formats::Declaration& declaration, plugin::Registry& registry);

/// The first of a component's declarations that speaks of it, if any; what others say otherwise
/// are notes.
/// Errors: unsupported (known and refused, or claimed by no plugin), the plugin's own.
Result<std::optional<Declared>> declared_by(const graph::GraphComponent& component,
                                            const std::vector<formats::Declaration>& declarations,
                                            plugin::Registry& registry,
                                            std::vector<std::string>& notes);
/// The same for a component of the graph.
Result<std::optional<Declared>> declared_for(const graph::Graph& graph, uint32_t component,
                                             const formats::Checkpoint& checkpoint,
                                             plugin::Registry& registry,
                                             std::vector<std::string>& notes);

/// Whether a layer's tensors are a quantization method's: anything but plain floats called weight
/// and bias (scales, packed words, 8-bit and block types; scales of a KV cache alone don't count).
bool is_serialized(const graph::Layer& layer, const formats::Component& component);

}  // namespace loadstone::plan
