// SPDX-License-Identifier: MIT
#include "sim/sim_vcpu.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "sim/sim_vm.hpp"

namespace host_stub {
namespace {

constexpr uint32_t kMaxCpuidEntries = 256;  // KVM_MAX_CPUID_ENTRIES

/// State that KVM keeps and nothing here looks into: what was set is what is got.
struct StoredState {
  uint32_t get, set;
};
constexpr std::array kStored{
    StoredState{KVM_GET_REGS, KVM_SET_REGS},
    StoredState{KVM_GET_SREGS, KVM_SET_SREGS},
    StoredState{KVM_GET_FPU, KVM_SET_FPU},
    StoredState{KVM_GET_XSAVE, KVM_SET_XSAVE},
    StoredState{KVM_GET_XCRS, KVM_SET_XCRS},
    StoredState{KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS},
    StoredState{KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS},
    StoredState{KVM_GET_MP_STATE, KVM_SET_MP_STATE},
};

template <typename T>
std::vector<uint8_t> bytes_of(const T& value) {
  const auto* first = reinterpret_cast<const uint8_t*>(&value);
  return {first, first + sizeof value};
}

/// The architectural state after RESET, as KVM makes a vCPU (AMD APM vol. 2, table 14-1).
kvm_regs reset_regs() {
  kvm_regs regs{};
  regs.rip = 0xfff0;
  regs.rflags = 2;
  regs.rdx = 0x600;
  return regs;
}

kvm_sregs reset_sregs(bool boot_cpu) {
  kvm_sregs sregs{};
  const kvm_segment data{.base = 0,
                         .limit = 0xffff,
                         .selector = 0,
                         .type = 3,
                         .present = 1,
                         .dpl = 0,
                         .db = 0,
                         .s = 1,
                         .l = 0,
                         .g = 0,
                         .avl = 0,
                         .unusable = 0,
                         .padding = 0};
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.cs = data;
  sregs.cs.base = 0xffff0000;
  sregs.cs.selector = 0xf000;
  sregs.cs.type = 0xb;
  sregs.gdt.limit = sregs.idt.limit = 0xffff;
  sregs.cr0 = 0x60000010;
  sregs.apic_base = boot_cpu ? 0xfee00900 : 0xfee00800;
  return sregs;
}

GuestPmuCpuid guest_pmu_cpuid(const std::vector<kvm_cpuid_entry2>& cpuid) {
  GuestPmuCpuid pmu;
  const auto leaf = [&](uint32_t function) {
    const auto found = std::ranges::find(cpuid, function, &kvm_cpuid_entry2::function);
    return found == cpuid.end() ? nullptr : &*found;
  };
  if (const auto* features = leaf(0x80000001)) pmu.core = (features->ecx >> 23 & 1) != 0;
  if (const auto* perfmon = leaf(0x80000022)) {
    pmu.perfmonv2 = (perfmon->eax & 1) != 0;
    pmu.counters = perfmon->ebx & 0xf;
  }
  return pmu;
}

bool is_extended(uint32_t msr) {
  const auto pmu_register = pmu_msr(msr);
  return pmu_register && pmu_register->bank == PmuBank::extended;
}

bool same_cpuid(const std::vector<kvm_cpuid_entry2>& a, const std::vector<kvm_cpuid_entry2>& b) {
  return std::ranges::equal(a, b, [](const kvm_cpuid_entry2& x, const kvm_cpuid_entry2& y) {
    return x.function == y.function && x.index == y.index && x.flags == y.flags && x.eax == y.eax &&
           x.ebx == y.ebx && x.ecx == y.ecx && x.edx == y.edx;
  });
}

}  // namespace

SimVcpu::SimVcpu(const SimHost& host, const SimVm& vm, uint32_t id, Setup setup)
    : host_(host), vm_(vm), pmu_(host.profile, setup.vpmu_on, setup.mediated) {
  if (setup.irqchip) lapic_.emplace(id);
  for (const StoredState& state : kStored) stored_[state.get].resize(_IOC_SIZE(state.get));
  stored_[KVM_GET_REGS] = bytes_of(reset_regs());
  stored_[KVM_GET_SREGS] = bytes_of(reset_sregs(id == 0));
  // with the APIC in the kernel an AP waits for INIT there, else the VMM holds it back
  const bool waits = setup.irqchip && id != 0;
  stored_[KVM_GET_MP_STATE] =
      bytes_of(kvm_mp_state{waits ? uint32_t{KVM_MP_STATE_UNINITIALIZED} : KVM_MP_STATE_RUNNABLE});
}

int32_t SimVcpu::ioctl(uint32_t request, void* arg) {
  if (arg == nullptr) return -EFAULT;
  switch (request) {
    case VMM_KVM_GET_MSRS:
      return get_msrs(arg);
    case VMM_KVM_SET_MSRS:
      return set_msrs(arg);
    case VMM_KVM_SET_CPUID2:
      return set_cpuid2(arg);
    case VMM_KVM_GET_CPUID2:
      return get_cpuid2(arg);
    case KVM_GET_LAPIC:
    case KVM_SET_LAPIC:
      return lapic_ioctl(request, arg);
#ifdef KVM_SET_SREGS2
    case KVM_GET_SREGS2:
    case KVM_SET_SREGS2:
      return sregs2_ioctl(request, arg);
#endif
    default:
      return stored_ioctl(request, arg);
  }
}

/// Is an MSR that this vCPU has not read as 0? To the host where KVM lists it; to everybody with
/// ignore_msrs=1.
bool SimVcpu::reads_zero(uint32_t msr, MsrVerdict verdict, Access access) const {
  if (verdict != MsrVerdict::unknown) return false;
  if (host_.profile.ignore_msrs) return true;
  const Kernel& kernel = *host_.profile.kernel;
  const bool host = access == Access::host;
  if (is_extended(msr) && kernel.extended_reads_zero != ReadsZero::nobody)
    return host || kernel.extended_reads_zero == ReadsZero::everybody;
  return host && kernel.zero_waiver && host_.lists(msr);
}

/// Is a write to an MSR that this vCPU has not taken, and dropped? A 0 of the host's where KVM
/// lists it; everything with ignore_msrs=1.
bool SimVcpu::takes(uint32_t msr, uint64_t value, MsrVerdict verdict, Access access) const {
  if (verdict != MsrVerdict::unknown) return false;
  if (host_.profile.ignore_msrs) return true;
  if (access != Access::host || value != 0) return false;
  const Kernel& kernel = *host_.profile.kernel;
  return (kernel.zero_waiver && host_.lists(msr)) ||
         (kernel.extended_takes_zero && is_extended(msr));
}

MsrRead SimVcpu::read_msr(uint32_t msr, Access access) const {
  MsrRead answer;
  if (const auto pmu_register = pmu_msr(msr)) {
    answer = pmu_.read(*pmu_register);
  } else if (host_.lists(msr)) {
    const auto found = other_msrs_.find(msr);
    answer = {MsrVerdict::done, found == other_msrs_.end() ? 0 : found->second};
  }
  if (reads_zero(msr, answer.verdict, access)) answer = {MsrVerdict::done, 0};
  return answer;
}

MsrVerdict SimVcpu::write_msr(uint32_t msr, uint64_t value, Access access) {
  MsrVerdict verdict = MsrVerdict::unknown;
  if (const auto pmu_register = pmu_msr(msr)) {
    verdict = pmu_.write(*pmu_register, value, access);
  } else if (host_.lists(msr)) {
    other_msrs_[msr] = value;
    verdict = MsrVerdict::done;
  }
  return takes(msr, value, verdict, access) ? MsrVerdict::done : verdict;
}

int32_t SimVcpu::get_msrs(void* arg) const {
  auto* header = static_cast<vmm_kvm_msrs_header*>(arg);
  if (header->nmsrs > VMM_KVM_MAX_MSRS) return -E2BIG;
  auto* entries = reinterpret_cast<kvm_msr_entry*>(header + 1);
  for (uint32_t i = 0; i < header->nmsrs; ++i) {
    const MsrRead answer = read_msr(entries[i].index, Access::host);
    if (answer.verdict != MsrVerdict::done) return static_cast<int32_t>(i);
    entries[i].data = answer.value;
  }
  return static_cast<int32_t>(header->nmsrs);
}

int32_t SimVcpu::set_msrs(void* arg) {
  auto* header = static_cast<vmm_kvm_msrs_header*>(arg);
  if (header->nmsrs > VMM_KVM_MAX_MSRS) return -E2BIG;
  const auto* entries = reinterpret_cast<const kvm_msr_entry*>(header + 1);
  for (uint32_t i = 0; i < header->nmsrs; ++i) {
    if (write_msr(entries[i].index, entries[i].data, Access::host) != MsrVerdict::done)
      return static_cast<int32_t>(i);
  }
  return static_cast<int32_t>(header->nmsrs);
}

int32_t SimVcpu::set_cpuid2(const void* arg) {
  const auto* header = static_cast<const vmm_kvm_cpuid2_header*>(arg);
  if (header->nent > kMaxCpuidEntries) return -E2BIG;
  const auto* entries = reinterpret_cast<const kvm_cpuid_entry2*>(header + 1);
  std::vector<kvm_cpuid_entry2> fresh(entries, entries + header->nent);
  if (has_run_ && host_.profile.kernel->cpuid_frozen_after_run)
    return same_cpuid(fresh, cpuid_) ? 0 : -EINVAL;
  cpuid_ = std::move(fresh);
  pmu_.refresh(guest_pmu_cpuid(cpuid_));
  return 0;
}

int32_t SimVcpu::get_cpuid2(void* arg) const {
  auto* header = static_cast<vmm_kvm_cpuid2_header*>(arg);
  if (header->nent < cpuid_.size()) return -E2BIG;
  header->nent = static_cast<uint32_t>(cpuid_.size());
  std::ranges::copy(cpuid_, reinterpret_cast<kvm_cpuid_entry2*>(header + 1));
  return 0;
}

int32_t SimVcpu::lapic_ioctl(uint32_t request, void* arg) {
  if (!lapic_) return -EINVAL;
  auto* state = static_cast<kvm_lapic_state*>(arg);
  if (request == KVM_GET_LAPIC)
    *state = lapic_->get();
  else
    lapic_->set(*state);
  return 0;
}

/// KVM_GET_SREGS2 and KVM_SET_SREGS2 reach the same registers as the older pair.
int32_t SimVcpu::sregs2_ioctl(uint32_t request, void* arg) {
#ifdef KVM_SET_SREGS2
  constexpr size_t kShared = offsetof(kvm_sregs, interrupt_bitmap);
  static_assert(kShared == offsetof(kvm_sregs2, flags));
  if (!host_.profile.kernel->sregs2) return -EINVAL;
  std::vector<uint8_t>& sregs = stored_[KVM_GET_SREGS];
  if (request == KVM_SET_SREGS2) {
    std::memcpy(sregs.data(), arg, kShared);
  } else {
    *static_cast<kvm_sregs2*>(arg) = {};
    std::memcpy(arg, sregs.data(), kShared);
  }
  return 0;
#else
  (void)request, (void)arg;
  return -EINVAL;
#endif
}

int32_t SimVcpu::stored_ioctl(uint32_t request, void* arg) {
  for (const StoredState& state : kStored) {
    std::vector<uint8_t>& bytes = stored_[state.get];
    if (request == state.get) {
      std::memcpy(arg, bytes.data(), bytes.size());
      return 0;
    }
    if (request == state.set) {
      std::memcpy(bytes.data(), arg, bytes.size());
      return 0;
    }
  }
  return -EINVAL;  // measured: on a vCPU an unknown ioctl is not ENOTTY
}

tl::expected<uint64_t, GuestFault> SimVcpu::guest_rdmsr(uint32_t msr) {
  const tl::unexpected<GuestFault> fault(GuestFault::general_protection);
  if (!vm_.msr_filter()->allows_read(msr)) return fault;
  const MsrRead answer = read_msr(msr, Access::guest);
  if (answer.verdict != MsrVerdict::done) return fault;
  return answer.value;
}

tl::expected<void, GuestFault> SimVcpu::guest_wrmsr(uint32_t msr, uint64_t value) {
  const tl::unexpected<GuestFault> fault(GuestFault::general_protection);
  if (!vm_.msr_filter()->allows_write(msr)) return fault;
  if (write_msr(msr, value, Access::guest) != MsrVerdict::done) return fault;
  return {};
}

/// No MSR filter covers RDPMC, and ignore_msrs does not either.
tl::expected<uint64_t, GuestFault> SimVcpu::guest_rdpmc(uint32_t counter) {
  const MsrRead answer = pmu_.read_counter(counter);
  if (answer.verdict != MsrVerdict::done) return tl::unexpected(GuestFault::general_protection);
  return answer.value;
}

GuestRun SimVcpu::guest_run(uint64_t cycles) {
  has_run_ = true;
  pmu_.sched_in();
  GuestRun run;
  while (run.cycles < cycles) {
    const uint64_t step = std::min(cycles - run.cycles, pmu_.cycles_to_overflow());
    run.cycles += step;
    if (!pmu_.advance(step) || !lapic_) continue;
    run.nmi = lapic_->deliver_pmi(host_.profile.kernel->lvtpc_masked_on_delivery);
    if (run.nmi) break;
  }
  return run;
}

void SimVcpu::guest_write_lvtpc(uint32_t value) {
  if (lapic_) lapic_->write_lvtpc(value);
}

}  // namespace host_stub
