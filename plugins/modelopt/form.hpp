// One layer of a ModelOpt checkpoint: which shared layer reads it, and how.
#pragma once

#include <variant>

#include "common/mx/form.hpp"
#include "common/scaled/form.hpp"
#include "modelopt/config.hpp"

namespace loadstone::modelopt {

/// MX formats are common/mx's business, everything else common/scaled's.
using Reader = std::variant<common::scaled::Spec, common::mx::Config>;

/// How the layer is read, or the verdict instead. Errors (thrown): LS_INVALID_CHECKPOINT for
/// weights of another algorithm than declared.
std::optional<Reader> reader_of(const Config& config, const sdk::Layer& layer,
                                common::NoForm& instead);

/// The same for a layer that plan_layer accepted.
Reader known_reader(const Config& config, const sdk::Layer& layer);

}  // namespace loadstone::modelopt
