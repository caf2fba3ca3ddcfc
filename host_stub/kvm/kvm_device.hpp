// SPDX-License-Identifier: MIT
//
// The real KVM behind kvm.hpp: a device node, as a rule /dev/kvm. Answers: can it be opened, and
// what do its ioctls and its guests say.
//
// A guest's RDMSR, WRMSR and RDPMC are executed by real guest code in real mode (guest_access.hpp);
// the memory for it is given to the VM when it is first needed, so whoever uses ioctls only gets a
// plain VM.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "kvm/fd.hpp"
#include "kvm/guest_access.hpp"
#include "kvm/kvm.hpp"

namespace host_stub {

/// Where it is said why a guest could not be run (GuestFault::not_run). Any thread.
using DeviceLog = std::function<void(std::string_view)>;

/// Error: the path, what is wrong with it, and what to do about it. `log` empty: standard error.
tl::expected<std::unique_ptr<Kvm>, std::string> open_kvm_device(const std::string& path,
                                                                DeviceLog log = {});

class KvmDeviceVcpu final : public Vcpu {
 public:
  KvmDeviceVcpu(UniqueFd fd, Mapping run, uint32_t id, int vm_fd, GuestMemory& memory,
                const DeviceLog& log);

  int32_t ioctl(uint32_t request, void* arg) override;
  tl::expected<uint64_t, GuestFault> guest_rdmsr(uint32_t msr) override;
  tl::expected<void, GuestFault> guest_wrmsr(uint32_t msr, uint64_t value) override;
  tl::expected<uint64_t, GuestFault> guest_rdpmc(uint32_t counter) override;
  GuestRun guest_run(uint64_t cycles) override;
  bool has_guest_time() const override { return false; }
  void guest_write_lvtpc(uint32_t value) override;

  /// Owned here. A test may close it to see what EBADF does; it must not open another file before
  /// this vCPU is gone, whose number would be closed with it.
  int fd() const { return fd_.get(); }

  /// Why the last access was GuestFault::not_run; empty if none was.
  const std::string& not_run_reason() const { return not_run_reason_; }

 private:
  tl::expected<uint64_t, GuestFault> access(const GuestAccess& access);

  UniqueFd fd_;
  Mapping run_;
  uint32_t id_;
  int vm_fd_;
  GuestMemory& memory_;
  const DeviceLog& log_;
  std::string not_run_reason_;
};

class KvmDeviceVm final : public Vm {
 public:
  KvmDeviceVm(UniqueFd fd, size_t run_size, const DeviceLog& log);

  int32_t ioctl(uint32_t request, void* arg) override;
  tl::expected<std::unique_ptr<Vcpu>, int32_t> create_vcpu(uint32_t id) override;

  /// As KvmDeviceVcpu::fd().
  int fd() const { return fd_.get(); }

 private:
  GuestMemory memory_;  // outlives the VM that sees it
  UniqueFd fd_;
  size_t run_size_;
  const DeviceLog& log_;
};

class KvmDevice final : public Kvm {
 public:
  KvmDevice(UniqueFd fd, std::string path, size_t run_size, DeviceLog log);

  int32_t ioctl(uint32_t request, void* arg) override;
  tl::expected<std::unique_ptr<Vm>, int32_t> create_vm() override;
  HostInfo host_info() const override;
  std::string name() const override;

  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
  std::string path_;
  size_t run_size_;
  DeviceLog log_;
};

}  // namespace host_stub
