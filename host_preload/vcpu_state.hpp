// SPDX-License-Identifier: MIT
//
// What a vCPU ioctl of the VMM's says, in the terms of the reset detector: is this the reset
// vector, what happens to the PMU registers?
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <optional>
#include <span>

#include "host_preload/reset_detector.hpp"

namespace host_preload {

/// KVM_SET_SREGS. struct kvm_sregs2 begins with the same fields up to cr0.
VcpuEvent sregs_event(const kvm_sregs& sregs) noexcept;
VcpuEvent regs_event(const kvm_regs& regs) noexcept;

/// KVM_SET_MSRS: the entries that KVM took. nullopt = no AMD PMU register among them.
std::optional<VcpuEvent> msrs_event(std::span<const kvm_msr_entry> entries) noexcept;

/// The AMD PMU registers: those of msrs_event.
bool is_amd_pmu_msr(uint32_t index) noexcept;

}  // namespace host_preload
