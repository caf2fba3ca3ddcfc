// SPDX-License-Identifier: MIT
//
// The functions behind the interposed ones: those of the next library in line. Callable before any
// constructor of ours has run. They leave errno as the real function does.
#pragma once

namespace host_preload {

int real_ioctl(int fd, unsigned long request, void* arg) noexcept;
int real_close(int fd) noexcept;

/// Looks them up, which may allocate inside the loader. Done by the library's constructor, so that
/// the first call need not.
void resolve_real_calls() noexcept;

/// real_ioctl, with a negated errno as the error and errno left alone.
int real_ioctl_result(int fd, unsigned long request, void* arg) noexcept;

/// Keeps errno as it was for the life of the object.
class KeepErrno {
 public:
  KeepErrno() noexcept;
  ~KeepErrno();
  KeepErrno(const KeepErrno&) = delete;
  KeepErrno& operator=(const KeepErrno&) = delete;

 private:
  int saved_;
};

}  // namespace host_preload
