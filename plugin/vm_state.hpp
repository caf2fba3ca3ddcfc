// SPDX-License-Identifier: MIT
//
// What the plugin does for a VM, in a word for operators (vmm/vm_state.h).
#pragma once

#include <vmm/vm_state.h>

#include "vm.hpp"

namespace svm_pmu {

inline constexpr const char* kStateOff = "off";                 ///< vPMU off by capability
inline constexpr const char* kStateAlreadyOff = "already-off";  ///< KVM has it off for all VMs
inline constexpr const char* kStateFiltered = "filtered";       ///< hidden by a filter
inline constexpr const char* kStateReset = "reset";             ///< on, reset with the vCPU
inline constexpr const char* kStateNotAmd = "not-amd";          ///< another vendor's: no bug
inline constexpr const char* kStateUntouched = "untouched";     ///< on, pmu-reset=off: nothing

/// One of the words above. S2.
const char* state_of(const Vm& vm) noexcept;

/// The plugin's table for VMM_VM_STATE_ID.
extern const vmm_vm_state kVmStateExtension;

}  // namespace svm_pmu
