// SIGINT sets a cancel token: work stops at its next step, and the program ends with 130.
#pragma once

#include "base/parallel.hpp"

namespace loadstone::cli {

/// The token of this process. The first call installs the handler; a second SIGINT ends the
/// process at once.
const CancelToken& interrupt_token();

}  // namespace loadstone::cli
