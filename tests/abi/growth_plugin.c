/* SPDX-License-Identifier: MIT
 *
 * A plugin of a possible ABI 1.2: built with the draft header, it uses what the draft appended to
 * each struct where the host has it. Against an older host it must do without. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vmm/plugin.h>

#if VMM_PLUGIN_ABI_MINOR != 2
#error "not the draft header"
#endif

/* Copies what the writer has of *from; the rest of *to stays 0. */
static void copy_struct(void* to, size_t to_size, const void* from, uint32_t from_size) {
  memcpy(to, from, from_size < to_size ? from_size : to_size);
}

static void say(const struct vmm_host* host, const char* what, uint64_t value) {
  char text[96];
  const int length = snprintf(text, sizeof text, "%s %llu", what, (unsigned long long)value);
  host->log(host->host_ctx, VMM_LOG_INFO, text, (uint64_t)length);
}

static int32_t vcpu_reset(void* ctx, void* vm_ctx, const struct vmm_vcpu* vcpu) {
  struct vmm_vcpu all = {0};
  (void)vm_ctx;
  copy_struct(&all, sizeof all, vcpu, vcpu->struct_size);
  say(ctx, "draft_tag", all.draft_tag);
  return 0;
}

static int32_t draft_hook(void* ctx, void* vm_ctx) {
  (void)vm_ctx;
  say(ctx, "draft_hook was called", 1);
  return 0;
}

static int32_t fail(struct vmm_error* error, int32_t code, const char* text) {
  if (error) snprintf(error->message, error->capacity, "%s", text);
  return code;
}

static int32_t create(const struct vmm_host* host, const char* options, void** ctx,
                      struct vmm_error* error) {
  struct vmm_hooks hooks = {0};
  if (host->struct_size < offsetof(struct vmm_host, get_cpuid) ||
      host->abi_major != VMM_PLUGIN_ABI_MAJOR)
    return fail(error, -EINVAL, "the host's table is too small or of another ABI major");
  if (!host->name || !host->register_hooks || !host->vm_ioctl || !host->vcpu_ioctl || !host->log)
    return fail(error, -EINVAL, "the host's table lacks a callback");
  if (options && *options) return fail(error, -EINVAL, "there are no options");
  struct vmm_host* self = calloc(1, sizeof *self);
  if (!self) return fail(error, -ENOMEM, "no memory");
  copy_struct(self, sizeof *self, host, host->struct_size);
  say(self, "draft_clock", self->draft_clock ? self->draft_clock(self->host_ctx) : 0);
  hooks.struct_size = sizeof hooks;
  hooks.vcpu_reset = vcpu_reset;
  hooks.draft_hook = draft_hook;
  const int32_t result = host->register_hooks(host->host_ctx, &hooks, self);
  if (result == 0) return *ctx = self, 0;
  free(self);
  return fail(error, result < 0 ? result : -EPROTO, "the host refused the hooks");
}

static void destroy(void* ctx) { free(ctx); }

const struct vmm_plugin* vmm_plugin_v1(void) {
  static const struct vmm_plugin plugin = {.struct_size = sizeof plugin,
                                           .abi_major = VMM_PLUGIN_ABI_MAJOR,
                                           .abi_minor = VMM_PLUGIN_ABI_MINOR,
                                           .name = "growth_plugin",
                                           .version = "1.2.0",
                                           .create = create,
                                           .destroy = destroy,
                                           .draft_homepage = "there"};
  return &plugin;
}
