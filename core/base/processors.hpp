// How many processors a cgroup's quota allows; the parts of usable_threads() that tests reach.
#pragma once

#include <optional>
#include <string_view>

namespace loadstone::detail {

/// Content of cgroup v2 `cpu.max` ("200000 100000", "max 100000"): processors rounded up, or
/// nullopt for no limit or another text.
std::optional<unsigned> processors_of_cpu_max(std::string_view text);

/// The same from cgroup v1's `cpu.cfs_quota_us` (-1: none) and `cpu.cfs_period_us`.
std::optional<unsigned> processors_of_cfs(std::string_view quota, std::string_view period);

}  // namespace loadstone::detail
