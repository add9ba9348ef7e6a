// The moving part of a load: threads, ring, admission. `load` and `dequantize` use it.
#pragma once

#include <functional>
#include <span>

#include "load/loaded_model.hpp"
#include "load/memory.hpp"
#include "load/pages.hpp"
#include "load/totals.hpp"
#include "plan/plan.hpp"

namespace loadstone::load {

/// The place of a stored tensor (of its packed form if it has one): inside a HostSlab.
using StoredPlace = std::function<std::byte*(uint32_t layer, uint32_t stored)>;

/// Loads the layers of `order`, which `flow` was made for (plan::make_flow).
///
/// Units are admitted in order while their memory fits flow.in_flight_nbytes; a read runs once a
/// ring slot and its feed's memory are free, both taken at once and both given back when it is
/// done. A thread that holds either waits for nothing but the disk and the method, so a ring of
/// one slot can't wait on itself. `pages` (null: the memory is warm) brings pages of the places
/// in before they are written.
/// Errors: the first one met; everything begun is aborted, all memory given back.
Result<EngineTotals> run_engine(const plan::Plan& plan, const plan::Flow& flow,
                                std::span<const uint32_t> order, const StoredPlace& place,
                                SlabPages* pages, MemoryAccount& account,
                                const LoadControl& control);

}  // namespace loadstone::load
