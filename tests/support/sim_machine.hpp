// SPDX-License-Identifier: MIT
//
// A simulated machine for tests: one VM, its first vCPU, and short ways to ask them things. What
// goes wrong while it is put together throws std::runtime_error.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kvm/msr_request.hpp"
#include "sim/sim_kvm.hpp"
#include "sim/sim_vcpu.hpp"
#include "support/need.hpp"
#include "vmm/kvm_uapi.h"

namespace sim_test {

inline constexpr uint64_t kCycles = 0x530076;  ///< selector: EN, INT, OS, USR, event 76
inline constexpr uint64_t kFull = uint64_t{1} << 48;

struct GuestCpuid {
  bool core = false;
  bool v2 = false;
  uint32_t counters = 6;
};
inline constexpr GuestCpuid kPlain{};
inline constexpr GuestCpuid kCore{.core = true};
inline constexpr GuestCpuid kV2{.core = true, .v2 = true};

using host_stub::need;

inline std::unique_ptr<host_stub::Kvm> open(const std::string& spec) {
  return need(host_stub::open_sim(spec), spec);
}

inline int32_t set_cpuid(host_stub::Vcpu& vcpu, GuestCpuid guest) {
  struct {
    vmm_kvm_cpuid2_header header;
    kvm_cpuid_entry2 entries[2];
  } request{};
  request.header.nent = 2;
  request.entries[0].function = 0x80000001;
  request.entries[0].ecx = guest.core ? 1U << 23 : 0;
  request.entries[1].function = 0x80000022;
  request.entries[1].eax = guest.v2 ? 1 : 0;
  request.entries[1].ebx = guest.v2 ? guest.counters : 0;
  return vcpu.ioctl(VMM_KVM_SET_CPUID2, &request);
}

/// One KVM_GET_MSRS or KVM_SET_MSRS of any length; the entries are in and out.
inline int32_t msrs(host_stub::Vcpu& vcpu, uint32_t request, std::vector<kvm_msr_entry>& entries) {
  host_stub::MsrRequest all;
  for (const kvm_msr_entry& entry : entries) all.add(entry);
  const int32_t result = vcpu.ioctl(request, all.arg());
  std::ranges::copy(all.entries(), entries.begin());
  return result;
}

inline int32_t set(host_stub::Vcpu& vcpu, uint32_t msr, uint64_t value) {
  std::vector<kvm_msr_entry> one{{msr, 0, value}};
  return msrs(vcpu, VMM_KVM_SET_MSRS, one);
}

struct Got {
  int32_t result;
  uint64_t value;
};
inline Got get(host_stub::Vcpu& vcpu, uint32_t msr) {
  std::vector<kvm_msr_entry> one{{msr, 0, 0}};
  const int32_t result = msrs(vcpu, VMM_KVM_GET_MSRS, one);
  return {result, one[0].data};
}

inline int32_t enable_cap(host_stub::Vm& vm, uint32_t cap, uint64_t arg) {
  kvm_enable_cap request{};
  request.cap = cap;
  request.args[0] = arg;
  return vm.ioctl(KVM_ENABLE_CAP, &request);
}

inline int32_t check_extension(host_stub::Kvm& kvm, uintptr_t cap) {
  return kvm.ioctl(KVM_CHECK_EXTENSION, reinterpret_cast<void*>(cap));
}

/// Denies [base, base + count) to the guest.
inline int32_t deny(host_stub::Vm& vm, uint32_t base, uint32_t count,
                    uint32_t flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE) {
  std::vector<uint8_t> none((count + 7) / 8);
  kvm_msr_filter filter{};
  filter.ranges[0].flags = flags;
  filter.ranges[0].base = base;
  filter.ranges[0].nmsrs = count;
  filter.ranges[0].bitmap = none.data();
  return vm.ioctl(KVM_X86_SET_MSR_FILTER, &filter);
}

struct Machine {
  explicit Machine(const std::string& spec, GuestCpuid cpuid = kCore, bool irqchip = true,
                   bool cap_off = false)
      : kvm(open(spec)), vm(need(kvm->create_vm(), "KVM_CREATE_VM")) {
    if (irqchip) vm->ioctl(KVM_CREATE_IRQCHIP, nullptr);
    if (cap_off && enable_cap(*vm, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE) != 0)
      throw std::runtime_error("KVM_CAP_PMU_CAPABILITY refused");
    vcpu = need(vm->create_vcpu(0), "KVM_CREATE_VCPU");
    if (set_cpuid(*vcpu, cpuid) != 0) throw std::runtime_error("KVM_SET_CPUID2 refused");
  }

  host_stub::SimVcpu& sim() const { return *host_stub::sim_vcpu(vcpu.get()); }
  uint64_t value(uint32_t msr) const { return get(*vcpu, msr).value; }

  std::unique_ptr<host_stub::Kvm> kvm;
  std::unique_ptr<host_stub::Vm> vm;
  std::unique_ptr<host_stub::Vcpu> vcpu;
};

}  // namespace sim_test
