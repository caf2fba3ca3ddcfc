// SPDX-License-Identifier: MIT
//
// MSRs of a vCPU by way of KVM: batches of any length in as few ioctls as KVM allows (255 entries a
// call), short counts handled. KVM_SET_MSRS and KVM_GET_MSRS stop at the first MSR that they refuse
// and return its position: that entry is skipped and named, the rest follows. EINTR is
// retried.
#pragma once

#include <vmm/plugin.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "host_kit/host.hpp"

namespace host_kit {

/// An ioctl on MSRs that failed as a whole; what came before it was done.
struct MsrIoError {
  int32_t code = 0;  ///< negated errno
  std::string text;  ///< "KVM_SET_MSRS of 15 MSRs from c0000301 on: Bad file descriptor"
};

/// Writes entries in order. Result: the entries that KVM refused.
tl::expected<std::vector<vmm_msr>, MsrIoError> write_msrs(Host& host, vmm_vcpu_handle vcpu,
                                                          std::span<const vmm_msr> entries);

/// Reads `value` of each entry. Result: the entries that KVM could read, in order.
tl::expected<std::vector<vmm_msr>, MsrIoError> read_msrs(Host& host, vmm_vcpu_handle vcpu,
                                                         std::span<const uint32_t> indexes);

/// A host's open KVM_SET_MSRS batch for one vCPU: its own entries and those that plugins add.
class MsrBatch {
 public:
  explicit MsrBatch(std::size_t capacity);
  MsrBatch(const MsrBatch&) = delete;
  MsrBatch& operator=(const MsrBatch&) = delete;

  /// What a plugin gets. Adds without allocating; -ENOSPC when full.
  const vmm_msr_sink* sink() const noexcept { return &sink_; }

  bool add(const vmm_msr& entry) noexcept;
  std::span<const vmm_msr> entries() const noexcept { return entries_; }

  /// Takes back what was added after the first `count` entries.
  void truncate(std::size_t count) noexcept;

  /// Writes all entries and empties the batch. Result: the entries that KVM refused.
  tl::expected<std::vector<vmm_msr>, MsrIoError> flush(Host& host, vmm_vcpu_handle vcpu);

 private:
  static int32_t sink_add(void* self, const vmm_msr* msrs, uint32_t count) noexcept;

  std::vector<vmm_msr> entries_;  // capacity reserved once
  std::size_t capacity_;
  vmm_msr_sink sink_{};
};

}  // namespace host_kit
