// The serialized form that save writes, per part: what form.hpp reads, e2m1 codes packed.
#pragma once

#include "common/mx/form.hpp"

namespace loadstone::common::mx {

void save_layer(const Config& config, const sdk::Layer& layer, ls_sink* sink);
void save_read(const Config& config, const sdk::Layer& layer, const sdk::Buffers& stored,
               uint64_t index, uint64_t offset, uint64_t nbytes, void* out);

}  // namespace loadstone::common::mx
