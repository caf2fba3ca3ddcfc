/* SPDX-License-Identifier: MIT
 *
 * vmm/guest_pmu.h - an extension of vmm/plugin.h: what the VMM was told about a guest's PMU.
 *
 * A user says to a VMM whether a guest is to have a PMU (QEMU: -cpu MODEL,pmu=off; libvirt:
 * <pmu state='off'/>). A host that knows what was said offers this table to its plugins:
 *
 *   const struct vmm_guest_pmu* guest_pmu = NULL;
 *   if (host->get_extension != NULL)
 *     guest_pmu = host->get_extension(host->host_ctx, VMM_GUEST_PMU_ID);
 *
 * Errors, ownership, threads, growth: as in vmm/plugin.h. The table is valid as long as the host's.
 */
#ifndef VMM_GUEST_PMU_H
#define VMM_GUEST_PMU_H

#include <vmm/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The name for vmm_host.get_extension. */
#define VMM_GUEST_PMU_ID "vmm.guest_pmu/1"

/* What the VMM was told. A reader takes any other value as VMM_GUEST_PMU_UNSAID. */
#define VMM_GUEST_PMU_UNSAID ((uint32_t)0) /* nothing, or the host could not find out */
#define VMM_GUEST_PMU_OFF ((uint32_t)1)    /* this guest is to have no PMU */
#define VMM_GUEST_PMU_ON ((uint32_t)2)     /* this guest is to have a PMU */

struct vmm_guest_pmu {
  uint32_t struct_size;
  uint32_t reserved;

  /* What the VMM was told about the PMU of this VM's guest: VMM_GUEST_PMU_*. Never NULL. The answer
   * stays the same for the life of the VM. [from inside any hook; any thread; S2 safe] */
  uint32_t (*wanted)(void* host_ctx, vmm_vm_handle vm);
};

#ifdef __cplusplus
}
#endif

#endif /* VMM_GUEST_PMU_H */
