// Collects every problem of one input, so that all of them are reported at once.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "base/tree.hpp"

namespace loadstone::config {

class Problems {
 public:
  void add(Error error) { errors_.push_back(std::move(error)); }
  /// An invalid_config problem at a mark.
  void add(std::string message, const Mark& mark, std::string detail, std::string hint = "") {
    add(Error{Code::invalid_config,
              std::move(message),
              mark.text(),
              std::move(detail),
              std::move(hint),
              {}});
  }
  bool empty() const { return errors_.empty(); }
  size_t size() const { return errors_.size(); }

  /// The first problem with the others in `more`. Requires !empty().
  Error take() {
    Error first = std::move(errors_.front());
    for (size_t i = 1; i < errors_.size(); ++i) first.more.push_back(std::move(errors_[i]));
    errors_.clear();
    return first;
  }

 private:
  std::vector<Error> errors_;
};

}  // namespace loadstone::config
