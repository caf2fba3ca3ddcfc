// SPDX-License-Identifier: MIT
//
// Fix 2, the reset: a vCPU's PMU registers go back to what the hardware has after RESET, so that no
// perf event of the old guest stays alive in KVM.
#pragma once

#include <vmm/plugin.h>

#include <cstdint>

#include "vm.hpp"

namespace svm_pmu {

/// Resets the PMU registers of one vCPU: into the host's batch if it lends one, else by one
/// KVM_SET_MSRS of its own. With verify=on always by its own, since only what was written can be
/// read back.
///
/// A register that KVM refuses (a short count) is looked at: one that KVM does not have is left out
/// from then on and said once per VM; one that is there and keeps another value fails the reset,
/// after all others were written.
///
/// 0; -EINVAL (no such vCPU); -EIO (a register kept its value); what the ioctl failed with. Each
/// failure is logged with vCPU, ioctl, register and errno. S2.
int32_t reset_vcpu(Vm& vm, const vmm_vcpu& vcpu) noexcept;

}  // namespace svm_pmu
