// SPDX-License-Identifier: MIT
//
// Fix 1: a VM without vPMU. One decision per VM, between KVM_CREATE_VM and the first vCPU.
#pragma once

#include <vmm/plugin.h>

#include "error.hpp"
#include "host.hpp"
#include "options.hpp"
#include "vm.hpp"

namespace svm_pmu {

/// Does what pmu-cap-disabled and pmu-off-method ask for, and logs the outcome in one line.
///
/// The method, by what KVM answers and never by its version:
///  1. KVM_PMU_CAP_DISABLE is offered: KVM_ENABLE_CAP. A refusal then is an error.
///  2. It is not, but KVM_CAP_DISABLE_QUIRKS2 is: the kernel knows the capability (both are of
///     Linux 5.18, in this order) and offers nothing, as it does with kvm.enable_pmu=N. Nothing to
///     do.
///  3. Neither: the kernel is too old. The host's deny_msrs if it has one, else
///     KVM_X86_SET_MSR_FILTER (Linux 5.10) over all PMU registers. RDPMC is not covered by a
///     filter.
/// At most 2 ioctls in the first case, 4 in the others.
///
/// Error: an ioctl failed that must not, or nothing applies and strict=on (-EOPNOTSUPP). S1.
Expected<Vpmu> apply_pmu_off(const Host& host, const Options& options, vmm_vm_handle vm) noexcept;

}  // namespace svm_pmu
