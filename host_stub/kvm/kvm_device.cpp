// SPDX-License-Identifier: MIT
#include "kvm/kvm_device.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/utsname.h>

#include <array>
#include <cstring>
#include <fstream>

#include "vmm/kvm_uapi.h"

namespace host_stub {
namespace {

constexpr int32_t kApiVersion = 12;  // api.rst, KVM_GET_API_VERSION: "should refuse to run"

struct OpenHint {
  int number;
  std::string_view hint;
};

constexpr OpenHint kOpenHints[] = {
    {ENOENT, "load kvm_amd or kvm_intel; in a container, pass the device in"},
    {EACCES, "the user must be in the group that owns it, often kvm"},
    {EPERM, "a container's or a sandbox's device rules forbid it"},
    {ENODEV, "load kvm_amd or kvm_intel; enable SVM or VMX in the firmware"},
    {ENXIO, "load kvm_amd or kvm_intel; enable SVM or VMX in the firmware"},
    {ENOTTY, "it is not KVM's device"},
    {EINVAL, "it is not KVM's device"},
};

std::string open_error(const std::string& path, std::string_view step, int number) {
  std::string text = fmt::format("{}: {}{}", path, step, std::strerror(number));
  for (const OpenHint& entry : kOpenHints) {
    if (entry.number == number) text += fmt::format(" ({})", entry.hint);
  }
  return text;
}

void log_to_stderr(std::string_view text) { fmt::print(stderr, "{}\n", text); }

}  // namespace

tl::expected<std::unique_ptr<Kvm>, std::string> open_kvm_device(const std::string& path,
                                                                DeviceLog log) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (fd.get() < 0) return tl::unexpected(open_error(path, "", errno));
  const int32_t version = ioctl_result(fd.get(), KVM_GET_API_VERSION, nullptr);
  if (version < 0) return tl::unexpected(open_error(path, "KVM_GET_API_VERSION: ", -version));
  if (version != kApiVersion) {
    return tl::unexpected(
        fmt::format("{}: KVM API version {}, this needs {}", path, version, kApiVersion));
  }
  const int32_t run_size = ioctl_result(fd.get(), KVM_GET_VCPU_MMAP_SIZE, nullptr);
  if (run_size < static_cast<int32_t>(sizeof(kvm_run))) {
    return tl::unexpected(fmt::format("{}: KVM_GET_VCPU_MMAP_SIZE gives {}", path, run_size));
  }
  return std::make_unique<KvmDevice>(std::move(fd), path, static_cast<size_t>(run_size),
                                     log ? std::move(log) : DeviceLog(log_to_stderr));
}

KvmDevice::KvmDevice(UniqueFd fd, std::string path, size_t run_size, DeviceLog log)
    : fd_(std::move(fd)), path_(std::move(path)), run_size_(run_size), log_(std::move(log)) {}

int32_t KvmDevice::ioctl(uint32_t request, void* arg) {
  if (request == KVM_CREATE_VM) return -EINVAL;  // its descriptor would be nobody's
  return ioctl_result(fd_.get(), request, arg);
}

tl::expected<std::unique_ptr<Vm>, int32_t> KvmDevice::create_vm() {
  int32_t result = 0;
  do {  // interrupted while KVM waits for other CPUs, it wants to be asked again; VMMs do
    result = ioctl_result(fd_.get(), KVM_CREATE_VM, nullptr);
  } while (result == -EINTR);
  if (result < 0) return tl::unexpected(result);
  return std::make_unique<KvmDeviceVm>(UniqueFd(result), run_size_, log_);
}

HostInfo KvmDevice::host_info() const {
  HostInfo info{.kernel = "?", .enable_pmu = "?"};
  utsname name{};
  if (::uname(&name) == 0) info.kernel = name.release;
  std::ifstream parameter("/sys/module/kvm/parameters/enable_pmu");
  std::string value;
  if (parameter >> value) info.enable_pmu = value;
  return info;
}

std::string KvmDevice::name() const { return path_; }

KvmDeviceVm::KvmDeviceVm(UniqueFd fd, size_t run_size, const DeviceLog& log)
    : fd_(std::move(fd)), run_size_(run_size), log_(log) {}

int32_t KvmDeviceVm::ioctl(uint32_t request, void* arg) {
  if (request == KVM_CREATE_VCPU) return -EINVAL;  // its descriptor would be nobody's
  return ioctl_result(fd_.get(), request, arg);
}

tl::expected<std::unique_ptr<Vcpu>, int32_t> KvmDeviceVm::create_vcpu(uint32_t id) {
  const int32_t result =
      ioctl_result(fd_.get(), KVM_CREATE_VCPU, reinterpret_cast<void*>(uintptr_t{id}));
  if (result < 0) return tl::unexpected(result);
  UniqueFd fd(result);
  tl::expected<Mapping, int32_t> run = Mapping::map(run_size_, fd.get());
  if (!run) return tl::unexpected(run.error());
  return std::make_unique<KvmDeviceVcpu>(std::move(fd), std::move(*run), id, fd_.get(), memory_,
                                         log_);
}

KvmDeviceVcpu::KvmDeviceVcpu(UniqueFd fd, Mapping run, uint32_t id, int vm_fd, GuestMemory& memory,
                             const DeviceLog& log)
    : fd_(std::move(fd)),
      run_(std::move(run)),
      id_(id),
      vm_fd_(vm_fd),
      memory_(memory),
      log_(log) {}

int32_t KvmDeviceVcpu::ioctl(uint32_t request, void* arg) {
  return ioctl_result(fd_.get(), request, arg);
}

tl::expected<uint64_t, GuestFault> KvmDeviceVcpu::guest_rdmsr(uint32_t msr) {
  return access({.kind = GuestAccess::Kind::rdmsr, .number = msr, .value = 0});
}

tl::expected<void, GuestFault> KvmDeviceVcpu::guest_wrmsr(uint32_t msr, uint64_t value) {
  return access({.kind = GuestAccess::Kind::wrmsr, .number = msr, .value = value})
      .map([](uint64_t) {});
}

tl::expected<uint64_t, GuestFault> KvmDeviceVcpu::guest_rdpmc(uint32_t counter) {
  return access({.kind = GuestAccess::Kind::rdpmc, .number = counter, .value = 0});
}

GuestRun KvmDeviceVcpu::guest_run(uint64_t cycles) { return {.cycles = cycles, .nmi = false}; }

void KvmDeviceVcpu::guest_write_lvtpc(uint32_t) {}

tl::expected<uint64_t, GuestFault> KvmDeviceVcpu::access(const GuestAccess& access) {
  kvm_run& run = *reinterpret_cast<kvm_run*>(run_.bytes().data());
  const tl::expected<GuestOutcome, std::string> outcome = memory_.ensure(vm_fd_).and_then(
      [&] { return run_guest_access(fd_.get(), run, id_, access); });
  if (!outcome) {
    constexpr std::array kNames{"RDMSR", "WRMSR", "RDPMC"};  // by Kind
    not_run_reason_ =
        fmt::format("vCPU {}: guest {} of {:08x} could not be run: {}", id_,
                    kNames[static_cast<size_t>(access.kind)], access.number, outcome.error());
    log_(not_run_reason_);
    return tl::unexpected(GuestFault::not_run);
  }
  if (outcome->general_protection) return tl::unexpected(GuestFault::general_protection);
  return outcome->value;
}

}  // namespace host_stub
