/* SPDX-License-Identifier: MIT
 *
 * vmm/vm_state.h - an extension of plugins: what a plugin does for a VM, in one word, for a host
 * that tells operators. Optional on both sides; vmm/plugin.h does not include it.
 *
 *   const struct vmm_vm_state* state = plugin->get_extension(VMM_VM_STATE_ID);
 */
#ifndef VMM_VM_STATE_H
#define VMM_VM_STATE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* For vmm_plugin.get_extension. */
#define VMM_VM_STATE_ID "vmm.vm_state/1"

/* Most bytes of a word, without its NUL. */
#define VMM_VM_STATE_MAX 31

/* Constant, valid while the plugin is loaded. Grows as the structs of vmm/plugin.h do. */
struct vmm_vm_state {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */

  /* What the plugin does for this VM at the moment: a word of [a-z0-9-], at most VMM_VM_STATE_MAX
   * bytes. `ctx` is that of register_hooks, `vm_ctx` what vm_created left. From the return of
   * vm_created to the call of vm_destroyed, on any thread, beside any hook. Never NULL; the word is
   * constant and valid while the plugin is loaded; another call may return another one. [S2] */
  const char* (*state)(void* ctx, void* vm_ctx);
};

#ifdef __cplusplus
}
#endif

#endif /* VMM_VM_STATE_H */
