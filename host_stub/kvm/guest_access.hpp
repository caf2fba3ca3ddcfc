// SPDX-License-Identifier: MIT
//
// One RDMSR, WRMSR or RDPMC executed by real guest code on a vCPU of /dev/kvm. Answers: what did
// the guest get, and leaves the vCPU's registers as they were.
//
// What a guest access changes beside the MSR: KVM_RUN was called, after which KVM_SET_CPUID2 gives
// EINVAL (on some kernels for the same CPUID too): set the guest CPUID before. MSRs that are part
// of KVM_GET_SREGS (EFER, FS and GS base, APIC base) are put back with it, so a guest write to them
// does not last.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <tl/expected.hpp>

#include "kvm/fd.hpp"

namespace host_stub {

/// The guest memory with the program, given to a VM when the first guest access asks for it.
class GuestMemory {
 public:
  /// Makes it known to the VM, once; any thread. Error: why not.
  tl::expected<void, std::string> ensure(int vm_fd);

 private:
  std::mutex mutex_;
  Mapping memory_;
};

struct GuestAccess {
  enum class Kind : uint8_t { rdmsr, wrmsr, rdpmc };
  Kind kind = Kind::rdmsr;
  uint32_t number = 0;  ///< what ECX holds: an MSR, or with RDPMC a counter
  uint64_t value = 0;   ///< of a write
};

struct GuestOutcome {
  bool general_protection = false;
  uint64_t value = 0;  ///< of a read
};

/// Needs GuestMemory; on the thread of the vCPU. `run` is the mapped kvm_run. Error: why the guest
/// could not be run to its end, or its registers not be put back.
tl::expected<GuestOutcome, std::string> run_guest_access(int vcpu_fd, kvm_run& run,
                                                         uint32_t vcpu_id,
                                                         const GuestAccess& access);

}  // namespace host_stub
