/* SPDX-License-Identifier: MIT
 *
 * svm_pmu with one of its two fixes taken out, for the cases that must fail with it:
 *   BREAK_RESET        vcpu_reset does nothing and says that all is well
 *   BREAK_CAPABILITY   KVM_ENABLE_CAP of KVM_CAP_PMU_CAPABILITY is not made, and answered with 0
 * SVM_PMU_FILE is the plugin's file. One instance.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

static const struct vmm_host* real_host;
static const struct vmm_plugin* real_plugin;

#ifdef BREAK_RESET
static int32_t vcpu_reset(void* ctx, void* vm_ctx, const struct vmm_vcpu* vcpu) {
  (void)ctx;
  (void)vm_ctx;
  (void)vcpu;
  return 0;
}

static int32_t register_hooks(void* host_ctx, const struct vmm_hooks* hooks, void* ctx) {
  struct vmm_hooks ours = *hooks;
  ours.vcpu_reset = vcpu_reset;
  return real_host->register_hooks(host_ctx, &ours, ctx);
}
#endif

#ifdef BREAK_CAPABILITY
static int32_t vm_ioctl(void* host_ctx, vmm_vm_handle vm, uint32_t request, void* arg) {
  if (request == (uint32_t)KVM_ENABLE_CAP &&
      ((const struct kvm_enable_cap*)arg)->cap == KVM_CAP_PMU_CAPABILITY)
    return 0;
  return real_host->vm_ioctl(host_ctx, vm, request, arg);
}
#endif

static int32_t create(const struct vmm_host* host, const char* options, void** ctx,
                      struct vmm_error* error) {
  static struct vmm_host ours;
  vmm_plugin_entry entry;
  void* library;
  const size_t size = host->struct_size < sizeof ours ? host->struct_size : sizeof ours;
  library = dlopen(SVM_PMU_FILE, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return -ENOENT;
  *(void**)&entry = dlsym(library, VMM_PLUGIN_ENTRY_NAME);
  real_plugin = entry();
  real_host = host;
  memset(&ours, 0, sizeof ours);
  memcpy(&ours, host, size);
  ours.struct_size = (uint32_t)size;
#ifdef BREAK_RESET
  ours.register_hooks = register_hooks;
#endif
#ifdef BREAK_CAPABILITY
  ours.vm_ioctl = vm_ioctl;
#endif
  return real_plugin->create(&ours, options, ctx, error);
}

static void destroy(void* ctx) { real_plugin->destroy(ctx); }

VMM_PLUGIN_EXPORT const struct vmm_plugin* vmm_plugin_v1(void) {
  static const struct vmm_plugin plugin = {sizeof(struct vmm_plugin),
                                           VMM_PLUGIN_ABI_MAJOR,
                                           VMM_PLUGIN_ABI_MINOR,
                                           0,
                                           "broken",
                                           "1.0.0",
                                           "svm_pmu with one fix taken out",
                                           NULL,
                                           create,
                                           destroy,
                                           NULL};
  return &plugin;
}
