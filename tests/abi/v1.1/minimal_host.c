/* SPDX-License-Identifier: MIT
 *
 * A complete host: loads a plugin and drives a VM of two vCPUs through its hooks.
 *   minimal_host PLUGIN.so [OPTIONS [kvm]]
 * With "kvm" the VM is one of /dev/kvm, else a stand-in.
 * Exit status: 0 all went well, 1 the plugin or KVM failed, 2 not a plugin, 77 no /dev/kvm. */
#define _POSIX_C_SOURCE 200809L
#include "minimal_kvm.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

static struct vmm_hooks hooks; /* struct_size 0: none registered */
static void* hooks_ctx;

VMM_PLUGIN_EXPORT extern const int vmm_plugin_host_v1;
const int vmm_plugin_host_v1 = 1; /* tells a preloaded host that this program calls the hooks */

static int32_t vm_ioctl(void* host_ctx, vmm_vm_handle vm, uint32_t request, void* arg) {
  (void)host_ctx;
  return device_ioctl((struct device*)(void*)vm, request, arg);
}
static int32_t vcpu_ioctl(void* host_ctx, vmm_vcpu_handle vcpu, uint32_t request, void* arg) {
  (void)host_ctx;
  return device_ioctl((struct device*)(void*)vcpu, request, arg);
}
static void print_log(void* host_ctx, uint32_t level, const char* message, uint64_t length) {
  (void)host_ctx;
  printf("log %u: %.*s\n", level, (int)length, message);
}
static int32_t register_hooks(void* host_ctx, const struct vmm_hooks* table, void* ctx) {
  const size_t least = offsetof(struct vmm_hooks, vcpu_reset) + sizeof table->vcpu_reset;
  (void)host_ctx;
  if (!table || table->struct_size < least) return -EINVAL;
  if (hooks.struct_size) return -EALREADY;
  memcpy(&hooks, table, table->struct_size < sizeof hooks ? table->struct_size : sizeof hooks);
  hooks_ctx = ctx;
  return 0;
}

/* A hook's or create's result: a positive one is a breach of the contract. */
static int32_t report(const char* what, int32_t result, const char* text) {
  printf("%s: %d%s%s\n", what, result, *text ? ", " : "", text);
  return result > 0 ? -EPROTO : result;
}

static int32_t drive(const struct device* kvm) {
  static struct device vm = {.fd = -1}, vcpus[2] = {{.fd = -1}, {.fd = -1}};
  static struct msr_list saved = {.known_flags = VMM_MSR_SAVED | VMM_MSR_REQUIRED}, batch;
  const struct vmm_msr_sink saved_sink = {sizeof saved_sink, 0, &saved, add_msrs};
  const struct vmm_msr_sink batch_sink = {sizeof batch_sink, 0, &batch, add_msrs};
  const struct vmm_vm shape = {sizeof shape, 2, (vmm_vm_handle)(void*)&vm};
  char text[256] = "";
  struct vmm_error error = {sizeof error, sizeof text, text};
  void* vm_ctx = NULL;
  int32_t result = report("KVM_CREATE_VM", create_vm(kvm, &vm), text);
  if (result == 0 && hooks.vm_created)
    result = report("vm_created", hooks.vm_created(hooks_ctx, &shape, &vm_ctx, &error), text);
  if (result != 0) return result; /* no further hook of this VM */
  for (uint32_t i = 0; i < 2 && result == 0; i++) result = create_vcpu(kvm, &vm, &vcpus[i], i);
  if (result == 0 && hooks.msr_list_build)
    result = report("msr_list_build",
                    hooks.msr_list_build(hooks_ctx, vm_ctx, &shape, &saved_sink, &error), text);
  print_msrs("to save", &saved);
  /* Each vCPU twice: the plugin writes by ioctl, then the host writes a batch behind the hook. */
  for (uint32_t i = 0; i < 4 && result == 0 && hooks.vcpu_reset; i++) {
    struct device* device = &vcpus[i % 2];
    struct vmm_vcpu vcpu = {.struct_size = sizeof vcpu,
                            .index = i % 2,
                            .handle = (vmm_vcpu_handle)(void*)device,
                            .batch = i < 2 ? NULL : &batch_sink};
    batch.header.nmsrs = 0;
    result = report(vcpu.batch ? "vcpu_reset with a batch" : "vcpu_reset",
                    hooks.vcpu_reset(hooks_ctx, vm_ctx, &vcpu), "");
    if (result == 0) result = write_msrs(device, &batch);
  }
  print_msrs("written to vCPU 0", &vcpus[0].written);
  print_msrs("written to vCPU 1", &vcpus[1].written);
  if (hooks.vm_destroyed) hooks.vm_destroyed(hooks_ctx, vm_ctx);
  return result;
}

int main(int argc, char** argv) {
  const size_t least = offsetof(struct vmm_plugin, destroy) + sizeof(void (*)(void*));
  const struct vmm_host host = {.struct_size = sizeof host,
                                .abi_major = VMM_PLUGIN_ABI_MAJOR,
                                .abi_minor = VMM_PLUGIN_ABI_MINOR,
                                .name = "minimal_host 1.0",
                                .register_hooks = register_hooks,
                                .vm_ioctl = vm_ioctl,
                                .vcpu_ioctl = vcpu_ioctl,
                                .log = print_log};
  char text[256] = "";
  struct vmm_error error = {sizeof error, sizeof text, text};
  struct device kvm = {.fd = -1};
  void* ctx = NULL;
  if (argc > 3 && strcmp(argv[3], "kvm") == 0 &&
      (kvm.fd = open("/dev/kvm", O_RDWR | O_CLOEXEC)) < 0)
    return puts("SKIPPED: no /dev/kvm"), 77;
  if (argc < 2) return puts("usage: minimal_host PLUGIN.so [OPTIONS [kvm]]"), 2;
  void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) return puts(dlerror()), 2;
  vmm_plugin_entry entry;
  *(void**)&entry = dlsym(library, VMM_PLUGIN_ENTRY_NAME);
  const struct vmm_plugin* plugin = entry ? entry() : NULL;
  if (!plugin || plugin->struct_size < least || plugin->abi_major != VMM_PLUGIN_ABI_MAJOR)
    return puts("not a plugin of this ABI"), 2;
  printf("%s %s, ABI %u.%u\n", plugin->name, plugin->version, plugin->abi_major, plugin->abi_minor);
  int32_t result = plugin->create(&host, argc > 2 ? argv[2] : NULL, &ctx, &error);
  if (report("create", result, text) != 0) return 1;
  result = hooks.struct_size ? drive(&kvm) : report("register_hooks", -EPROTO, "never called");
  plugin->destroy(ctx);
  dlclose(library);
  return result == 0 ? 0 : 1;
}
