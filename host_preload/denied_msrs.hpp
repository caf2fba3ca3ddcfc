// SPDX-License-Identifier: MIT
//
// MSRs that plugins deny to the guest: how they get into the VMM's MSR filters, and the answers to
// the guest's accesses. KVM exits for these (KVM_CAP_X86_USER_SPACE_MSR, turned on with the
// filter), and the VMM, which knows nothing of them, does not see the exits.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <tl/expected.hpp>

#include "host_preload/preload_log.hpp"
#include "host_preload/vm.hpp"

namespace host_preload {

/// The VMM's filter with what is denied in front. Error: -ENOSPC, and a line was logged.
tl::expected<kvm_msr_filter, int32_t> filter_with_denied(int vm_number,
                                                         const kvm_msr_filter& vmm_filter,
                                                         const DenyList& denied,
                                                         PreloadLog& log) noexcept;

/// The exit that KVM_RUN returned for: if it is for a filtered MSR and not the VMM's to see, it is
/// answered. True: the guest is to go on.
///
///   denied by a plugin            host_kit::answer_denied_msr
///   filtered by the VMM alone      #GP, as KVM does where the VMM asked for no exits; else the
///   VMM's
bool answer_msr_exit(Vcpu& vcpu, kvm_run& run, PreloadLog& log) noexcept;

}  // namespace host_preload
