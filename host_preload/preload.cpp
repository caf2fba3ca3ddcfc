// SPDX-License-Identifier: MIT
//
// The interposed functions: what libvmm_preload.so exports. An ioctl that is not KVM's pays a
// compare, a close two loads.
#include <dlfcn.h>
#include <limits.h>
#include <linux/kvm.h>
#include <stdlib.h>

#include <array>
#include <atomic>
#include <new>
#include <string>

#include "host_preload/interposer.hpp"
#include "host_preload/real_calls.hpp"

#if !defined(__x86_64__)
#error "KVM's AMD vPMU is x86-64's; this library is of no use elsewhere"
#endif

namespace {

using host_preload::Interposer;

/// Made by the constructor below and never destroyed: at exit other threads may still be inside a
/// hook, and the kernel takes back what a VM holds in any case.
constinit std::atomic<Interposer*> interposer{nullptr};

/// The folder of this library's file, absolute; LD_PRELOAD may have named it relative to the folder
/// of the moment.
std::string own_folder() {
  Dl_info info{};
  std::array<char, PATH_MAX> path{};
  if (dladdr(&interposer, &info) == 0 || realpath(info.dli_fname, path.data()) == nullptr)
    return ".";
  const std::string file = path.data();
  return file.substr(0, file.find_last_of('/'));
}

__attribute__((constructor)) void start() noexcept {
  const host_preload::KeepErrno keep;
  host_preload::resolve_real_calls();
  try {
    interposer.store(new Interposer(own_folder()), std::memory_order_release);
  } catch (const std::bad_alloc&) {
    // a process that has no memory at its start will not make a VM
  }
}

}  // namespace

// Three fixed arguments where glibc declares a variadic function: x86-64 passes the third word in
// the same register either way, and a call that is not KVM's then needs no stack frame at all.
extern "C" __attribute__((visibility("default"))) int ioctl(int fd, unsigned long request,
                                                            void* arg) noexcept {
  // some callers pass the request as a signed int: only its low 32 bits count, as in the kernel
  const auto number = static_cast<uint32_t>(request);
  if (((number >> 8) & 0xff) == KVMIO) [[unlikely]] {
    if (Interposer* active = interposer.load(std::memory_order_acquire))
      return active->kvm_ioctl(fd, number, request, arg);
  }
  return host_preload::real_ioctl(fd, request, arg);
}

extern "C" __attribute__((visibility("default"))) int close(int fd) {
  Interposer* active = interposer.load(std::memory_order_acquire);
  if (active != nullptr && active->knows(fd)) active->closing(fd);
  return host_preload::real_close(fd);
}
