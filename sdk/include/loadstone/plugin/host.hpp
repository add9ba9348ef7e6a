// What every plugin shares: the host's table, failures as exceptions inside the plugin, and the
// struct_size rule.
#pragma once

#include <loadstone/plugin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

namespace loadstone::sdk {

/// The only exception that plugin code throws on purpose. It never leaves the plugin: the wrapper
/// turns it into `status` and `text` ("what failed: where: found X, expected Y").
class Failure : public std::exception {
 public:
  Failure(int32_t status, std::string text) : status_(status), text_(std::move(text)) {}
  int32_t status() const noexcept { return status_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  int32_t status_;
  std::string text_;
};

[[noreturn]] inline void fail(int32_t status, std::string text) {
  throw Failure(status, std::move(text));
}

namespace detail {

/// The host's table at this header's size, zero beyond what the host knows. Set once by the query.
inline ls_host host_copy{};

}  // namespace detail

inline const ls_host& host() { return detail::host_copy; }

/// The least size of a struct: what it had in the interface's first version. A struct that grows
/// gets a specialisation with its first size.
template <typename T>
inline constexpr size_t kLeastSize = sizeof(T);
template <>
inline constexpr size_t kLeastSize<ls_host> = sizeof(uint32_t) * 3;

/// Copies a struct of the other side to this side's size: no byte past its struct_size is read,
/// fields that it lacks are zero. A struct below its least size is LS_INVALID_ARGUMENT.
template <typename T>
T copy_in(const T* from) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (from == nullptr) fail(LS_INVALID_ARGUMENT, "call rejected: found a null struct");
  uint32_t size = 0;
  std::memcpy(&size, from, sizeof size);
  if (size < kLeastSize<T>) {
    fail(LS_INVALID_ARGUMENT, "call rejected: found struct_size " + std::to_string(size) +
                                  ", expected at least " + std::to_string(kLeastSize<T>));
  }
  T out{};
  std::memcpy(static_cast<void*>(&out), from, std::min<size_t>(size, sizeof(T)));
  out.struct_size = sizeof(T);
  return out;
}

/// Writes a struct for the other side, no further than that side's struct_size.
template <typename T>
void copy_out(T value, T* to) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (to == nullptr) fail(LS_INVALID_ARGUMENT, "call rejected: found a null struct");
  uint32_t size = 0;
  std::memcpy(&size, to, sizeof size);
  if (size < kLeastSize<T>) {
    fail(LS_INVALID_ARGUMENT, "call rejected: found struct_size " + std::to_string(size));
  }
  value.struct_size = size;
  std::memcpy(static_cast<void*>(to), &value, std::min<size_t>(size, sizeof(T)));
}

/// A zeroed struct with its struct_size.
template <typename T>
constexpr T make() {
  T out{};
  out.struct_size = sizeof(T);
  return out;
}

/// Runs `body` and turns whatever it throws into a status, the text handed to the host.
template <typename Body>
int32_t guarded(Body&& body) noexcept {
  const auto report = [](int32_t status, const char* text) {
    return host().fail != nullptr ? host().fail(status, text) : status;
  };
  try {
    body();
    return LS_OK;
  } catch (const Failure& failure) {
    return report(failure.status(), failure.what());
  } catch (const std::bad_alloc&) {
    return report(LS_RESOURCE, "out of memory");
  } catch (const std::exception& error) {
    return report(LS_INTERNAL, error.what());
  } catch (...) {
    return report(LS_INTERNAL, "exception of unknown type");
  }
}

/// Passes on a status of the host's own functions.
inline void check_host(int32_t status, const char* call) {
  if (status != LS_OK) fail(status, std::string(call) + " refused by the host");
}

inline void log(uint32_t level, const std::string& text) {
  if (host().log != nullptr) host().log(level, text.c_str());
}

inline bool cancelled() { return host().cancelled != nullptr && host().cancelled() != 0; }

/// Throws LS_CANCELLED when the user asked to stop; call it now and then in long work.
inline void check_cancelled() {
  if (cancelled()) fail(LS_CANCELLED, "cancelled");
}

/// body(i) for i in [0, count) on the host's threads. What a body throws is thrown here once all
/// have returned; of several the one with the lowest i, so that errors don't depend on threads.
template <typename Body>
void parallel_for(uint64_t count, const Body& body) {
  if (count <= 1 || host().parallel_for == nullptr) {
    for (uint64_t i = 0; i < count; ++i) body(i);
    return;
  }
  struct Shared {
    const Body& body;
    std::mutex mutex;
    uint64_t first_failed = UINT64_MAX;
    std::exception_ptr error;
  } shared{body, {}, UINT64_MAX, nullptr};
  host().parallel_for(
      count,
      [](void* context, uint64_t i) {
        auto& state = *static_cast<Shared*>(context);
        try {
          state.body(i);
        } catch (...) {
          const std::lock_guard<std::mutex> lock(state.mutex);
          if (i < state.first_failed) {
            state.first_failed = i;
            state.error = std::current_exception();
          }
        }
      },
      &shared);
  if (shared.error) std::rethrow_exception(shared.error);
}

}  // namespace loadstone::sdk
