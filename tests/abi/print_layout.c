/* SPDX-License-Identifier: MIT
 *
 * Prints sizes, offsets and constants of vmm/plugin.h and vmm/guest_pmu.h, one a line, for
 * comparison with layout.golden. Compiled as C, and by way of print_layout_cxx.cpp as C++.
 */
#include <stddef.h>
#include <stdio.h>
#include <vmm/guest_pmu.h>
#include <vmm/plugin.h>

#define STRUCT(s) printf("size %s %u\n", #s, (unsigned)sizeof(struct s))
#define MEMBER(s, m)                                                      \
  printf("member %s.%s %u %u\n", #s, #m, (unsigned)offsetof(struct s, m), \
         (unsigned)sizeof(((struct s*)0)->m))
#define VALUE(c) printf("value %s %u\n", #c, (unsigned)(c))
#define TEXT(c) printf("text %s %s\n", #c, c)

/* NOLINTBEGIN(bugprone-sizeof-expression): members may be pointers */
int main(void) {
  VALUE(VMM_PLUGIN_ABI_MAJOR);
  VALUE(VMM_PLUGIN_ABI_MINOR);
  TEXT(VMM_PLUGIN_ENTRY_NAME);
  TEXT(VMM_PLUGIN_HOST_MARKER_NAME);
  VALUE(VMM_LOG_ERROR);
  VALUE(VMM_LOG_WARNING);
  VALUE(VMM_LOG_INFO);
  VALUE(VMM_LOG_DEBUG);
  VALUE(VMM_MSR_SAVED);
  VALUE(VMM_MSR_REQUIRED);
  VALUE(VMM_CPUID_EAX);
  VALUE(VMM_CPUID_EBX);
  VALUE(VMM_CPUID_ECX);
  VALUE(VMM_CPUID_EDX);

  STRUCT(vmm_error);
  MEMBER(vmm_error, struct_size);
  MEMBER(vmm_error, capacity);
  MEMBER(vmm_error, message);

  STRUCT(vmm_msr);
  MEMBER(vmm_msr, index);
  MEMBER(vmm_msr, flags);
  MEMBER(vmm_msr, value);

  STRUCT(vmm_msr_sink);
  MEMBER(vmm_msr_sink, struct_size);
  MEMBER(vmm_msr_sink, reserved);
  MEMBER(vmm_msr_sink, sink_ctx);
  MEMBER(vmm_msr_sink, add);

  STRUCT(vmm_msr_range);
  MEMBER(vmm_msr_range, base);
  MEMBER(vmm_msr_range, count);

  STRUCT(vmm_cpuid_bits);
  MEMBER(vmm_cpuid_bits, leaf);
  MEMBER(vmm_cpuid_bits, subleaf);
  MEMBER(vmm_cpuid_bits, reg);
  MEMBER(vmm_cpuid_bits, mask);

  STRUCT(vmm_vm);
  MEMBER(vmm_vm, struct_size);
  MEMBER(vmm_vm, max_vcpus);
  MEMBER(vmm_vm, handle);

  STRUCT(vmm_vcpu);
  MEMBER(vmm_vcpu, struct_size);
  MEMBER(vmm_vcpu, index);
  MEMBER(vmm_vcpu, flags);
  MEMBER(vmm_vcpu, reserved);
  MEMBER(vmm_vcpu, handle);
  MEMBER(vmm_vcpu, batch);

  STRUCT(vmm_hooks);
  MEMBER(vmm_hooks, struct_size);
  MEMBER(vmm_hooks, reserved);
  MEMBER(vmm_hooks, vm_created);
  MEMBER(vmm_hooks, vm_destroyed);
  MEMBER(vmm_hooks, msr_list_build);
  MEMBER(vmm_hooks, vcpu_reset);

  STRUCT(vmm_host);
  MEMBER(vmm_host, struct_size);
  MEMBER(vmm_host, abi_major);
  MEMBER(vmm_host, abi_minor);
  MEMBER(vmm_host, reserved);
  MEMBER(vmm_host, host_ctx);
  MEMBER(vmm_host, name);
  MEMBER(vmm_host, register_hooks);
  MEMBER(vmm_host, vm_ioctl);
  MEMBER(vmm_host, vcpu_ioctl);
  MEMBER(vmm_host, log);
  MEMBER(vmm_host, get_cpuid);
  MEMBER(vmm_host, deny_msrs);
  MEMBER(vmm_host, get_extension);
  MEMBER(vmm_host, hide_cpuid);
  MEMBER(vmm_host, get_supported_cpuid);

  STRUCT(vmm_plugin);
  MEMBER(vmm_plugin, struct_size);
  MEMBER(vmm_plugin, abi_major);
  MEMBER(vmm_plugin, abi_minor);
  MEMBER(vmm_plugin, flags);
  MEMBER(vmm_plugin, name);
  MEMBER(vmm_plugin, version);
  MEMBER(vmm_plugin, description);
  MEMBER(vmm_plugin, options_help);
  MEMBER(vmm_plugin, create);
  MEMBER(vmm_plugin, destroy);
  MEMBER(vmm_plugin, get_extension);

  TEXT(VMM_GUEST_PMU_ID);
  VALUE(VMM_GUEST_PMU_UNSAID);
  VALUE(VMM_GUEST_PMU_OFF);
  VALUE(VMM_GUEST_PMU_ON);

  STRUCT(vmm_guest_pmu);
  MEMBER(vmm_guest_pmu, struct_size);
  MEMBER(vmm_guest_pmu, reserved);
  MEMBER(vmm_guest_pmu, wanted);
  return 0;
}
/* NOLINTEND(bugprone-sizeof-expression) */
