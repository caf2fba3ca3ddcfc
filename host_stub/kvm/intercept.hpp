// SPDX-License-Identifier: MIT
//
// A Kvm around another Kvm, with one function between that every ioctl goes through. Answers: which
// VM and vCPU a call is for, and what it becomes. Fault injection and recording are made of it.
// What the guest does (RDMSR, WRMSR, time) passes by untouched.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "kvm/kvm.hpp"

namespace host_stub {

enum class IoctlLevel : uint8_t { system, vm, vcpu };

/// One call. KVM_CREATE_VM is a call of the system with arg 0, KVM_CREATE_VCPU one of its VM with
/// the vCPU's id as arg; both give 0 for success here.
struct IoctlCall {
  IoctlLevel level = IoctlLevel::system;
  int64_t vm = -1;    ///< VMs in the order of their creation, from 0; -1: a system ioctl
  int64_t vcpu = -1;  ///< id as in KVM_CREATE_VCPU; -1: not a vCPU ioctl
  uint32_t request = 0;
  void* arg = nullptr;
};

/// Does the call, with this arg; >= 0 or -errno. KVM_CREATE_VM and KVM_CREATE_VCPU ignore the arg.
using IoctlInner = std::function<int32_t(void* arg)>;

/// What stands between: the result that the caller gets. May do the inner call never, once or more
/// often, with the same or another arg; but each KVM_CREATE_* at most once. Called on the caller's
/// thread, so from several at once.
using IoctlIntercept = std::function<int32_t(const IoctlCall& call, const IoctlInner& inner)>;

std::unique_ptr<Kvm> intercept_ioctls(std::unique_ptr<Kvm> kvm, IoctlIntercept intercept);

}  // namespace host_stub
