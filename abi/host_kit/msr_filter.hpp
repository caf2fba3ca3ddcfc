// SPDX-License-Identifier: MIT
//
// Two wishes, one filter: KVM has one MSR filter a VM, and each KVM_X86_SET_MSR_FILTER replaces the
// one before. Merges what the plugins deny into what the VMM asked for.
//
// KVM takes the first of the 16 ranges that holds the MSR (Documentation/virt/kvm/api.rst 4.97;
// a bitmap bit of 0 denies), so denied ranges go first and the VMM's follow in their order.
// Pure, but for deny_msrs; the merged filter points to the VMM's bitmaps and to a constant one of
// ours.
#pragma once

#include <linux/kvm.h>
#include <vmm/plugin.h>

#include <cstdint>
#include <span>
#include <tl/expected.hpp>
#include <vector>

#include "host_kit/host.hpp"

namespace host_kit {

/// Ranges that the guest must not touch; kept sorted, disjoint and not adjacent.
class DenyList {
 public:
  /// 0; -EINVAL (an empty range, one past the last address, one longer than a bitmap of KVM's can
  /// be); -ENOSPC (more ranges than a filter has); then nothing is changed. May throw bad_alloc.
  int32_t add(std::span<const vmm_msr_range> ranges);

  bool empty() const noexcept { return ranges_.empty(); }
  bool denies(uint32_t msr) const noexcept;
  std::span<const vmm_msr_range> ranges() const noexcept { return ranges_; }

 private:
  std::vector<vmm_msr_range> ranges_;
};

/// The filter that does what `vmm` asks for, except that `denied` is denied. `vmm` all zero = the
/// VMM wants no filter. Error: how many ranges it would need, more than KVM_MSR_FILTER_MAX_RANGES.
tl::expected<kvm_msr_filter, uint32_t> merge_msr_filter(const kvm_msr_filter& vmm,
                                                        const DenyList& denied) noexcept;

/// Denies more MSRs to the guest of a VM whose VMM has set no filter: they join `denied`, and KVM
/// gets the filter. 0; -EOPNOTSUPP (KVM has no filters); -ENOSPC; what `denied` or KVM says; then
/// `denied` is as before. For a host's deny_msrs. May throw bad_alloc.
int32_t deny_msrs(Host& host, vmm_vm_handle vm, DenyList& denied,
                  std::span<const vmm_msr_range> ranges);

/// Answers the exit that KVM_RUN returned for if it is for a filtered MSR that is denied; true: the
/// guest is to go on. False: the exit is another's, and *run is as it was.
///
///   c0010000 to c0010007   reads 0, writes are dropped: as KVM with its vPMU off does. No AMD
///                          processor faults there, and some guests do not expect it
///   any other              #GP
bool answer_denied_msr(const DenyList& denied, kvm_run& run) noexcept;

}  // namespace host_kit
