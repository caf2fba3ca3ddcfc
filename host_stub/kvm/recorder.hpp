// SPDX-License-Identifier: MIT
//
// Tells an observer of every ioctl that goes through it. Answers: which ioctls were made, in which
// order, with what, and what KVM said. For transcripts, and for tests that count.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kvm/intercept.hpp"
#include "kvm/kvm.hpp"

namespace host_stub {

/// One ioctl, after it was done.
struct IoctlEvent {
  IoctlLevel level = IoctlLevel::system;
  int64_t vm = -1;    ///< VMs in the order of their creation, from 0; -1: a system ioctl
  int64_t vcpu = -1;  ///< id as in KVM_CREATE_VCPU; -1: not a vCPU ioctl
  uint32_t request = 0;
  std::string name;    ///< "KVM_SET_MSRS"
  int32_t result = 0;  ///< >= 0 or -errno; KVM_CREATE_VM and KVM_CREATE_VCPU: 0
  std::string detail;  ///< "2 MSRs: c0010200=0 c0010201=0"; after the call, so with what was read
};

/// Called on the thread of the ioctl, so from several at once: its own care.
using IoctlObserver = std::function<void(const IoctlEvent&)>;

std::unique_ptr<Kvm> with_recorder(std::unique_ptr<Kvm> kvm, IoctlObserver observer);

/// The event as a line of a transcript, without a line feed:
/// "vm0 vcpu1 KVM_SET_MSRS 2 MSRs: c0010200=0 c0010201=0 -> 2", "... -> -EINVAL".
std::string to_line(const IoctlEvent& event);

}  // namespace host_stub
