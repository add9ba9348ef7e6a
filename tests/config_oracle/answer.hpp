// What ours answers to one recorded entry, in the recorder's form.
#pragma once

#include <string>

#include "base/tree.hpp"
#include "config/quant_config.hpp"
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

/// Methods and schemas at hand.
struct Bench {
  plugin::Registry* registry = nullptr;
  config::Schemas schemas;
};

/// The answer to an entry of any kind. Kinds without a counterpart yet are pending.
Answer answer(const std::string& kind, const Node& input, Bench& bench);

/// A difference between the recorded result and ours, or "" when they agree.
std::string difference(const std::string& kind, const Node& result, const Answer& ours);

}  // namespace loadstone::oracle
