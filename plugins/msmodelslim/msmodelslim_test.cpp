// The plugin's rules: types, layouts, what it refuses and in which words.
#include <cmath>
#include <limits>

#include "common/testing/driver.hpp"

namespace loadstone::msmodelslim {
namespace {

using namespace common::testing;

TEST(MsModelSlim, IsThere) { Driver driver("msmodelslim"); }

}  // namespace
}  // namespace loadstone::msmodelslim
