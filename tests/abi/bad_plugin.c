/* SPDX-License-Identifier: MIT
 *
 * Plugins that break the contract in one way each, to see what a host does: BAD is one of the names
 * below. REFUSED_IN_BATCH breaks nothing: it adds a register that no KVM has. */
#include <errno.h>
#include <stddef.h>
#include <vmm/plugin.h>

#define OTHER_MAJOR 1
#define SMALL_DESCRIPTOR 2
#define SMALL_HOOKS 3
#define REGISTERS_TWICE 4
#define NEVER_REGISTERS 5
#define POSITIVE_RESULT 6
#define REFUSED_IN_BATCH 7

static const struct vmm_host* the_host;

static void say(const char* text, uint64_t length) {
  the_host->log(the_host->host_ctx, VMM_LOG_ERROR, text, length);
}
#define SAY(literal) say(literal, sizeof(literal) - 1)

static int32_t vm_created(void* ctx, const struct vmm_vm* vm, void** vm_ctx,
                          struct vmm_error* error) {
  (void)ctx;
  (void)vm;
  (void)vm_ctx;
  (void)error;
  return BAD == POSITIVE_RESULT ? 1 : 0;
}

static void vm_destroyed(void* ctx, void* vm_ctx) {
  (void)ctx;
  (void)vm_ctx;
  SAY("vm_destroyed was called");
}

static int32_t vcpu_reset(void* ctx, void* vm_ctx, const struct vmm_vcpu* vcpu) {
  const struct vmm_msr msrs[3] = {{0xc0000082, 0, 0}, {0x12345678, 0, 0}, {0xc0000081, 0, 0}};
  (void)ctx;
  (void)vm_ctx;
  return vcpu->batch ? vcpu->batch->add(vcpu->batch->sink_ctx, msrs, 3) : 0;
}

static int32_t create(const struct vmm_host* host, const char* options, void** ctx,
                      struct vmm_error* error) {
  struct vmm_hooks hooks = {.struct_size = sizeof hooks,
                            .vm_created = vm_created,
                            .vm_destroyed = vm_destroyed,
                            .vcpu_reset = vcpu_reset};
  (void)options;
  (void)error;
  the_host = host;
  *ctx = NULL; /* a plugin may need nothing */
  if (BAD == NEVER_REGISTERS) return 0;
  if (BAD == SMALL_HOOKS) hooks.struct_size = offsetof(struct vmm_hooks, vcpu_reset);
  int32_t result = host->register_hooks(host->host_ctx, &hooks, NULL);
  if (BAD == REGISTERS_TWICE && result == 0)
    result = host->register_hooks(host->host_ctx, &hooks, NULL);
  return result;
}

static void destroy(void* ctx) {
  (void)ctx;
  SAY("destroy was called");
}

const struct vmm_plugin* vmm_plugin_v1(void) {
  static const struct vmm_plugin plugin = {
      .struct_size = BAD == SMALL_DESCRIPTOR ? offsetof(struct vmm_plugin, destroy)
                                             : sizeof(struct vmm_plugin),
      .abi_major = BAD == OTHER_MAJOR ? VMM_PLUGIN_ABI_MAJOR + 1 : VMM_PLUGIN_ABI_MAJOR,
      .abi_minor = VMM_PLUGIN_ABI_MINOR,
      .name = "bad_plugin",
      .version = "1.0.0",
      .create = create,
      .destroy = destroy};
  return &plugin;
}
