// SPDX-License-Identifier: MIT
//
// What the operating system hands out: a file descriptor, an ioctl on it, a mapping of memory.
// Answers: who closes it, and what an ioctl said (>= 0, or -errno).
#pragma once

#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tl/expected.hpp>
#include <utility>

#include "host_kit/unique_fd.hpp"

namespace host_stub {

using host_kit::UniqueFd;

/// ioctl(2) with its error in the result: >= 0, or -errno.
inline int32_t ioctl_result(int fd, uint32_t request, void* arg) {
  const int result = ::ioctl(fd, static_cast<unsigned long>(request), arg);
  return result < 0 ? -errno : result;
}

/// Owns a stretch of mapped memory; unmaps it.
class Mapping {
 public:
  /// `fd` -1: fresh zeroed memory, else the start of that file. Error: -errno.
  static tl::expected<Mapping, int32_t> map(size_t size, int fd = -1) {
    const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
    void* start = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (start == MAP_FAILED) return tl::unexpected(-errno);
    return Mapping(static_cast<std::byte*>(start), size);
  }

  Mapping() = default;
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping() {
    if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
  }

  bool empty() const { return bytes_.empty(); }
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  Mapping(std::byte* start, size_t size) : bytes_(start, size) {}

  std::span<std::byte> bytes_;
};

}  // namespace host_stub
