// SPDX-License-Identifier: MIT
//
// svm_pmu with a fault in its hooks, to see that the measurements see it. The environment variable
// BENCH_PLANTED names what is planted; without it the plugin is svm_pmu as it is.
#include <dlfcn.h>
#include <unistd.h>
#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

namespace {

/// What the wrapped plugin registered, and the host behind it. One instance.
struct Wrapped {
  const vmm_plugin* plugin = nullptr;
  vmm_host host{};  // its table, but with our register_hooks
  const vmm_host* real_host = nullptr;
  vmm_hooks hooks{};
  void* ctx = nullptr;
};
Wrapped wrapped;
void (*planted_in_reset)(const vmm_vcpu&) = nullptr;
void (*planted_in_vm_created)(const vmm_vm&) = nullptr;

// ---- what can be planted -----------------------------------------------------------------------

void spin(uint32_t times) {
  for (uint32_t i = 0; i < times; ++i) asm volatile("");
}

void more_ioctl(const vmm_vcpu& vcpu) {
  struct {
    vmm_kvm_msrs_header header{8, 0};
    kvm_msr_entry entries[8]{};
  } request;
  for (uint32_t i = 0; i < 8; ++i) request.entries[i].index = 0xc0010000 + i;
  wrapped.real_host->vcpu_ioctl(wrapped.real_host->host_ctx, vcpu.handle, VMM_KVM_SET_MSRS,
                                &request);
}
void more_instructions(const vmm_vcpu&) { spin(100); }
void an_allocation(const vmm_vcpu&) {
  const auto taken = std::make_unique<char[]>(64);
  asm volatile("" : : "r"(taken.get()) : "memory");
}
void a_system_call(const vmm_vcpu&) { getppid(); }
/// The lock of many vCPUs, held long enough for another thread to wait for it.
void a_lock(const vmm_vcpu&) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  usleep(200);
}
/// Costs more for each vCPU that the VM has.
void cost_by_index(const vmm_vcpu& vcpu) { spin(vcpu.index); }

void more_vm_ioctls(const vmm_vm& vm) {
  for (int i = 0; i < 3; ++i)
    wrapped.real_host->vm_ioctl(wrapped.real_host->host_ctx, vm.handle, KVM_CHECK_EXTENSION,
                                nullptr);
}
void memory_a_vcpu(const vmm_vm& vm) {
  static std::vector<char> kept;
  kept = std::vector<char>(std::size_t{100} * vm.max_vcpus);
}

constexpr struct {
  std::string_view name;
  void (*in_reset)(const vmm_vcpu&);
  void (*in_vm_created)(const vmm_vm&);
} kPlants[] = {
    {"", nullptr, nullptr},
    {"ioctl", more_ioctl, nullptr},
    {"instructions", more_instructions, nullptr},
    {"allocation", an_allocation, nullptr},
    {"system-call", a_system_call, nullptr},
    {"lock", a_lock, nullptr},
    {"cost-by-index", cost_by_index, nullptr},
    {"vm-ioctls", nullptr, more_vm_ioctls},
    {"memory", nullptr, memory_a_vcpu},
};

// ---- the wrapping ------------------------------------------------------------------------------

int32_t vm_created(void* ctx, const vmm_vm* vm, void** vm_ctx, vmm_error* error) {
  if (planted_in_vm_created != nullptr) planted_in_vm_created(*vm);
  return wrapped.hooks.vm_created(ctx, vm, vm_ctx, error);
}

int32_t vcpu_reset(void* ctx, void* vm_ctx, const vmm_vcpu* vcpu) {
  if (planted_in_reset != nullptr) planted_in_reset(*vcpu);
  return wrapped.hooks.vcpu_reset(ctx, vm_ctx, vcpu);
}

int32_t register_hooks(void* host_ctx, const vmm_hooks* hooks, void* ctx) {
  wrapped.hooks = *hooks;
  vmm_hooks ours = *hooks;
  ours.vm_created = vm_created;
  ours.vcpu_reset = vcpu_reset;
  return wrapped.real_host->register_hooks(host_ctx, &ours, ctx);
}

int32_t create(const vmm_host* host, const char* options, void** ctx, vmm_error* error) {
  const char* const name = std::getenv("BENCH_PLANTED");
  bool known = false;
  for (const auto& plant : kPlants)
    if (plant.name == (name != nullptr ? name : "")) {
      planted_in_reset = plant.in_reset;
      planted_in_vm_created = plant.in_vm_created;
      known = true;
    }
  if (!known) return -EINVAL;
  if (wrapped.plugin == nullptr) {
    void* const library = dlopen(SVM_PMU_FILE, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return -ENOENT;
    wrapped.plugin = reinterpret_cast<vmm_plugin_entry>(dlsym(library, VMM_PLUGIN_ENTRY_NAME))();
  }
  wrapped.real_host = host;
  wrapped.host = *host;
  wrapped.host.register_hooks = register_hooks;
  return wrapped.plugin->create(&wrapped.host, options, ctx, error);
}

void destroy(void* ctx) { wrapped.plugin->destroy(ctx); }

constexpr vmm_plugin kDescriptor = {
    .struct_size = sizeof(vmm_plugin),
    .abi_major = VMM_PLUGIN_ABI_MAJOR,
    .abi_minor = VMM_PLUGIN_ABI_MINOR,
    .flags = 0,
    .name = "planted",
    .version = "1.0.0",
    .description = "svm_pmu with a planted fault",
    .options_help = nullptr,
    .create = create,
    .destroy = destroy,
    .get_extension = nullptr,
};

}  // namespace

extern "C" const vmm_plugin* vmm_plugin_v1(void) { return &kDescriptor; }
