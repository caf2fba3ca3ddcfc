// SPDX-License-Identifier: MIT
//
// Saving and restoring the MSRs that plugins list with msr_list_build: the host's side of
// VMM_MSR_SAVED and VMM_MSR_REQUIRED.
#pragma once

#include <vmm/plugin.h>

#include <cstdint>
#include <span>
#include <tl/expected.hpp>
#include <vector>

#include "host_kit/host.hpp"
#include "host_kit/msr_io.hpp"

namespace host_kit {

/// One register of a vCPU's saved state.
struct SavedMsr {
  uint32_t index = 0;
  uint64_t value = 0;
  bool operator==(const SavedMsr&) const = default;
};

/// What a restore could not bring back: registers of a value other than 0 that KVM refused, that
/// the list lacks, or that lost bits which do not exist here (`value` = the bits that were lost).
struct RestoreReport {
  std::vector<SavedMsr> dropped;
};

/// Reads the SAVED entries of `list`; registers that KVM does not have are left out.
tl::expected<std::vector<SavedMsr>, MsrIoError> save_msrs(Host& host, vmm_vcpu_handle vcpu,
                                                          std::span<const vmm_msr> list);

/// Writes `state` by `list`, in the list's order. Fails before the first write if a REQUIRED value
/// would lose bits, and at the end if KVM refused one. Where a mask of all ones leaves it to KVM
/// which bits exist, the register is read back, and fails or is dropped if bits are gone.
tl::expected<RestoreReport, MsrIoError> restore_msrs(Host& host, vmm_vcpu_handle vcpu,
                                                     std::span<const vmm_msr> list,
                                                     std::span<const SavedMsr> state);

}  // namespace host_kit
