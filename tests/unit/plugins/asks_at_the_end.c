/* SPDX-License-Identifier: MIT
 * A plugin that asks for the guest's CPUID in vm_destroyed, where the VM is still there, and logs
 * the vendor's first letters. With the option "long" create fails with a text of many bytes. */
#include <stdlib.h>
#include <vmm/plugin_helper.h>

struct instance {
  struct vmm_host host;
};

static int32_t vm_created(void* ctx, const struct vmm_vm* vm, void** vm_ctx,
                          struct vmm_error* error) {
  vmm_vm_handle* handle = malloc(sizeof *handle);
  (void)ctx;
  if (!handle) return vmm_fail(error, -ENOMEM, "no memory");
  *handle = vm->handle;
  *vm_ctx = handle;
  return 0;
}

static void vm_destroyed(void* ctx, void* vm_ctx) {
  const struct instance* self = ctx;
  vmm_vm_handle* handle = vm_ctx;
  uint32_t registers[4] = {0, 0, 0, 0};
  const int32_t result = self->host.get_cpuid(self->host.host_ctx, *handle, NULL, 0, 0, registers);
  vmm_log(&self->host, VMM_LOG_INFO, "at the end: %d, %.4s", (int)result,
          (const char*)&registers[1]);
  free(handle);
}

static int32_t create(const struct vmm_host* host, const char* options, void** ctx,
                      struct vmm_error* error) {
  static const struct vmm_hooks hooks = {
      .struct_size = sizeof hooks,
      .vm_created = vm_created,
      .vm_destroyed = vm_destroyed,
  };
  struct instance* self;
  struct vmm_host mine;
  int32_t result = vmm_take_host(&mine, host, error);
  if (result < 0) return result;
  if (options && *options) {
    char text[1024];
    size_t i;
    for (i = 0; i + 2 < sizeof text; i += 2) memcpy(text + i, "\xc3\xa4", 2);
    text[i] = '\0';
    return vmm_fail(error, -EINVAL, "x%s", text);
  }
  self = malloc(sizeof *self);
  if (!self) return vmm_fail(error, -ENOMEM, "no memory");
  self->host = mine;
  result = host->register_hooks(host->host_ctx, &hooks, self);
  if (result == 0) return *ctx = self, 0;
  free(self);
  return vmm_result(result);
}

static void destroy(void* ctx) { free(ctx); }

static const struct vmm_plugin plugin = {
    .struct_size = sizeof plugin,
    .abi_major = VMM_PLUGIN_ABI_MAJOR,
    .abi_minor = VMM_PLUGIN_ABI_MINOR,
    .name = "asks_at_the_end",
    .version = "1.0.0",
    .create = create,
    .destroy = destroy,
};

const struct vmm_plugin* vmm_plugin_v1(void) { return &plugin; }
