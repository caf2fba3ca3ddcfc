/* SPDX-License-Identifier: MIT
 *
 * A host of a possible ABI 1.2: built with the draft header, it offers and uses what the draft
 * appended to each struct. With an older plugin it must do without.
 *   growth_host PLUGIN.so */
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <vmm/plugin.h>

#if VMM_PLUGIN_ABI_MINOR != 2
#error "not the draft header"
#endif

static struct vmm_hooks hooks;
static void* hooks_ctx;

static void copy_struct(void* to, size_t to_size, const void* from, uint32_t from_size) {
  memcpy(to, from, from_size < to_size ? from_size : to_size);
}
static int32_t register_hooks(void* host_ctx, const struct vmm_hooks* table, void* ctx) {
  (void)host_ctx;
  /* What older versions have ends where the first appended member begins. */
  if (!table || table->struct_size < offsetof(struct vmm_hooks, draft_hook)) return -EINVAL;
  copy_struct(&hooks, sizeof hooks, table, table->struct_size);
  hooks_ctx = ctx;
  return 0;
}
static int32_t vm_ioctl(void* host_ctx, vmm_vm_handle vm, uint32_t request, void* arg) {
  (void)host_ctx;
  (void)vm;
  (void)request;
  (void)arg;
  return -ENOTTY;
}
static int32_t vcpu_ioctl(void* host_ctx, vmm_vcpu_handle vcpu, uint32_t request, void* arg) {
  (void)host_ctx;
  (void)vcpu;
  (void)request;
  (void)arg;
  return 1; /* one MSR written */
}
static void print_log(void* host_ctx, uint32_t level, const char* message, uint64_t length) {
  (void)host_ctx;
  printf("log %u: %.*s\n", level, (int)length, message);
}
static uint64_t draft_clock(void* host_ctx) {
  (void)host_ctx;
  return 42;
}

int main(int argc, char** argv) {
  int target = 0; /* what the handles point to */
  struct vmm_host host = {0};
  struct vmm_vm vm = {0};
  struct vmm_vcpu vcpu = {0};
  struct vmm_plugin plugin = {0};
  vmm_plugin_entry entry;
  void *ctx = NULL, *vm_ctx = NULL;
  void* library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
  if (!library) return puts(argc == 2 ? dlerror() : "usage: growth_host PLUGIN.so"), 2;
  *(void**)&entry = dlsym(library, VMM_PLUGIN_ENTRY_NAME);
  if (!entry || entry()->struct_size < offsetof(struct vmm_plugin, draft_homepage)) return 2;
  copy_struct(&plugin, sizeof plugin, entry(), entry()->struct_size);
  printf("%s: ABI %u.%u, draft_homepage %s\n", plugin.name, plugin.abi_major, plugin.abi_minor,
         plugin.draft_homepage ? plugin.draft_homepage : "not there");
  host.struct_size = sizeof host;
  host.abi_major = VMM_PLUGIN_ABI_MAJOR;
  host.abi_minor = VMM_PLUGIN_ABI_MINOR;
  host.name = "growth_host 1.1";
  host.register_hooks = register_hooks;
  host.vm_ioctl = vm_ioctl;
  host.vcpu_ioctl = vcpu_ioctl;
  host.log = print_log;
  host.draft_clock = draft_clock;
  vm.struct_size = sizeof vm;
  vm.max_vcpus = 1;
  vm.handle = (vmm_vm_handle)(void*)&target;
  vcpu.struct_size = sizeof vcpu;
  vcpu.handle = (vmm_vcpu_handle)(void*)&target;
  vcpu.draft_tag = 7;
  int32_t result = plugin.create(&host, NULL, &ctx, NULL);
  printf("create: %d\n", result);
  if (result != 0) return 1;
  if (hooks.vm_created) result = hooks.vm_created(hooks_ctx, &vm, &vm_ctx, NULL);
  if (result == 0 && hooks.vcpu_reset) result = hooks.vcpu_reset(hooks_ctx, vm_ctx, &vcpu);
  printf("vcpu_reset: %d\n", result);
  if (hooks.draft_hook)
    hooks.draft_hook(hooks_ctx, vm_ctx);
  else
    puts("draft_hook: not there");
  if (hooks.vm_destroyed) hooks.vm_destroyed(hooks_ctx, vm_ctx);
  plugin.destroy(ctx);
  dlclose(library);
  return result == 0 ? 0 : 1;
}
