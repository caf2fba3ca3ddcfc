/* SPDX-License-Identifier: MIT
 * A plugin whose msr_list_build is an error while another call of it runs, as for one VM none may.
 * It names no register. */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include <errno.h>
#include <time.h>
#include <vmm/plugin.h>

static int inside;

static int32_t msr_list_build(void* ctx, void* vm_ctx, const struct vmm_vm* vm,
                              const struct vmm_msr_sink* sink, struct vmm_error* error) {
  const struct timespec a_while = {0, 200000};
  const int others = __atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST);
  (void)ctx;
  (void)vm_ctx;
  (void)vm;
  (void)sink;
  (void)error;
  nanosleep(&a_while, 0);
  __atomic_fetch_sub(&inside, 1, __ATOMIC_SEQ_CST);
  return others == 0 ? 0 : -EBUSY;
}

static int32_t create(const struct vmm_host* host, const char* options, void** ctx,
                      struct vmm_error* error) {
  static const struct vmm_hooks hooks = {
      .struct_size = sizeof hooks,
      .msr_list_build = msr_list_build,
  };
  (void)options;
  (void)error;
  *ctx = 0;
  return host->register_hooks(host->host_ctx, &hooks, 0);
}

static void destroy(void* ctx) { (void)ctx; }

static const struct vmm_plugin plugin = {
    .struct_size = sizeof plugin,
    .abi_major = VMM_PLUGIN_ABI_MAJOR,
    .abi_minor = VMM_PLUGIN_ABI_MINOR,
    .name = "list_alone",
    .version = "1.0.0",
    .create = create,
    .destroy = destroy,
};

const struct vmm_plugin* vmm_plugin_v1(void) { return &plugin; }
