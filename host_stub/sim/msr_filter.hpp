// SPDX-License-Identifier: MIT
//
// May the guest access this MSR? KVM_X86_SET_MSR_FILTER: what the ioctl takes, and what a filter
// then says. KVM: Documentation/virt/kvm/api.rst 4.97, kvm_msr_allowed().
#pragma once

#include <cstdint>
#include <tl/expected.hpp>
#include <vector>

#include "vmm/kvm_uapi.h"

namespace host_stub {

class MsrFilter {
 public:
  /// No filter: everything is allowed.
  MsrFilter() = default;

  /// Copies what the ioctl points to. Error: -EINVAL.
  static tl::expected<MsrFilter, int32_t> make(const kvm_msr_filter& request);

  bool allows_read(uint32_t msr) const { return allows(msr, KVM_MSR_FILTER_READ); }
  bool allows_write(uint32_t msr) const { return allows(msr, KVM_MSR_FILTER_WRITE); }

 private:
  struct Range {
    uint32_t flags;
    uint32_t base;
    uint32_t count;
    std::vector<uint8_t> bitmap;
  };

  bool allows(uint32_t msr, uint32_t type) const;

  bool default_allow_ = true;
  std::vector<Range> ranges_;
};

}  // namespace host_stub
