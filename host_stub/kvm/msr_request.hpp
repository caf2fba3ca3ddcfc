// SPDX-License-Identifier: MIT
//
// The MSR request behind the arg of KVM_GET_MSRS and KVM_SET_MSRS, seen without <linux/kvm.h>'s own
// struct (see vmm/kvm_uapi.h). Answers: which entries are in it; and makes one.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "vmm/kvm_uapi.h"

namespace host_stub {

/// Whether the ioctl's arg is an MSR request.
constexpr bool is_msr_request(uint32_t request) {
  return request == VMM_KVM_GET_MSRS || request == VMM_KVM_SET_MSRS;
}

/// The entries behind `arg`; none for a null arg or a count that KVM refuses (E2BIG).
inline std::span<kvm_msr_entry> msr_entries(void* arg) {
  if (arg == nullptr) return {};
  vmm_kvm_msrs_header header;
  std::memcpy(&header, arg, sizeof header);
  if (header.nmsrs > VMM_KVM_MAX_MSRS) return {};
  auto* first = static_cast<std::byte*>(arg) + sizeof header;
  return {reinterpret_cast<kvm_msr_entry*>(first), header.nmsrs};
}

/// A request of its own memory.
class MsrRequest {
 public:
  void add(const kvm_msr_entry& entry) {
    if (words_.empty()) words_.resize(sizeof(vmm_kvm_msrs_header) / sizeof(uint64_t));
    uint64_t words[sizeof entry / sizeof(uint64_t)];
    std::memcpy(words, &entry, sizeof entry);
    words_.insert(words_.end(), std::begin(words), std::end(words));
    const vmm_kvm_msrs_header header{.nmsrs = ++size_, .pad = 0};
    std::memcpy(words_.data(), &header, sizeof header);
  }
  uint32_t size() const { return size_; }
  void* arg() { return words_.data(); }
  std::span<kvm_msr_entry> entries() { return msr_entries(size_ == 0 ? nullptr : arg()); }

 private:
  std::vector<uint64_t> words_;
  uint32_t size_ = 0;
};

}  // namespace host_stub
