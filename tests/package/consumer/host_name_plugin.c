/* SPDX-License-Identifier: MIT
 *
 * A plugin that refuses every host, with its name: what the host calls itself becomes visible. */
#include <errno.h>
#include <stdio.h>
#include <vmm/plugin.h>

static int32_t create(const struct vmm_host* host, const char* options, void** ctx,
                      struct vmm_error* error) {
  (void)options, (void)ctx;
  snprintf(error->message, error->capacity, "this host is %s", host->name);
  return -EINVAL;
}

static void destroy(void* ctx) { (void)ctx; }

const struct vmm_plugin* vmm_plugin_v1(void) {
  static const struct vmm_plugin plugin = {.struct_size = sizeof plugin,
                                           .abi_major = VMM_PLUGIN_ABI_MAJOR,
                                           .abi_minor = VMM_PLUGIN_ABI_MINOR,
                                           .name = "host_name",
                                           .version = "1.0.0",
                                           .create = create,
                                           .destroy = destroy};
  return &plugin;
}
