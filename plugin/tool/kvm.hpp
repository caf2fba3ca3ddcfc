// SPDX-License-Identifier: MIT
//
// What the tool needs of a KVM: ioctls on the device, on VMs and on vCPUs. The tool's own is
// /dev/kvm (kvm_device.hpp); a simulated KVM can stand in its place.
//
// Errors: ioctl results are the kernel's, or a negated errno. One thread. A Vcpu must not outlive
// its Vm, nor a Vm its Kvm.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <tl/expected.hpp>

namespace svm_pmu::tool {

class Vcpu {
 public:
  virtual ~Vcpu() = default;
  virtual int32_t ioctl(uint32_t request, void* arg) = 0;
};

class Vm {
 public:
  virtual ~Vm() = default;

  /// A VM ioctl other than KVM_CREATE_VCPU.
  virtual int32_t ioctl(uint32_t request, void* arg) = 0;

  /// KVM_CREATE_VCPU. Error: -errno.
  virtual tl::expected<std::unique_ptr<Vcpu>, int32_t> create_vcpu(uint32_t id) = 0;
};

/// What a KVM's host says of itself.
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

  /// "/dev/kvm", or what else it was opened by.
  virtual std::string name() const = 0;

  /// Whether it is this machine's: only then do this machine's perf events say anything about it.
  virtual bool of_this_machine() const { return false; }
};

}  // namespace svm_pmu::tool
