/* SPDX-License-Identifier: MIT
 *
 * A plugin of two majors in one file: hosts of ABI 1 find it by its first name, whatever the second
 * one may be (VMM-72). */
#include <stddef.h>
#include <vmm/plugin.h>

static int32_t create(const struct vmm_host* host, const char* options, void** ctx,
                      struct vmm_error* error) {
  const struct vmm_hooks hooks = {.struct_size = sizeof hooks};
  (void)options;
  (void)error;
  *ctx = NULL;
  return host->register_hooks(host->host_ctx, &hooks, NULL);
}

static void destroy(void* ctx) { (void)ctx; }

const struct vmm_plugin* vmm_plugin_v1(void) {
  static const struct vmm_plugin plugin = {.struct_size = sizeof plugin,
                                           .abi_major = VMM_PLUGIN_ABI_MAJOR,
                                           .abi_minor = VMM_PLUGIN_ABI_MINOR,
                                           .name = "both_entries",
                                           .version = "2.0.0",
                                           .create = create,
                                           .destroy = destroy};
  return &plugin;
}

VMM_PLUGIN_EXPORT const void* vmm_plugin_v2(void);
const void* vmm_plugin_v2(void) { return NULL; }
