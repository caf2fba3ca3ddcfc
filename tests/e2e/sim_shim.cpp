// SPDX-License-Identifier: MIT
//
// A KVM whose AMD vPMU is the simulated one: an ioctl interposer for LD_PRELOAD that stands between
// a VMM (or the preload host in front of it) and the real KVM. The real KVM runs the guest; what
// concerns the PMU is answered by the simulated KVM, so that a host whose own vPMU is off, or of
// another kernel, can show both defects and both fixes with an unmodified VMM and a real guest.
//
//   LD_PRELOAD="libvmm_preload.so libsim_shim.so" SIM_SHIM=sim:linux-6.12 qemu-system-x86_64 ...
//
// From the simulated KVM come:
//   KVM_CHECK_EXTENSION, KVM_ENABLE_CAP     of capabilities 212 and 213
//   KVM_GET_MSR_INDEX_LIST                  the PMU's entries
//   KVM_GET_SUPPORTED_CPUID                 the vendor in leaf 0, and 80000001.ECX[23],
//                                           PerfCtrExtCore
//   KVM_GET_MSRS, KVM_SET_MSRS              entries that are PMU registers, in the place they have
//   the guest's RDMSR and WRMSR             of PMU registers: the real KVM denies them with an MSR
//                                           filter and exits (KVM_CAP_X86_USER_SPACE_MSR), the shim
//                                           answers inside KVM_RUN
// A filter of the VMM's is heard for these registers too: denied there means #GP, or the exit that
// the VMM asked for. What the kernel puts on a vCPU as KVM_SET_CPUID2 goes to both.
//
// Objects are never freed: a VMM's life is a test's. Threads: as KVM, one thread a vCPU.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "sim/msr_filter.hpp"
#include "sim/pmu_msrs.hpp"
#include "sim/profile.hpp"
#include "support/kvm_interposer.hpp"
#include "vmm/kvm_uapi.h"

namespace {

using host_stub::MsrFilter;
using kvm_interposer::DescriptorTable;
using kvm_interposer::die;
using kvm_interposer::real_ioctl;
using kvm_interposer::reported;
using kvm_interposer::Simulation;

// ---- what stands behind a file descriptor -------------------------------------------------------

struct ShimVm {
  std::unique_ptr<host_stub::Vm> sim;
  std::mutex mutex;  // of the next line
  std::shared_ptr<const MsrFilter> vmm_filter = std::make_shared<const MsrFilter>();
  std::atomic<bool> vmm_wants_filter_exits{false};
};

struct ShimVcpu {
  ShimVm* vm = nullptr;
  std::unique_ptr<host_stub::Vcpu> sim;
  kvm_run* run = nullptr;  // a mapping of our own
};

DescriptorTable<ShimVm> vms;
DescriptorTable<ShimVcpu> vcpus;

const Simulation& simulation() { return kvm_interposer::simulation("SIM_SHIM"); }

// ---- the MSR filter: the VMM's, with the PMU's registers denied in front of it
// -------------------

constexpr std::array<std::array<uint32_t, 2>, 3> kPmuRanges{{
    {host_stub::kMsrLegacyCtl0, 2 * host_stub::kLegacyCounters},
    {host_stub::kMsrCtl0, 2 * host_stub::kMaxCounters},
    {host_stub::kMsrGlobalStatus, 4},
}};
uint8_t deny_all[8] = {};  // KVM takes it as not const

int set_real_filter(int fd, const kvm_msr_filter& vmm) {
  kvm_msr_filter merged{};
  merged.flags = vmm.flags;
  size_t used = 0;
  for (const auto& [base, count] : kPmuRanges)
    merged.ranges[used++] = {KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, count, base, deny_all};
  for (const kvm_msr_filter_range& range : vmm.ranges) {
    if (range.nmsrs == 0) continue;
    if (used == std::size(merged.ranges)) return reported(-ENOSPC);
    merged.ranges[used++] = range;
  }
  return real_ioctl(fd, KVM_X86_SET_MSR_FILTER, &merged);
}

int set_msr_filter(int fd, ShimVm& vm, const kvm_msr_filter* request) {
  if (request == nullptr) return reported(-EFAULT);
  auto filter = MsrFilter::make(*request);
  if (!filter) return reported(filter.error());
  const std::lock_guard lock(vm.mutex);
  if (const int result = set_real_filter(fd, *request); result < 0) return result;
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): it is only read
  vm.sim->ioctl(KVM_X86_SET_MSR_FILTER, const_cast<kvm_msr_filter*>(request));
  vm.vmm_filter = std::make_shared<const MsrFilter>(std::move(*filter));
  return 0;
}

int enable_filter_exits(int fd, const kvm_enable_cap* vmm) {
  kvm_enable_cap cap{};
  if (vmm != nullptr) cap = *vmm;
  cap.cap = KVM_CAP_X86_USER_SPACE_MSR;
  cap.args[0] |= KVM_MSR_EXIT_REASON_FILTER;
  return real_ioctl(fd, KVM_ENABLE_CAP, &cap);
}

// ---- ioctls of the system and the VM ------------------------------------------------------------

bool is_pmu_capability(uintptr_t capability) {
  return capability == KVM_CAP_PMU_CAPABILITY || capability == KVM_CAP_DISABLE_QUIRKS2;
}

std::vector<uint32_t> simulated_msr_list() {
  std::vector<uint32_t> buffer(1 + 4096);
  buffer[0] = 4096;
  if (simulation().kvm->ioctl(VMM_KVM_GET_MSR_INDEX_LIST, buffer.data()) < 0) return {};
  return {buffer.begin() + 1, buffer.begin() + 1 + buffer[0]};
}

/// The real list, its PMU registers replaced by those of the simulation.
int get_msr_index_list(int fd, uint32_t* request) {
  if (request == nullptr) return reported(-EFAULT);
  std::vector<uint32_t> real(1 + 4096);
  real[0] = 4096;
  if (const int result = real_ioctl(fd, VMM_KVM_GET_MSR_INDEX_LIST, real.data()); result < 0)
    return result;
  std::vector<uint32_t> list;
  const auto is_pmu = [](uint32_t msr) { return host_stub::pmu_msr(msr).has_value(); };
  std::remove_copy_if(real.begin() + 1, real.begin() + 1 + real[0], std::back_inserter(list),
                      is_pmu);
  std::ranges::copy_if(simulated_msr_list(), std::back_inserter(list), is_pmu);
  const uint32_t room = request[0];
  request[0] = static_cast<uint32_t>(list.size());
  if (room < request[0]) return reported(-E2BIG);
  std::ranges::copy(list, request + 1);
  return 0;
}

void set_vendor(kvm_cpuid_entry2& entry) {
  for (const host_stub::CpuidLeaf& leaf : host_stub::supported_cpuid(simulation().profile)) {
    if (leaf.function != 0) continue;
    entry.ebx = leaf.ebx;
    entry.ecx = leaf.ecx;
    entry.edx = leaf.edx;
  }
}

int get_supported_cpuid(int fd, vmm_kvm_cpuid2_header* request) {
  const int result = real_ioctl(fd, VMM_KVM_GET_SUPPORTED_CPUID, request);
  if (result < 0) return result;
  constexpr uint32_t kCore = 1u << 23;
  const host_stub::Profile& profile = simulation().profile;
  for (kvm_cpuid_entry2& entry :
       std::span(reinterpret_cast<kvm_cpuid_entry2*>(request + 1), request->nent)) {
    if (entry.function == 0) set_vendor(entry);
    if (entry.function == 0x80000001)
      entry.ecx = profile.offers_core() ? entry.ecx | kCore : entry.ecx & ~kCore;
  }
  return result;
}

int create_vm(int fd, void* type) {
  const int vm_fd = real_ioctl(fd, KVM_CREATE_VM, type);
  if (vm_fd < 0) return vm_fd;
  auto* vm = new ShimVm;
  auto sim = simulation().kvm->create_vm();
  if (!sim) die("no simulated VM", "");
  vm->sim = std::move(*sim);
  vcpus.put(vm_fd, nullptr);
  vms.put(vm_fd, vm);
  if (enable_filter_exits(vm_fd, nullptr) < 0 || set_real_filter(vm_fd, {}) < 0)
    die("this KVM has no MSR filter with exits: ", std::strerror(errno));
  return vm_fd;
}

int create_vcpu(int fd, ShimVm& vm, void* id) {
  auto sim = vm.sim->create_vcpu(static_cast<uint32_t>(reinterpret_cast<uintptr_t>(id)));
  if (!sim) return reported(sim.error());
  const int vcpu_fd = real_ioctl(fd, KVM_CREATE_VCPU, id);
  if (vcpu_fd < 0) return vcpu_fd;
  void* run = mmap(nullptr, sizeof(kvm_run), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
  if (run == MAP_FAILED) die("mmap of kvm_run: ", std::strerror(errno));
  vms.put(vcpu_fd, nullptr);
  vcpus.put(vcpu_fd, new ShimVcpu{&vm, std::move(*sim), static_cast<kvm_run*>(run)});
  return vcpu_fd;
}

int enable_cap(int fd, ShimVm& vm, kvm_enable_cap* request) {
  if (request == nullptr) return reported(-EFAULT);
  if (is_pmu_capability(request->cap)) return reported(vm.sim->ioctl(KVM_ENABLE_CAP, request));
  if (request->cap == KVM_CAP_SPLIT_IRQCHIP) vm.sim->ioctl(KVM_ENABLE_CAP, request);
  if (request->cap != KVM_CAP_X86_USER_SPACE_MSR) return real_ioctl(fd, KVM_ENABLE_CAP, request);
  const int result = enable_filter_exits(fd, request);
  if (result == 0) vm.vmm_wants_filter_exits = (request->args[0] & KVM_MSR_EXIT_REASON_FILTER) != 0;
  return result;
}

// ---- ioctls of a vCPU ---------------------------------------------------------------------------

/// KVM_GET_MSRS and KVM_SET_MSRS: runs of PMU registers to the simulation, the others to the real
/// KVM, in order. As in KVM the first entry that is refused ends it, and its position is the
/// result.
int msrs(int fd, ShimVcpu& vcpu, uint32_t request, vmm_kvm_msrs_header* header) {
  if (header == nullptr || header->nmsrs > VMM_KVM_MAX_MSRS) return real_ioctl(fd, request, header);
  struct Batch {
    vmm_kvm_msrs_header header;
    kvm_msr_entry entries[VMM_KVM_MAX_MSRS];
  } batch;
  const std::span all(reinterpret_cast<kvm_msr_entry*>(header + 1), header->nmsrs);
  const auto is_pmu = [](const kvm_msr_entry& entry) {
    return host_stub::pmu_msr(entry.index).has_value();
  };
  size_t done = 0;
  while (done < all.size()) {
    const bool pmu = is_pmu(all[done]);
    const auto rest = all.subspan(done);
    const auto end = std::ranges::find_if(
        rest, [&](const kvm_msr_entry& entry) { return is_pmu(entry) != pmu; });
    const auto part = rest.first(static_cast<size_t>(end - rest.begin()));
    batch.header = {static_cast<uint32_t>(part.size()), 0};
    std::ranges::copy(part, batch.entries);
    const int taken =
        pmu ? reported(vcpu.sim->ioctl(request, &batch)) : real_ioctl(fd, request, &batch);
    if (taken < 0) return done == 0 ? taken : static_cast<int>(done);
    std::ranges::copy(std::span(batch.entries).first(static_cast<size_t>(taken)), part.begin());
    done += static_cast<size_t>(taken);
    if (static_cast<size_t>(taken) < part.size()) break;
  }
  return static_cast<int>(done);
}

/// An exit for a PMU register: answered from the simulation. False: it is the VMM's to answer.
bool answer_msr_exit(ShimVcpu& vcpu) {
  kvm_run& run = *vcpu.run;
  const bool read = run.exit_reason == KVM_EXIT_X86_RDMSR;
  if (!read && run.exit_reason != KVM_EXIT_X86_WRMSR) return false;
  if (run.msr.reason != KVM_MSR_EXIT_REASON_FILTER || !host_stub::pmu_msr(run.msr.index))
    return false;
  if (vcpu.vm->vmm_wants_filter_exits) {
    std::unique_lock lock(vcpu.vm->mutex);
    const auto filter = vcpu.vm->vmm_filter;
    lock.unlock();
    if (!(read ? filter->allows_read(run.msr.index) : filter->allows_write(run.msr.index)))
      return false;
  }
  if (read) {
    const auto value = vcpu.sim->guest_rdmsr(run.msr.index);
    run.msr.data = value.value_or(0);
    run.msr.error = value ? 0 : 1;
  } else {
    run.msr.error = vcpu.sim->guest_wrmsr(run.msr.index, run.msr.data) ? 0 : 1;
  }
  return true;
}

int run_vcpu(int fd, ShimVcpu& vcpu) {
  vcpu.sim->guest_run(0);
  int result = 0;
  do {
    result = real_ioctl(fd, KVM_RUN, nullptr);
  } while (result == 0 && answer_msr_exit(vcpu));
  return result;
}

// ---- who answers what ---------------------------------------------------------------------------

int vcpu_ioctl(int fd, ShimVcpu& vcpu, uint32_t request, void* arg) {
  switch (request) {
    case KVM_RUN:
      return run_vcpu(fd, vcpu);
    case VMM_KVM_GET_MSRS:
    case VMM_KVM_SET_MSRS:
      return msrs(fd, vcpu, request, static_cast<vmm_kvm_msrs_header*>(arg));
    case VMM_KVM_SET_CPUID2: {
      const int result = real_ioctl(fd, request, arg);
      return result == 0 ? reported(vcpu.sim->ioctl(request, arg)) : result;
    }
    default:
      return real_ioctl(fd, request, arg);
  }
}

int vm_ioctl(int fd, ShimVm& vm, uint32_t request, void* arg) {
  switch (request) {
    case KVM_CREATE_VCPU:
      return create_vcpu(fd, vm, arg);
    case KVM_CREATE_IRQCHIP:
      vm.sim->ioctl(request, arg);
      return real_ioctl(fd, request, arg);
    case KVM_CHECK_EXTENSION:
      return is_pmu_capability(reinterpret_cast<uintptr_t>(arg))
                 ? reported(vm.sim->ioctl(request, arg))
                 : real_ioctl(fd, request, arg);
    case KVM_ENABLE_CAP:
      return enable_cap(fd, vm, static_cast<kvm_enable_cap*>(arg));
    case KVM_X86_SET_MSR_FILTER:
      return set_msr_filter(fd, vm, static_cast<const kvm_msr_filter*>(arg));
    default:
      return real_ioctl(fd, request, arg);
  }
}

int system_ioctl(int fd, uint32_t request, void* arg) {
  switch (request) {
    case KVM_CREATE_VM:
      return create_vm(fd, arg);
    case KVM_CHECK_EXTENSION:
      return is_pmu_capability(reinterpret_cast<uintptr_t>(arg))
                 ? reported(simulation().kvm->ioctl(request, arg))
                 : real_ioctl(fd, request, arg);
    case VMM_KVM_GET_MSR_INDEX_LIST:
      return get_msr_index_list(fd, static_cast<uint32_t*>(arg));
    case VMM_KVM_GET_SUPPORTED_CPUID:
      return get_supported_cpuid(fd, static_cast<vmm_kvm_cpuid2_header*>(arg));
    default:
      return real_ioctl(fd, request, arg);
  }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int ioctl(int fd, unsigned long request,
                                                            ...) noexcept {
  va_list list;
  va_start(list, request);
  void* const arg = va_arg(list, void*);
  va_end(list);
  const auto number = static_cast<uint32_t>(request);
  if (_IOC_TYPE(number) != KVMIO) return real_ioctl(fd, number, arg);
  if (ShimVcpu* vcpu = vcpus.get(fd)) return vcpu_ioctl(fd, *vcpu, number, arg);
  if (ShimVm* vm = vms.get(fd)) return vm_ioctl(fd, *vm, number, arg);
  return system_ioctl(fd, number, arg);
}
