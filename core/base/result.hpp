// Result<T>: a value or an Error. Every fallible function of the core returns one; no exception
// of ours crosses a function boundary.
//
// The text of an error has one form (STYLE: "Error messages"):
//   what failed: where: found X, expected Y; did you mean Z?
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace loadstone {

/// What the caller can do about an error.
enum class Code : uint8_t {
  invalid_argument,    // fix the call or the command line
  invalid_config,      // fix the YAML, JSON or --quantization value
  invalid_checkpoint,  // fix or download the model's files again
  not_found,           // give another path or name
  unsupported,         // choose another method, option or device
  resource,            // free memory or choose a smaller plan
  io,                  // the device or file system failed
  cancelled,           // asked for by the user
  internal,            // a defect of loadstone or of a plugin
};

std::string_view to_string(Code code);

/// One failure. `where` is a path, `file:line:column`, tensor or layer; outer callers put their
/// own place in front with `at()`. `hint` is the nearest real name or a setting that would work.
struct Error {
  Code code = Code::internal;
  std::string message;  // what failed, e.g. "unknown field"
  std::string where = {};
  std::string detail = {};       // "found X, expected Y"
  std::string hint = {};         // rendered as: ; did you mean HINT?
  std::vector<Error> more = {};  // further problems of the same input, each a line of its own

  /// The whole text, one line per problem, without a final newline.
  std::string text() const;
  /// Puts `outer` in front of `where` (once per layer of callers).
  Error at(std::string_view outer) &&;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T given)
      : state_(std::in_place_index<0>, std::move(given)) {}  // NOLINT implicit by design
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  Error& error() & { return std::get<1>(state_); }
  const Error& error() const& { return std::get<1>(state_); }
  Error&& error() && { return std::get<1>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}

  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }

  Error& error() & { return *error_; }
  const Error& error() const& { return *error_; }
  Error&& error() && { return std::move(*error_); }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace loadstone

#define LS_CONCAT_INNER(a, b) a##b
#define LS_CONCAT(a, b) LS_CONCAT_INNER(a, b)

/// LS_TRY(auto x, f());  binds x to f()'s value or returns its error from the calling function.
#define LS_TRY(declaration, expression) \
  LS_TRY_IMPL(LS_CONCAT(ls_try_, __LINE__), declaration, expression)
#define LS_TRY_IMPL(result, declaration, expression)  \
  auto result = (expression);                         \
  if (!result.ok()) return std::move(result).error(); \
  declaration = std::move(result).value()

/// LS_CHECK(f());  returns f()'s error from the calling function.
#define LS_CHECK(expression)                                              \
  do {                                                                    \
    auto ls_check_status = (expression);                                  \
    if (!ls_check_status.ok()) return std::move(ls_check_status).error(); \
  } while (false)
