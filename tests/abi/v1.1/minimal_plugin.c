/* SPDX-License-Identifier: MIT
 *
 * A complete plugin: at each reset of a vCPU it writes 0 to one MSR and counts, and it names that
 * MSR for save and restore. Option: clear=ADDRESS, default 0xc0000082 (LSTAR). */
#include <stdlib.h>
#include <vmm/plugin_helper.h>

struct instance {
  struct vmm_host host;
  uint32_t msr;
};
struct vm {
  uint32_t max_vcpus;
  uint32_t resets[]; /* one a vCPU: vCPUs are reset in parallel, and S2 allows no lock */
};

static int32_t vm_created(void* ctx, const struct vmm_vm* vm, void** vm_ctx,
                          struct vmm_error* error) {
  struct vm* self = calloc(1, sizeof *self + vm->max_vcpus * sizeof self->resets[0]);
  (void)ctx;
  if (!self) return vmm_fail(error, -ENOMEM, "no memory");
  self->max_vcpus = vm->max_vcpus;
  *vm_ctx = self;
  return 0;
}

static void vm_destroyed(void* ctx, void* vm_ctx) {
  const struct instance* instance = ctx;
  const struct vm* vm = vm_ctx;
  unsigned long long resets = 0;
  for (uint32_t i = 0; i < vm->max_vcpus; i++) resets += vm->resets[i];
  vmm_log(&instance->host, VMM_LOG_INFO, "minimal_plugin: %llu resets", resets);
  free(vm_ctx);
}

static int32_t msr_list_build(void* ctx, void* vm_ctx, const struct vmm_vm* vm,
                              const struct vmm_msr_sink* sink, struct vmm_error* error) {
  const struct instance* instance = ctx;
  const struct vmm_msr msr = {instance->msr, VMM_MSR_SAVED | VMM_MSR_REQUIRED, UINT64_MAX};
  (void)vm_ctx, (void)vm;
  int32_t result = sink->add(sink->sink_ctx, &msr, 1);
  return result == 0 ? 0 : vmm_fail(error, vmm_result(result), "no room for the MSR");
}

static int32_t vcpu_reset(void* ctx, void* vm_ctx, const struct vmm_vcpu* vcpu) {
  const struct instance* instance = ctx;
  struct vm* vm = vm_ctx;
  if (vcpu->index >= vm->max_vcpus) return -EINVAL;
  vm->resets[vcpu->index]++;
  return vmm_write_msr(&instance->host, vcpu, instance->msr, 0);
}

static int32_t create(const struct vmm_host* host, const char* options, void** ctx,
                      struct vmm_error* error) {
  const struct vmm_hooks hooks = {.struct_size = sizeof hooks,
                                  .vm_created = vm_created,
                                  .vm_destroyed = vm_destroyed,
                                  .msr_list_build = msr_list_build,
                                  .vcpu_reset = vcpu_reset};
  unsigned long msr = 0xc0000082;
  char key[16], value[32], *end = value;
  int32_t option, result;
  struct vmm_host mine;
  if ((result = vmm_take_host(&mine, host, error)) < 0) return result;
  while ((option = vmm_next_option(&options, key, sizeof key, value, sizeof value)) > 0) {
    if (strcmp(key, "clear") != 0 || value[0] < '0' || value[0] > '9') option = -EINVAL;
    if (option > 0) msr = strtoul(value, &end, 0);
    if (option < 0 || *end || msr > UINT32_MAX) break;
  }
  if (option != 0) return vmm_fail(error, -EINVAL, "options: clear=ADDRESS");
  struct instance* self = calloc(1, sizeof *self);
  if (!self) return vmm_fail(error, -ENOMEM, "no memory");
  self->host = mine;
  self->msr = (uint32_t)msr;
  result = host->register_hooks(host->host_ctx, &hooks, self);
  if (result == 0) return *ctx = self, 0;
  free(self);
  return vmm_fail(error, vmm_result(result), "the host refused the hooks");
}

static void destroy(void* ctx) { free(ctx); }
const struct vmm_plugin* vmm_plugin_v1(void) {
  static const struct vmm_plugin plugin = {.struct_size = sizeof plugin,
                                           .abi_major = VMM_PLUGIN_ABI_MAJOR,
                                           .abi_minor = VMM_PLUGIN_ABI_MINOR,
                                           .name = "minimal_plugin",
                                           .version = "1.0.0",
                                           .options_help = "clear=ADDRESS: this MSR\n",
                                           .create = create,
                                           .destroy = destroy};
  return &plugin;
}
