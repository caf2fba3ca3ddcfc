// SPDX-License-Identifier: MIT
//
// Capabilities that both a plugin and the VMM set: KVM takes the last KVM_ENABLE_CAP as it is, so
// the VMM's would undo the plugin's. What the plugin needs is kept, in a copy of the VMM's
// argument.
//
//   KVM_CAP_PMU_CAPABILITY      KVM_PMU_CAP_DISABLE, once a plugin has set it
//   KVM_CAP_X86_USER_SPACE_MSR  exits for filtered MSRs, where plugins deny some
#pragma once

#include <linux/kvm.h>

#include <optional>

#include "host_preload/preload_log.hpp"
#include "host_preload/vm.hpp"

namespace host_preload {

/// A plugin's successful KVM_ENABLE_CAP. During vm_created only.
void note_plugins_cap(Vm& vm, const kvm_enable_cap& cap) noexcept;

/// Asks KVM to exit for filtered MSRs. False: it cannot.
bool enable_msr_exits(Vm& vm) noexcept;

/// The VMM's KVM_ENABLE_CAP with what is kept; nullopt: nothing of it has to change. Says so once a
/// VM if that takes something from the VMM.
std::optional<kvm_enable_cap> with_kept_bits(Vm& vm, const kvm_enable_cap& vmm_cap,
                                             PreloadLog& log) noexcept;

/// The VMM's successful KVM_ENABLE_CAP, as the VMM wrote it.
void note_vmms_cap(Vm& vm, const kvm_enable_cap& vmm_cap) noexcept;

}  // namespace host_preload
