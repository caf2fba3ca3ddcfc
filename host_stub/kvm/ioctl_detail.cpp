// SPDX-License-Identifier: MIT
#include "kvm/ioctl_detail.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "kvm/ioctl_names.hpp"
#include "kvm/msr_request.hpp"
#include "vmm/kvm_uapi.h"

namespace host_stub {
namespace {

// A line of a transcript stays readable up to about here.
constexpr size_t kMaxListed = 32;

template <class T>
T read_as(const void* arg) {
  T value;
  std::memcpy(&value, arg, sizeof value);
  return value;
}

std::string describe_msrs(void* arg) {
  const auto count = read_as<vmm_kvm_msrs_header>(arg).nmsrs;
  std::string text = fmt::format("{} MSR{}", count, count == 1 ? "" : "s");
  const auto entries = msr_entries(arg);
  if (entries.empty()) return text;
  text += ":";
  for (const kvm_msr_entry& entry : entries.first(std::min(entries.size(), kMaxListed))) {
    text += fmt::format(" {:08x}={:x}", entry.index, uint64_t{entry.data});
  }
  if (entries.size() > kMaxListed) text += fmt::format(" (+{})", entries.size() - kMaxListed);
  return text;
}

std::string describe_enable_cap(void* arg) {
  const auto cap = read_as<kvm_enable_cap>(arg);
  std::string text = fmt::format("{} args[0]={:x}", cap_name(cap.cap), uint64_t{cap.args[0]});
  if (cap.flags != 0) text += fmt::format(" flags={:x}", cap.flags);
  return text;
}

std::string describe_range(const kvm_msr_filter_range& range) {
  uint32_t denied = 0;  // a bit of 0 denies
  for (uint32_t i = 0; range.bitmap != nullptr && i < range.nmsrs; ++i) {
    if ((range.bitmap[i / 8] >> (i % 8) & 1) == 0) ++denied;
  }
  return fmt::format(", {:08x}+{:x} {}{} denies {}", range.base, range.nmsrs,
                     (range.flags & KVM_MSR_FILTER_READ) != 0 ? "r" : "",
                     (range.flags & KVM_MSR_FILTER_WRITE) != 0 ? "w" : "", denied);
}

std::string describe_msr_filter(void* arg) {
  const auto filter = read_as<kvm_msr_filter>(arg);
  const bool deny = (filter.flags & KVM_MSR_FILTER_DEFAULT_DENY) != 0;
  std::string text = deny ? "default deny" : "default allow";
  for (const kvm_msr_filter_range& range : filter.ranges) {
    if (range.nmsrs != 0 && range.nmsrs <= KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8) {
      text += describe_range(range);
    }
  }
  return text;
}

std::string describe_cpuid(void* arg) {
  return fmt::format("{} entries", read_as<vmm_kvm_cpuid2_header>(arg).nent);
}

std::string describe_index_list(void* arg) {
  return fmt::format("{} MSRs", read_as<vmm_kvm_msr_list_header>(arg).nmsrs);
}

std::string describe_regs(void* arg) {
  const auto regs = read_as<kvm_regs>(arg);
  return fmt::format("rip={:x} rflags={:x}", uint64_t{regs.rip}, uint64_t{regs.rflags});
}

std::string describe_sregs(void* arg) {
  const auto sregs = read_as<kvm_sregs>(arg);
  return fmt::format("cs={:x} base={:x} cr0={:x} efer={:x}", uint16_t{sregs.cs.selector},
                     uint64_t{sregs.cs.base}, uint64_t{sregs.cr0}, uint64_t{sregs.efer});
}

std::string describe_mp_state(void* arg) {
  return fmt::format("mp_state={}", read_as<kvm_mp_state>(arg).mp_state);
}

// What is the arg itself, not behind it.
std::string describe_cap_number(void* arg) {
  return cap_name(static_cast<uint32_t>(reinterpret_cast<uintptr_t>(arg)));
}

std::string describe_vcpu_id(void* arg) {
  return fmt::format("id={}", reinterpret_cast<uintptr_t>(arg));
}

struct Description {
  uint32_t request;
  bool points;  // arg is a pointer
  std::string (*describe)(void* arg);
};

constexpr Description kDescriptions[] = {
    {KVM_CHECK_EXTENSION, false, describe_cap_number},
    {KVM_CREATE_VCPU, false, describe_vcpu_id},
    {VMM_KVM_GET_MSR_INDEX_LIST, true, describe_index_list},
    {VMM_KVM_GET_SUPPORTED_CPUID, true, describe_cpuid},
    {KVM_ENABLE_CAP, true, describe_enable_cap},
    {KVM_X86_SET_MSR_FILTER, true, describe_msr_filter},
    {VMM_KVM_GET_MSRS, true, describe_msrs},
    {VMM_KVM_SET_MSRS, true, describe_msrs},
    {VMM_KVM_GET_CPUID2, true, describe_cpuid},
    {VMM_KVM_SET_CPUID2, true, describe_cpuid},
    {KVM_GET_REGS, true, describe_regs},
    {KVM_SET_REGS, true, describe_regs},
    {KVM_GET_SREGS, true, describe_sregs},
    {KVM_SET_SREGS, true, describe_sregs},
    {KVM_GET_MP_STATE, true, describe_mp_state},
    {KVM_SET_MP_STATE, true, describe_mp_state},
};

}  // namespace

std::string ioctl_detail(uint32_t request, void* arg) {
  const auto found = std::ranges::find(kDescriptions, request, &Description::request);
  if (found == std::end(kDescriptions) || (found->points && arg == nullptr)) return {};
  return found->describe(arg);
}

}  // namespace host_stub
