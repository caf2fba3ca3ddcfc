/* SPDX-License-Identifier: MIT
 *
 * A complete plugin: at each reset of a vCPU it writes 0 to one MSR and counts, and it names that
 * MSR for save and restore. Option: clear=ADDRESS, default 0xc0000082 (LSTAR). */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

struct instance {
  struct vmm_host host;
  uint32_t msr;
};
struct vm {
  uint32_t max_vcpus;
  uint32_t resets[]; /* one a vCPU: vCPUs are reset in parallel, and S2 allows no lock */
};

static int32_t fail(struct vmm_error* error, int32_t code, const char* text) {
  if (error) snprintf(error->message, error->capacity, "%s", text);
  return code;
}

static int32_t vm_created(void* ctx, const struct vmm_vm* vm, void** vm_ctx,
                          struct vmm_error* error) {
  struct vm* self = calloc(1, sizeof *self + vm->max_vcpus * sizeof self->resets[0]);
  (void)ctx;
  if (!self) return fail(error, -ENOMEM, "no memory");
  self->max_vcpus = vm->max_vcpus;
  *vm_ctx = self;
  return 0;
}

static void vm_destroyed(void* ctx, void* vm_ctx) {
  const struct instance* instance = ctx;
  const struct vm* vm = vm_ctx;
  unsigned long long resets = 0;
  char text[64];
  for (uint32_t i = 0; i < vm->max_vcpus; i++) resets += vm->resets[i];
  int length = snprintf(text, sizeof text, "minimal_plugin: %llu resets", resets);
  instance->host.log(instance->host.host_ctx, VMM_LOG_INFO, text, (uint64_t)length);
  free(vm_ctx);
}

static int32_t msr_list_build(void* ctx, void* vm_ctx, const struct vmm_vm* vm,
                              const struct vmm_msr_sink* sink, struct vmm_error* error) {
  const struct instance* instance = ctx;
  const struct vmm_msr msr = {instance->msr, VMM_MSR_SAVED | VMM_MSR_REQUIRED, UINT64_MAX};
  (void)vm_ctx, (void)vm;
  int32_t result = sink->add(sink->sink_ctx, &msr, 1);
  return result == 0 ? 0 : fail(error, result < 0 ? result : -EPROTO, "no room for the MSR");
}

static int32_t vcpu_reset(void* ctx, void* vm_ctx, const struct vmm_vcpu* vcpu) {
  const struct instance* instance = ctx;
  struct vm* vm = vm_ctx;
  struct {
    struct vmm_kvm_msrs_header header;
    struct vmm_msr msr; /* has the layout of kvm_msr_entry */
  } request = {{1, 0}, {instance->msr, 0, 0}};
  int32_t result;
  if (vcpu->index >= vm->max_vcpus) return -EINVAL;
  vm->resets[vcpu->index]++;
  if (vcpu->batch) {
    result = vcpu->batch->add(vcpu->batch->sink_ctx, &request.msr, 1);
    return result > 0 ? -EPROTO : result;
  }
  do {
    result = instance->host.vcpu_ioctl(instance->host.host_ctx, vcpu->handle, VMM_KVM_SET_MSRS,
                                       &request);
  } while (result == -EINTR);
  return result < 0 ? result : result == 1 ? 0 : -EIO; /* KVM returns how many it wrote */
}

static int32_t create(const struct vmm_host* host, const char* options, void** ctx,
                      struct vmm_error* error) {
  const struct vmm_hooks hooks = {.struct_size = sizeof hooks,
                                  .vm_created = vm_created,
                                  .vm_destroyed = vm_destroyed,
                                  .msr_list_build = msr_list_build,
                                  .vcpu_reset = vcpu_reset};
  unsigned long msr = 0xc0000082;
  char* end = NULL;
  /* `log` is the last callback that every host has; what comes after it may be missing. */
  if (host->struct_size < offsetof(struct vmm_host, get_cpuid) ||
      host->abi_major != VMM_PLUGIN_ABI_MAJOR)
    return fail(error, -EINVAL, "the host's table is too small or of another ABI major");
  if (!host->name || !host->register_hooks || !host->vm_ioctl || !host->vcpu_ioctl || !host->log)
    return fail(error, -EINVAL, "the host's table lacks a callback");
  if (options && *options) {
    if (strncmp(options, "clear=", 6) == 0 && options[6] >= '0' && options[6] <= '9')
      msr = strtoul(options + 6, &end, 0);
    if (!end || *end || msr > UINT32_MAX) return fail(error, -EINVAL, "options: clear=ADDRESS");
  }
  struct instance* self = calloc(1, sizeof *self);
  if (!self) return fail(error, -ENOMEM, "no memory");
  memcpy(&self->host, host, host->struct_size < sizeof *host ? host->struct_size : sizeof *host);
  self->msr = (uint32_t)msr;
  int32_t result = host->register_hooks(host->host_ctx, &hooks, self);
  if (result == 0) return *ctx = self, 0;
  free(self);
  return fail(error, result < 0 ? result : -EPROTO, "the host refused the hooks");
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
