// SPDX-License-Identifier: MIT
#include "kvm/ioctl_names.hpp"

#include <fmt/format.h>

#include "vmm/kvm_uapi.h"

namespace host_stub {
namespace {

struct IoctlName {
  uint32_t request;
  std::string_view name;
  std::string_view word;  ///< in fault scripts
};

// Requests that are made of structs with an array at their end are taken from vmm/kvm_uapi.h, or
// written as numbers: the macros of <linux/kvm.h> may be wrong in C++ (see vmm/kvm_uapi.h).
constexpr IoctlName kIoctlNames[] = {
    {KVM_GET_API_VERSION, "KVM_GET_API_VERSION", "get_api_version"},
    {KVM_CREATE_VM, "KVM_CREATE_VM", "create_vm"},
    {KVM_CHECK_EXTENSION, "KVM_CHECK_EXTENSION", "check_extension"},
    {KVM_GET_VCPU_MMAP_SIZE, "KVM_GET_VCPU_MMAP_SIZE", "get_vcpu_mmap_size"},
    {VMM_KVM_GET_MSR_INDEX_LIST, "KVM_GET_MSR_INDEX_LIST", "get_msr_index_list"},
    {0xc004ae0a, "KVM_GET_MSR_FEATURE_INDEX_LIST", "get_msr_feature_index_list"},
    {VMM_KVM_GET_SUPPORTED_CPUID, "KVM_GET_SUPPORTED_CPUID", "get_supported_cpuid"},
    {KVM_CREATE_VCPU, "KVM_CREATE_VCPU", "create_vcpu"},
    {KVM_ENABLE_CAP, "KVM_ENABLE_CAP", "enable_cap"},
    {KVM_X86_SET_MSR_FILTER, "KVM_X86_SET_MSR_FILTER", "set_msr_filter"},
    {KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION", "set_user_memory_region"},
    {KVM_SET_TSS_ADDR, "KVM_SET_TSS_ADDR", "set_tss_addr"},
    {KVM_SET_IDENTITY_MAP_ADDR, "KVM_SET_IDENTITY_MAP_ADDR", "set_identity_map_addr"},
    {KVM_CREATE_IRQCHIP, "KVM_CREATE_IRQCHIP", "create_irqchip"},
    {KVM_CREATE_PIT2, "KVM_CREATE_PIT2", "create_pit2"},
    {0x4008ae6a, "KVM_SET_GSI_ROUTING", "set_gsi_routing"},
    {0x4020aeb2, "KVM_SET_PMU_EVENT_FILTER", "set_pmu_event_filter"},
    {KVM_RUN, "KVM_RUN", "run"},
    {KVM_GET_REGS, "KVM_GET_REGS", "get_regs"},
    {KVM_SET_REGS, "KVM_SET_REGS", "set_regs"},
    {KVM_GET_SREGS, "KVM_GET_SREGS", "get_sregs"},
    {KVM_SET_SREGS, "KVM_SET_SREGS", "set_sregs"},
    {VMM_KVM_GET_MSRS, "KVM_GET_MSRS", "get_msrs"},
    {VMM_KVM_SET_MSRS, "KVM_SET_MSRS", "set_msrs"},
    {VMM_KVM_GET_CPUID2, "KVM_GET_CPUID2", "get_cpuid2"},
    {VMM_KVM_SET_CPUID2, "KVM_SET_CPUID2", "set_cpuid2"},
    {KVM_GET_MP_STATE, "KVM_GET_MP_STATE", "get_mp_state"},
    {KVM_SET_MP_STATE, "KVM_SET_MP_STATE", "set_mp_state"},
    {KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS", "get_vcpu_events"},
    {KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS", "set_vcpu_events"},
    {KVM_GET_LAPIC, "KVM_GET_LAPIC", "get_lapic"},
    {KVM_SET_LAPIC, "KVM_SET_LAPIC", "set_lapic"},
    {KVM_NMI, "KVM_NMI", "nmi"},
    {KVM_INTERRUPT, "KVM_INTERRUPT", "interrupt"},
    {0x4004ae8b, "KVM_SET_SIGNAL_MASK", "set_signal_mask"},
    {KVM_GET_FPU, "KVM_GET_FPU", "get_fpu"},
    {KVM_SET_FPU, "KVM_SET_FPU", "set_fpu"},
    {KVM_SET_XCRS, "KVM_SET_XCRS", "set_xcrs"},
    {KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS", "get_debugregs"},
    {KVM_SET_DEBUGREGS, "KVM_SET_DEBUGREGS", "set_debugregs"},
    {KVM_GET_TSC_KHZ, "KVM_GET_TSC_KHZ", "get_tsc_khz"},
    {KVM_SET_TSC_KHZ, "KVM_SET_TSC_KHZ", "set_tsc_khz"},
    {KVM_KVMCLOCK_CTRL, "KVM_KVMCLOCK_CTRL", "kvmclock_ctrl"},
};

struct CapName {
  uint32_t cap;
  std::string_view name;
};

constexpr CapName kCapNames[] = {
    {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
    {KVM_CAP_NR_VCPUS, "KVM_CAP_NR_VCPUS"},
    {KVM_CAP_NR_MEMSLOTS, "KVM_CAP_NR_MEMSLOTS"},
    {KVM_CAP_MAX_VCPUS, "KVM_CAP_MAX_VCPUS"},
    {KVM_CAP_MAX_VCPU_ID, "KVM_CAP_MAX_VCPU_ID"},
    {KVM_CAP_ENABLE_CAP_VM, "KVM_CAP_ENABLE_CAP_VM"},
    {KVM_CAP_DISABLE_QUIRKS, "KVM_CAP_DISABLE_QUIRKS"},
    {KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP"},
    {KVM_CAP_X2APIC_API, "KVM_CAP_X2APIC_API"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
    {KVM_CAP_X86_DISABLE_EXITS, "KVM_CAP_X86_DISABLE_EXITS"},
    {KVM_CAP_GET_MSR_FEATURES, "KVM_CAP_GET_MSR_FEATURES"},
    {KVM_CAP_EXCEPTION_PAYLOAD, "KVM_CAP_EXCEPTION_PAYLOAD"},
    {KVM_CAP_PMU_EVENT_FILTER, "KVM_CAP_PMU_EVENT_FILTER"},
    {KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR"},
    {KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER"},
    {KVM_CAP_PMU_CAPABILITY, "KVM_CAP_PMU_CAPABILITY"},
    {KVM_CAP_DISABLE_QUIRKS2, "KVM_CAP_DISABLE_QUIRKS2"},
};

}  // namespace

std::string ioctl_name(uint32_t request) {
  for (const IoctlName& entry : kIoctlNames) {
    if (entry.request == request) return std::string(entry.name);
  }
  return fmt::format("ioctl {:#x}", request);
}

std::optional<uint32_t> ioctl_by_word(std::string_view word) {
  for (const IoctlName& entry : kIoctlNames) {
    if (entry.word == word) return entry.request;
  }
  return std::nullopt;
}

std::string ioctl_words() {
  std::string words;
  for (const IoctlName& entry : kIoctlNames) {
    if (!words.empty()) words += ", ";
    words += entry.word;
  }
  return words;
}

std::string cap_name(uint32_t cap) {
  for (const CapName& entry : kCapNames) {
    if (entry.cap == cap) return std::string(entry.name);
  }
  return fmt::format("capability {}", cap);
}

}  // namespace host_stub
