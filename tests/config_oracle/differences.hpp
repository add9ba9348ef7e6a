// tests/cases/intentional_differences.yaml: where ours answers differently on purpose.
#pragma once

#include <string>
#include <vector>

#include "answer.hpp"

namespace loadstone::oracle {

/// A condition on an entry's kind, input and recorded result, what ours gives instead, and why.
struct Rule {
  std::string name, reason;
  std::vector<std::string> kinds;
  Node input, result, ours, differs;  // conditions (see the file's head); null: none
  uint64_t covered = 0;
};

Result<std::vector<Rule>> read_rules(const std::string& path);

/// The first rule that an entry's difference falls under, or null.
/// `difference`: all that differs, as comparison.cpp says it.
Rule* rule_for(std::vector<Rule>& rules, const std::string& kind, const Node& input,
               const Node& result, const Answer& ours, const std::string& difference);

}  // namespace loadstone::oracle
