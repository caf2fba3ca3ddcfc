// SPDX-License-Identifier: MIT
//
// The C boundary: the descriptor, and a thunk for each function of the contract. Nothing else.
#include <vmm/plugin.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>

#include "abi_struct.hpp"
#include "host.hpp"
#include "options.hpp"
#include "pmu_off.hpp"
#include "pmu_reset.hpp"
#include "pmu_state.hpp"
#include "vm.hpp"
#include "vm_state.hpp"

namespace svm_pmu {
namespace {

/// One instance: constant after create, so every hook may read it on any thread.
struct Instance {
  Host host;
  Options options;
};

/// The most vCPUs that a host may announce for a VM; KVM's own limit of vCPU ids is far below it.
constexpr uint32_t kMaxVcpus = uint32_t{1} << 20;

/// Puts an error into the caller's buffer and returns its code.
int32_t report(vmm_error* out, const Error& error) noexcept {
  if (out != nullptr && out->struct_size >= kSizeV1_0<vmm_error> && out->message != nullptr &&
      out->capacity > 0) {
    const std::string_view text = utf8_prefix(error.text.view(), out->capacity - 1);
    out->message[text.copy(out->message, text.size())] = '\0';
  }
  return error.code;
}

/// Calls a body that may throw (sandbox levels S0 and S1) and returns codes only.
template <typename Body>
int32_t guarded(vmm_error* out, Body body) noexcept {
  try {
    const Expected<void> result = body();
    return result ? 0 : report(out, result.error());
  } catch (const std::bad_alloc&) {
    return report(out, {-ENOMEM, Text("out of memory")});
  } catch (const std::exception& error) {
    return report(out, {-EIO, Text() << "exception: " << error.what()});
  } catch (...) {
    return report(out, {-EIO, Text("unknown exception")});
  }
}

// ---- hooks -------------------------------------------------------------------------------------

int32_t vm_created(void* ctx, const vmm_vm* vm_in, void** vm_ctx, vmm_error* error) noexcept {
  return guarded(error, [&]() -> Expected<void> {
    const Instance& instance = *static_cast<const Instance*>(ctx);
    vmm_vm vm;
    if (!copy_struct(vm, vm_in) || vm.handle == nullptr || vm_ctx == nullptr)
      return fail(-EINVAL, Text("vm_created: the VM is NULL, too small or has no handle"));
    if (vm.max_vcpus == 0 || vm.max_vcpus > kMaxVcpus)
      return fail(-EINVAL, Text() << "vm_created: max_vcpus is " << vm.max_vcpus << ", not 1 to "
                                  << kMaxVcpus);
    const auto vpmu = apply_pmu_off(instance.host, instance.options, vm.handle);
    if (!vpmu) return tl::unexpected(vpmu.error());
    // NOLINTNEXTLINE(bugprone-unhandled-exception-at-new): guarded() catches it
    *vm_ctx = new Vm(instance.host, instance.options, vm, *vpmu);
    return {};
  });
}

void vm_destroyed(void*, void* vm_ctx) noexcept { delete static_cast<Vm*>(vm_ctx); }

int32_t msr_list_build(void*, void* vm_ctx, const vmm_vm*, const vmm_msr_sink* sink,
                       vmm_error* error) noexcept {
  return guarded(error, [&]() -> Expected<void> {
    if (vm_ctx == nullptr) return fail(-EINVAL, Text("msr_list_build: no vm_created before it"));
    return build_msr_list(*static_cast<const Vm*>(vm_ctx), sink);
  });
}

int32_t vcpu_reset(void* ctx, void* vm_ctx, const vmm_vcpu* vcpu_in) noexcept {
  vmm_vcpu vcpu;
  if (vm_ctx == nullptr || !copy_struct(vcpu, vcpu_in) || vcpu.handle == nullptr) {
    static_cast<const Instance*>(ctx)->host.log(
        VMM_LOG_ERROR, Text("vcpu_reset: the vCPU is NULL, too small, has no handle, or there was "
                            "no vm_created before it"));
    return -EINVAL;
  }
  return reset_vcpu(*static_cast<Vm*>(vm_ctx), vcpu);
}

// ---- create and destroy ------------------------------------------------------------------------

vmm_hooks wanted_hooks(const Options& options) noexcept {
  vmm_hooks hooks{};
  hooks.struct_size = sizeof hooks;
  hooks.vm_created = vm_created;
  hooks.vm_destroyed = vm_destroyed;
  hooks.msr_list_build = options.pmu_state ? msr_list_build : nullptr;
  hooks.vcpu_reset = options.pmu_reset ? vcpu_reset : nullptr;
  return hooks;
}

int32_t create(const vmm_host* table, const char* text, void** ctx, vmm_error* error) noexcept {
  return guarded(error, [&]() -> Expected<void> {
    auto host = Host::from(table);
    if (!host) return tl::unexpected(host.error());
    if (ctx == nullptr) return fail(-EINVAL, Text("create: ctx is NULL"));
    const auto options = parse_options(text);
    if (!options) return tl::unexpected(options.error());
    host->set_log_level(options->log_level);
    auto instance = std::make_unique<Instance>(Instance{*host, *options});
    const vmm_hooks hooks = wanted_hooks(*options);
    const int32_t result =
        table->register_hooks(table->host_ctx, &hooks, static_cast<void*>(instance.get()));
    if (result != 0)
      return fail(result < 0 ? result : -EPROTO,
                  Text() << "the host refuses the hooks: " << Errno{result});
    *ctx = instance.release();
    return {};
  });
}

void destroy(void* ctx) noexcept { delete static_cast<Instance*>(ctx); }

const void* get_extension(const char* id) noexcept {
  return id != nullptr && std::strcmp(id, VMM_VM_STATE_ID) == 0 ? &kVmStateExtension : nullptr;
}

constexpr vmm_plugin kDescriptor = {
    .struct_size = sizeof(vmm_plugin),
    .abi_major = VMM_PLUGIN_ABI_MAJOR,
    .abi_minor = VMM_PLUGIN_ABI_MINOR,
    .flags = 0,
    .name = "svm_pmu",
    .version = SVM_PMU_VERSION,
    .description =
        "disables and resets the virtual PMU of AMD guests, and lists its registers for saving",
    .options_help = kOptionsHelp,
    .create = create,
    .destroy = destroy,
    .get_extension = get_extension,
};

}  // namespace
}  // namespace svm_pmu

extern "C" const vmm_plugin* vmm_plugin_v1(void) { return &svm_pmu::kDescriptor; }
