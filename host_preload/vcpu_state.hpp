// SPDX-License-Identifier: MIT
//
// What a vCPU ioctl of the VMM's says, in the terms of the reset detector: is this the reset
// vector, what happens to the PMU registers?
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <optional>
#include <span>

#include "host_preload/kvm_call.hpp"
#include "host_preload/reset_detector.hpp"

#ifndef KVM_SET_SREGS2 /* Linux 5.14; begins as struct kvm_sregs does, and is 320 bytes long */
#define KVM_SET_SREGS2 0x4140aecd
#endif

namespace host_preload {

constexpr uint32_t kSetSregs2 = number_of(KVM_SET_SREGS2);

/// A successful vCPU ioctl. nullopt = it means nothing to the detector.
std::optional<VcpuEvent> vcpu_event(const KvmCall& call) noexcept;

/// The table in an argument of KVM_SET_CPUID2 or KVM_GET_SUPPORTED_CPUID.
std::span<kvm_cpuid_entry2> cpuid_entries(void* arg) noexcept;

/// KVM_SET_SREGS. struct kvm_sregs2 begins with the same fields up to cr0.
VcpuEvent sregs_event(const kvm_sregs& sregs) noexcept;
VcpuEvent regs_event(const kvm_regs& regs) noexcept;

/// KVM_SET_MSRS: the entries that KVM took. nullopt = no AMD PMU register among them.
std::optional<VcpuEvent> msrs_event(std::span<const kvm_msr_entry> entries) noexcept;

/// The AMD PMU registers: those of msrs_event.
bool is_amd_pmu_msr(uint32_t index) noexcept;

}  // namespace host_preload
