// SPDX-License-Identifier: MIT
//
// A plugin that does nothing, linked with the libraries of svm_pmu: what loading costs at least.
#include <vmm/plugin.h>

namespace {

int32_t create(const vmm_host* host, const char*, void** ctx, vmm_error*) {
  vmm_hooks none{};
  none.struct_size = sizeof none;
  *ctx = nullptr;
  return host->register_hooks(host->host_ctx, &none, nullptr);
}

void destroy(void*) {}

constexpr vmm_plugin kDescriptor = {
    .struct_size = sizeof(vmm_plugin),
    .abi_major = VMM_PLUGIN_ABI_MAJOR,
    .abi_minor = VMM_PLUGIN_ABI_MINOR,
    .flags = 0,
    .name = "empty",
    .version = "1.0.0",
    .description = nullptr,
    .options_help = nullptr,
    .create = create,
    .destroy = destroy,
    .get_extension = nullptr,
};

}  // namespace

extern "C" const vmm_plugin* vmm_plugin_v1(void) { return &kDescriptor; }
