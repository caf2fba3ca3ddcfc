// SPDX-License-Identifier: MIT
//
// MSRs that plugins deny to the guest: how they get into the VMM's MSR filters, and the answer to
// the exits that the VMM asked for and does not know.
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

/// An exit for an MSR that a plugin denies is answered with #GP; the VMM, which may know no such
/// exit, does not see it. True: the guest is to go on.
bool answer_denied_msr_exit(Vcpu& vcpu, kvm_run& run, PreloadLog& log) noexcept;

}  // namespace host_preload
