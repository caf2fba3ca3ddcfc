/* SPDX-License-Identifier: MIT
 *
 * vmm/kvm_uapi.h - the KVM structs that end in an array, and their ioctl numbers, the same from C
 * and from C++. Optional: vmm/plugin.h does not include it.
 *
 * WHY
 *   Some versions of <linux/kvm.h> declare `entries[]` by way of __DECLARE_FLEX_ARRAY, while their
 *   <linux/stddef.h> lacks the C++ branch of that macro. Compiled as C++, sizeof(struct kvm_msrs)
 *   is then 16 instead of 8. The ioctl numbers contain that size, and the array starts 8 bytes
 *   late: KVM_SET_MSRS fails with EINVAL, or, with the number alone put right, returns 0 and sets
 *   nothing. Seen with linux-libc-dev 6.1.187 and 6.1.192. It depends on the header's build, not
 *   its version, so nothing here relies on those structs: only fixed-size ones are used, and every
 *   number is asserted against its literal value.
 *
 * SHAPES
 *   A request of n MSRs is one struct vmm_kvm_msrs_header and n struct kvm_msr_entry right behind
 *   it, 8 + 16 n bytes; n at most VMM_KVM_MAX_MSRS (KVM: "nmsrs >= MAX_IO_MSRS" gives E2BIG). The
 *   CPUID and index list requests are made the same way.
 */
#ifndef VMM_KVM_UAPI_H
#define VMM_KVM_UAPI_H

#include <linux/kvm.h>
#include <stdint.h>

#ifdef __cplusplus
#define VMM_STATIC_ASSERT(condition, text) static_assert(condition, text)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define VMM_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#else
#define VMM_STATIC_ASSERT_CAT2(a, b) a##b
#define VMM_STATIC_ASSERT_CAT(a, b) VMM_STATIC_ASSERT_CAT2(a, b)
#define VMM_STATIC_ASSERT(condition, text) \
  typedef char VMM_STATIC_ASSERT_CAT(vmm_static_assert_, __LINE__)[(condition) ? 1 : -1]
#endif

/* Most entries in one KVM_GET_MSRS or KVM_SET_MSRS; one more gives E2BIG (KVM: MAX_IO_MSRS 256). */
#define VMM_KVM_MAX_MSRS 255

/* What stands before the entries of kvm_msrs, kvm_cpuid2 and kvm_msr_list. */
struct vmm_kvm_msrs_header {
  uint32_t nmsrs;
  uint32_t pad;
};
struct vmm_kvm_cpuid2_header {
  uint32_t nent;
  uint32_t padding;
};
struct vmm_kvm_msr_list_header {
  uint32_t nmsrs;
};

#define VMM_KVM_GET_MSRS ((uint32_t)_IOWR(KVMIO, 0x88, struct vmm_kvm_msrs_header))
#define VMM_KVM_SET_MSRS ((uint32_t)_IOW(KVMIO, 0x89, struct vmm_kvm_msrs_header))
#define VMM_KVM_GET_SUPPORTED_CPUID ((uint32_t)_IOWR(KVMIO, 0x05, struct vmm_kvm_cpuid2_header))
#define VMM_KVM_SET_CPUID2 ((uint32_t)_IOW(KVMIO, 0x90, struct vmm_kvm_cpuid2_header))
#define VMM_KVM_GET_CPUID2 ((uint32_t)_IOWR(KVMIO, 0x91, struct vmm_kvm_cpuid2_header))
#define VMM_KVM_GET_MSR_INDEX_LIST ((uint32_t)_IOWR(KVMIO, 0x02, struct vmm_kvm_msr_list_header))

/* Sizes and numbers of the kernel's ABI on x86; from Documentation/virt/kvm/api.rst and from C. */
VMM_STATIC_ASSERT(sizeof(struct vmm_kvm_msrs_header) == 8, "kvm_msrs header");
VMM_STATIC_ASSERT(sizeof(struct kvm_msr_entry) == 16, "kvm_msr_entry");
VMM_STATIC_ASSERT(sizeof(struct kvm_cpuid_entry2) == 40, "kvm_cpuid_entry2");
VMM_STATIC_ASSERT(sizeof(struct kvm_enable_cap) == 104, "kvm_enable_cap");
VMM_STATIC_ASSERT(VMM_KVM_GET_MSRS == 0xc008ae88u, "KVM_GET_MSRS");
VMM_STATIC_ASSERT(VMM_KVM_SET_MSRS == 0x4008ae89u, "KVM_SET_MSRS");
VMM_STATIC_ASSERT(VMM_KVM_GET_SUPPORTED_CPUID == 0xc008ae05u, "KVM_GET_SUPPORTED_CPUID");
VMM_STATIC_ASSERT(VMM_KVM_SET_CPUID2 == 0x4008ae90u, "KVM_SET_CPUID2");
VMM_STATIC_ASSERT(VMM_KVM_GET_CPUID2 == 0xc008ae91u, "KVM_GET_CPUID2");
VMM_STATIC_ASSERT(VMM_KVM_GET_MSR_INDEX_LIST == 0xc004ae02u, "KVM_GET_MSR_INDEX_LIST");
VMM_STATIC_ASSERT((uint32_t)KVM_CHECK_EXTENSION == 0xae03u, "KVM_CHECK_EXTENSION");
VMM_STATIC_ASSERT((uint32_t)KVM_ENABLE_CAP == 0x4068aea3u, "KVM_ENABLE_CAP");

/* Newer than some headers that this must compile with (Debian 11 has those of Linux 5.10). */
#ifndef KVM_CAP_PMU_CAPABILITY
#define KVM_CAP_PMU_CAPABILITY 212 /* Linux 5.18 */
#endif
#ifndef KVM_PMU_CAP_DISABLE
#define KVM_PMU_CAP_DISABLE (1 << 0)
#endif
#ifndef KVM_CAP_DISABLE_QUIRKS2
#define KVM_CAP_DISABLE_QUIRKS2 213 /* Linux 5.18 */
#endif

#ifdef KVM_X86_SET_MSR_FILTER /* Linux 5.10 */
VMM_STATIC_ASSERT((uint32_t)KVM_X86_SET_MSR_FILTER ==
                      (sizeof(void*) == 8 ? 0x4188aec6u : (uint32_t)KVM_X86_SET_MSR_FILTER),
                  "KVM_X86_SET_MSR_FILTER");
#endif

#endif /* VMM_KVM_UAPI_H */
