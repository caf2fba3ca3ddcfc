// SPDX-License-Identifier: MIT
//
// Memory that ends right before a page that nobody may touch, and can be closed as a whole: who
// reads behind a struct, or keeps a pointer beyond its time, is killed by SIGSEGV there and then.
#pragma once

#include <cstddef>
#include <cstring>
#include <type_traits>

namespace host_stub::validate {

class GuardedMemory {
 public:
  /// `size` bytes of zeros. They stay, untouched and at an address of their own, beyond the life of
  /// this object: somebody may have kept a pointer, and a child process ends soon anyway.
  explicit GuardedMemory(std::size_t size);
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

  /// From now on a touch is SIGSEGV.
  void close() noexcept;

 private:
  std::byte* pages_;
  std::byte* data_;
  std::size_t size_;
  std::size_t usable_;  ///< bytes of pages_ before the guard
};

/// What stands in the members that a struct has beyond this program's version of it.
inline constexpr std::byte kGarbage{0xa5};

/// A struct of the contract in guarded memory, as a host whose version of it has `size` bytes would
/// lend it.
template <typename T>
class Guarded {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit Guarded(const T& value, std::size_t size = sizeof(T), std::byte beyond = kGarbage)
      : memory_(size) {
    std::memset(memory_.data(), static_cast<int>(beyond), size);
    std::memcpy(memory_.data(), &value, size < sizeof(T) ? size : sizeof(T));
  }
  T* get() noexcept { return reinterpret_cast<T*>(memory_.data()); }
  void close() noexcept { memory_.close(); }

 private:
  GuardedMemory memory_;
};

}  // namespace host_stub::validate
