// SPDX-License-Identifier: MIT
//
// What a library needs that stands between a VMM and KVM for a test, with the simulated KVM inside:
// the functions behind its own, what a descriptor leads to, the simulation. Each such library is
// one file that includes this.
#pragma once

#include <dlfcn.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "sim/profile.hpp"
#include "sim/sim_kvm.hpp"

namespace kvm_interposer {

/// The function of this name in the next library in line.
template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

inline int real_ioctl(int fd, uint32_t request, void* arg) {
  static auto* const real = next<int(int, unsigned long, ...)>("ioctl");
  return real(fd, request, arg);
}

/// As the C library reports it: a negated errno becomes -1 and errno.
inline int reported(int32_t result) {
  if (result >= 0) return result;
  errno = -result;
  return -1;
}

[[noreturn]] inline void die(const char* what, const char* detail) {
  std::fprintf(stderr, "simulated KVM under this VMM: %s%s\n", what, detail);
  std::abort();
}

/// What the process's descriptors lead to. It owns nothing; any thread may use it.
template <typename T>
class DescriptorTable {
 public:
  T* get(int fd) const {
    return fd >= 0 && fd < kMaxFds ? objects_[static_cast<size_t>(fd)].load() : nullptr;
  }
  void put(int fd, T* object) {
    if (fd >= kMaxFds) die("file descriptor above ", "4096");
    objects_[static_cast<size_t>(fd)].store(object);
  }

 private:
  static constexpr int kMaxFds = 4096;
  std::array<std::atomic<T*>, kMaxFds> objects_{};
};

struct Simulation {
  host_stub::Profile profile;
  std::unique_ptr<host_stub::Kvm> kvm;
};

/// The simulated KVM that the environment's `variable` describes; made once, never freed. A spec
/// that does not parse ends the process.
inline const Simulation& simulation(const char* variable) {
  static const Simulation* const made = [&] {
    const char* spec = std::getenv(variable);
    auto profile = host_stub::parse_profile(spec != nullptr ? spec : "sim");
    if (!profile) die("", profile.error().c_str());
    return new Simulation{*profile, host_stub::make_sim(*profile)};
  }();
  return *made;
}

}  // namespace kvm_interposer
