// SPDX-License-Identifier: MIT
//
// Fix 2, the state: the PMU registers that a host saves and restores with a vCPU.
#pragma once

#include <vmm/plugin.h>

#include "error.hpp"
#include "vm.hpp"

namespace svm_pmu {

/// Adds the VM's PMU registers to the host's list, in an order that is safe to restore in:
///   - GLOBAL_CTL = 0, selectors = 0, counters = 0, GLOBAL_STATUS = 0: nothing runs, nothing is
///   left
///   - saved counters, saved selectors, saved GLOBAL_STATUS
///   - GLOBAL_CTL = as after RESET, saved GLOBAL_CTL: last, since it starts the counters
/// The constant writes are what a register gets if the saved state lacks it. GLOBAL_STATUS_CLR and
/// _SET are write-only and not state. With strict=on saved registers are VMM_MSR_REQUIRED.
/// A VM whose vPMU this plugin disabled by capability has no such state and adds nothing.
/// Error: the sink's, or -EINVAL for a sink that is no sink. S1.
Expected<void> build_msr_list(const Vm& vm, const vmm_msr_sink* sink) noexcept;

}  // namespace svm_pmu
