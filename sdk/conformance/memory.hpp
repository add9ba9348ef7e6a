// Buffers between guard bytes, and structs of any size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <typeindex>
#include <vector>

#include "base/result.hpp"

namespace loadstone::conformance {

inline constexpr int kPoison = 0xA5;

/// `nbytes` of memory at a multiple of `align` (and of nothing larger, shifted by `shift` bytes)
/// with guard bytes on both sides.
class Guarded {
 public:
  Guarded() = default;
  Guarded(std::string name, uint64_t nbytes, uint64_t align = 64, uint64_t shift = 0,
          int fill = 0xCC);
  Guarded(Guarded&&) noexcept = default;
  Guarded& operator=(Guarded&&) noexcept = default;

  std::byte* data() const { return at_; }
  uint64_t nbytes() const { return nbytes_; }
  std::span<const std::byte> bytes() const { return {at_, nbytes_}; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(at_);
  }
  /// Errors when a byte outside the buffer changed, naming it and the distance.
  Status check() const;

 private:
  static constexpr uint64_t kGuard = 4096;
  std::string name_;
  std::unique_ptr<std::byte[]> room_;
  std::byte* at_ = nullptr;
  uint64_t nbytes_ = 0, room_nbytes_ = 0;
};

/// The struct_size that each struct type is handed over with; types not named have their own size.
using StructSizes = std::map<std::type_index, uint32_t>;

/// Keeps structs at the sizes asked for: poison lies where a shorter struct ends and behind a
/// longer one.
class Arena {
 public:
  explicit Arena(const StructSizes* sizes = nullptr) : sizes_(sizes) {}

  template <typename T>
  T* put(const T& value) {
    uint32_t size = sizeof(T);
    if (sizes_ != nullptr) {
      if (const auto at = sizes_->find(typeid(T)); at != sizes_->end()) size = at->second;
    }
    const size_t room = std::max<size_t>(size, sizeof(T));
    auto& bytes = structs_.emplace_back(new std::byte[room + kTail]);
    std::memset(bytes.get(), kPoison, room + kTail);
    std::memcpy(bytes.get(), &value, std::min<size_t>(size, sizeof(T)));
    std::memcpy(bytes.get(), &size, sizeof size);
    return reinterpret_cast<T*>(bytes.get());
  }
  template <typename T>
  const T* const* array(std::vector<const T*> pointers) {
    auto& kept = arrays_.emplace_back(pointers.begin(), pointers.end());
    return reinterpret_cast<const T* const*>(kept.data());
  }

 private:
  static constexpr size_t kTail = 64;
  const StructSizes* sizes_;
  std::vector<std::unique_ptr<std::byte[]>> structs_;
  std::vector<std::vector<const void*>> arrays_;
};

}  // namespace loadstone::conformance
