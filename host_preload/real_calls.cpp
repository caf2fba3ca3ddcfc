// SPDX-License-Identifier: MIT
#include "host_preload/real_calls.hpp"

#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace host_preload {
namespace {

using IoctlFunction = int (*)(int, unsigned long, ...);
using CloseFunction = int (*)(int);

// constant-initialised: another library's constructor may call us before ours has run
constinit std::atomic<IoctlFunction> next_ioctl{nullptr};
constinit std::atomic<CloseFunction> next_close{nullptr};

template <typename Function>
Function resolve(std::atomic<Function>& next, const char* name) noexcept {
  const KeepErrno keep;
  const auto found = reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
  if (found != nullptr) next.store(found, std::memory_order_relaxed);
  return found;
}

template <typename Function>
Function get(std::atomic<Function>& next, const char* name) noexcept {
  const Function known = next.load(std::memory_order_relaxed);
  return known != nullptr ? known : resolve(next, name);
}

}  // namespace

KeepErrno::KeepErrno() noexcept : saved_(errno) {}
KeepErrno::~KeepErrno() { errno = saved_; }

int real_ioctl(int fd, unsigned long request, void* arg) noexcept {
  if (const IoctlFunction next = get(next_ioctl, "ioctl")) return next(fd, request, arg);
  return static_cast<int>(syscall(SYS_ioctl, fd, request, arg));
}

int real_close(int fd) noexcept {
  if (const CloseFunction next = get(next_close, "close")) return next(fd);
  return static_cast<int>(syscall(SYS_close, fd));
}

void resolve_real_calls() noexcept {
  resolve(next_ioctl, "ioctl");
  resolve(next_close, "close");
}

int real_ioctl_result(int fd, unsigned long request, void* arg) noexcept {
  const KeepErrno keep;
  const int result = real_ioctl(fd, request, arg);
  return result >= 0 ? result : -errno;
}

}  // namespace host_preload
