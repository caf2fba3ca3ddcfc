// SPDX-License-Identifier: MIT
//
// Faults that need C++. BAD at run time: "throws_in_create", "throws_at_reset" or nothing.
// THREAD_LOCAL at compile time: an object of each thread, with a destructor.
#include <vmm/plugin.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace {

bool bad(const char* fault) {
  const char* wanted = std::getenv("BAD");
  return wanted != nullptr && std::strcmp(wanted, fault) == 0;
}

#ifdef THREAD_LOCAL
struct Kept {
  ~Kept() { uses = 0; }
  volatile int uses = 0;
};
thread_local Kept kept;
#endif

int32_t vcpu_reset(void*, void*, const vmm_vcpu*) {
#ifdef THREAD_LOCAL
  kept.uses = kept.uses + 1;
#endif
  if (bad("throws_at_reset")) throw std::runtime_error("no reset today");
  return 0;
}

int32_t fail(vmm_error* error, int32_t code, const std::string& text) {
  if (error != nullptr) error->message[text.copy(error->message, error->capacity - 1)] = '\0';
  return code;
}

int32_t create(const vmm_host* host, const char* options, void** ctx, vmm_error* error) {
  if (host->struct_size < offsetof(vmm_host, get_cpuid) || host->abi_major != VMM_PLUGIN_ABI_MAJOR)
    return fail(error, -EINVAL, "the host");
  if (host->name == nullptr || host->register_hooks == nullptr || host->vm_ioctl == nullptr ||
      host->vcpu_ioctl == nullptr || host->log == nullptr)
    return fail(error, -EINVAL, "a callback");
  if (options != nullptr && *options != '\0') {
    if (bad("throws_in_create")) throw std::runtime_error("no such option");
    return fail(error, -EINVAL, "no options");
  }
  vmm_hooks hooks{};
  hooks.struct_size = sizeof hooks;
  hooks.vcpu_reset = vcpu_reset;
  const int32_t result = host->register_hooks(host->host_ctx, &hooks, nullptr);
  if (result != 0) return fail(error, result < 0 ? result : -EPROTO, "the hooks");
  *ctx = nullptr;
  return 0;
}

void destroy(void*) {}

}  // namespace

extern "C" const vmm_plugin* vmm_plugin_v1(void) {
  static constexpr vmm_plugin kDescriptor{
      .struct_size = sizeof(vmm_plugin),
      .abi_major = VMM_PLUGIN_ABI_MAJOR,
      .abi_minor = VMM_PLUGIN_ABI_MINOR,
      .flags = 0,
      .name = "bad_plugin_cxx",
      .version = "1.0.0",
      .description = nullptr,
      .options_help = nullptr,
      .create = create,
      .destroy = destroy,
      .get_extension = nullptr,
  };
  return &kDescriptor;
}
