// What ours answers to one recorded entry, in the recorder's form.
#pragma once

#include <string>

#include "base/tree.hpp"
#include "config/quant_config.hpp"
#include "formats/declarations.hpp"
#include "plan/known_components.hpp"
#include "plugin/registry.hpp"

namespace loadstone::oracle {

struct Answer {
  enum class Kind { accepted, refused, pending };
  Kind kind = Kind::pending;
  Node value;         // accepted: {"method", "fields", "components"} or a kind's own value
  std::string error;  // refused: the whole text; pending: what is missing
};

Answer accepted(Node value);
Answer refused(const Error& error);
Answer pending(std::string why);

/// Methods, families and models at hand.
struct Bench {
  plugin::Registry* registry = nullptr;
  config::Schemas schemas;
  plan::KnownComponents known;
  std::string adapters_dir, models_dir;  // models_dir: a small model of every family, a folder each
};

/// The answer to an entry of any kind. Kinds without a counterpart yet are pending.
Answer answer(const std::string& kind, const Node& input, Bench& bench);

/// The value at a key; null without one.
const Node& at(const Node& map, const char* key);

/// Whether a method only reads what a checkpoint declares.
bool only_reads(const config::MethodChoice& choice);
/// A user's words for such a method as a checkpoint's.
formats::Declaration declaration_like(const Node& spec, const std::string& method);

Answer layer(const Node& input, Bench& bench);
Answer family(const Node& input, Bench& bench);
Answer norm_layer(const Node& input, Bench& bench);
Answer gguf_model(const Node& input, Bench& bench);
Answer gguf_adapter(const Node& input, Bench& bench);

/// A difference between the recorded result and ours, or "" when they agree.
std::string difference(const std::string& kind, const Node& result, const Answer& ours);

}  // namespace loadstone::oracle
