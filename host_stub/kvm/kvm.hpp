// SPDX-License-Identifier: MIT
//
// One interface to KVM for everything in the host stub: /dev/kvm, the simulated KVM, and decorators
// around either (faults, recorder). It is the kernel's own interface, ioctl numbers and structs of
// <linux/kvm.h>, so what works here works on a file descriptor; plus what the guest's side of a
// vCPU does, which on the real device is done by real guest code.
//
// Errors: ioctl results are the kernel's, or a negated errno. No exceptions.
// Threads: one Vcpu is used by one thread at a time; different Vcpus of one Vm, and a Vcpu beside
// its Vm, may be used from different threads at once. Vcpus must not outlive their Vm, nor a Vm its
// Kvm.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <tl/expected.hpp>

namespace host_stub {

/// What the guest took instead of completing an instruction.
enum class GuestFault : uint8_t {
  general_protection,  ///< #GP(0)
  not_run,             ///< the guest could not be run (real device only): `what` is in the log
};

/// How a stretch of guest time ended.
struct GuestRun {
  uint64_t cycles = 0;  ///< guest core cycles that passed
  bool nmi = false;     ///< true: ended early because an NMI was delivered to the guest
};

class Vcpu {
 public:
  virtual ~Vcpu() = default;

  /// A vCPU ioctl. `arg` as the kernel takes it. Result >= 0, or -errno.
  virtual int32_t ioctl(uint32_t request, void* arg) = 0;

  /// What the guest sees when it executes RDMSR / WRMSR here, filter and all.
  virtual tl::expected<uint64_t, GuestFault> guest_rdmsr(uint32_t msr) = 0;
  virtual tl::expected<void, GuestFault> guest_wrmsr(uint32_t msr, uint64_t value) = 0;

  /// The same for RDPMC, which no MSR filter covers. `counter` as in ECX: the number of the
  /// counter.
  virtual tl::expected<uint64_t, GuestFault> guest_rdpmc(uint32_t counter) = 0;

  /// Runs guest code that retires one instruction a cycle, for `cycles` or until an NMI arrives.
  /// The real device does nothing and reports all cycles as passed.
  virtual GuestRun guest_run(uint64_t cycles) = 0;

  /// Whether guest_run lets guest time pass. False: counters do not move, nothing can be said of
  /// NMIs.
  virtual bool has_guest_time() const { return true; }

  /// The guest writes its local APIC's LVTPC (offset 0x340): 0x400 = deliver as NMI, 0x10000 =
  /// masked. The real device ignores it.
  virtual void guest_write_lvtpc(uint32_t value) = 0;
};

class Vm {
 public:
  virtual ~Vm() = default;

  /// A VM ioctl other than KVM_CREATE_VCPU.
  virtual int32_t ioctl(uint32_t request, void* arg) = 0;

  /// KVM_CREATE_VCPU; `id` as the kernel takes it. Error: -errno.
  virtual tl::expected<std::unique_ptr<Vcpu>, int32_t> create_vcpu(uint32_t id) = 0;
};

/// What a backend says of the host that it runs on.
struct HostInfo {
  std::string kernel;      ///< as uname -r, "6.12.95"
  std::string enable_pmu;  ///< /sys/module/kvm/parameters/enable_pmu: "Y", "N"; "?" = not there
};

class Kvm {
 public:
  virtual ~Kvm() = default;

  /// A system ioctl (on /dev/kvm) other than KVM_CREATE_VM.
  virtual int32_t ioctl(uint32_t request, void* arg) = 0;

  /// KVM_CREATE_VM. Error: -errno.
  virtual tl::expected<std::unique_ptr<Vm>, int32_t> create_vm() = 0;

  virtual HostInfo host_info() const = 0;

  /// The spec that opened it, "/dev/kvm" or "sim:linux-6.12".
  virtual std::string name() const = 0;
};

}  // namespace host_stub
