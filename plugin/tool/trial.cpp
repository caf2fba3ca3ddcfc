// SPDX-License-Identifier: MIT
#include "tool/trial.hpp"

#include <vmm/kvm_uapi.h>

#include <cerrno>
#include <span>
#include <string_view>

#include "host_kit/hidden_cpuid.hpp"
#include "host_kit/host.hpp"
#include "host_kit/msr_filter.hpp"
#include "host_kit/one_msr.hpp"
#include "host_kit/plugin_instance.hpp"
#include "tool/cpuid.hpp"

namespace svm_pmu::tool {
namespace {

class TrialHost final : public host_kit::Host {
 public:
  TrialHost(host_kit::CpuidTable& cpuid, std::vector<PluginLine>& lines)
      : supported_(cpuid), cpuid_(cpuid), lines_(lines) {}

  static vmm_vm_handle handle(Vm& vm) { return reinterpret_cast<vmm_vm_handle>(&vm); }
  static vmm_vcpu_handle handle(Vcpu& vcpu) { return reinterpret_cast<vmm_vcpu_handle>(&vcpu); }

  const char* name() const noexcept override { return "svm-pmu " SVM_PMU_VERSION; }
  int32_t vm_ioctl(vmm_vm_handle vm, uint32_t request, void* arg) noexcept override {
    return reinterpret_cast<Vm*>(vm)->ioctl(request, arg);
  }
  int32_t vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) noexcept override {
    return reinterpret_cast<Vcpu*>(vcpu)->ioctl(request, arg);
  }
  void log(uint32_t level, std::string_view, std::string_view message) noexcept override {
    lines_.push_back({level, std::string(message)});
  }
  int32_t get_cpuid(vmm_vm_handle, vmm_vcpu_handle, uint32_t leaf, uint32_t subleaf,
                    std::span<uint32_t, 4> registers) noexcept override {
    cpuid_.lookup(leaf, subleaf, registers);
    return 0;
  }
  bool has_cpuid_hiding() const noexcept override { return true; }
  int32_t hide_cpuid(vmm_vm_handle, std::span<const vmm_cpuid_bits> bits) noexcept override;
  int32_t get_supported_cpuid(vmm_vm_handle, uint32_t leaf, uint32_t subleaf,
                              std::span<uint32_t, 4> registers) noexcept override {
    supported_.lookup(leaf, subleaf, registers);
    return 0;
  }
  uint32_t guest_pmu_wanted(vmm_vm_handle) noexcept override { return VMM_GUEST_PMU_OFF; }
  bool has_msr_filter() const noexcept override { return true; }
  int32_t deny_msrs(vmm_vm_handle vm, std::span<const vmm_msr_range> ranges) noexcept override;

 private:
  const host_kit::CpuidTable supported_;
  host_kit::CpuidTable& cpuid_;  ///< the guest's
  std::vector<PluginLine>& lines_;
};

int32_t TrialHost::hide_cpuid(vmm_vm_handle, std::span<const vmm_cpuid_bits> bits) noexcept try {
  host_kit::HiddenCpuid hidden;
  const int32_t result = hidden.add(bits);
  if (result == 0) hidden.clear_in(cpuid_.entries());
  return result;
} catch (const std::bad_alloc&) {
  return -ENOSPC;
}

int32_t TrialHost::deny_msrs(vmm_vm_handle vm, std::span<const vmm_msr_range> ranges) noexcept try {
  host_kit::DenyList denied;
  return host_kit::deny_msrs(*this, vm, denied, ranges);
} catch (const std::bad_alloc&) {
  return -ENOMEM;
}

/// The VMM's part: a vCPU, its CPUID, a counter that holds something, a reset.
void play_vcpu(Vm& vm, const host_kit::CpuidTable& cpuid, const host_kit::PluginVm& plugin,
               Trial& trial) {
  const auto failed = [&](int32_t code) {
    trial.counter = {code == -EBUSY ? CounterState::busy : CounterState::not_created, code};
  };
  if (const int32_t result = vm.ioctl(KVM_CREATE_IRQCHIP, nullptr); result < 0)
    return failed(result);
  const auto vcpu = vm.create_vcpu(0);
  if (!vcpu) return failed(vcpu.error());
  if (const int32_t result = set_cpuid(**vcpu, cpuid); result < 0) return failed(result);
  const uint32_t marked = mark_a_counter(**vcpu);
  trial.reset_result = plugin.vcpu_reset(0, TrialHost::handle(**vcpu), nullptr);
  if (marked != 0) trial.cleared = host_kit::get_msr(**vcpu, marked) == uint64_t{0};
  trial.counter = ask_counter(**vcpu);
}

std::string with_log_level(const std::string& options) {
  if (options.find("log-level=") != std::string::npos) return options;
  return options.empty() ? "log-level=info" : options + ",log-level=info";
}

}  // namespace

Trial try_plugin(Kvm& kvm, const host_kit::PluginLibrary& plugin, const std::string& options) {
  Trial trial;
  trial.options = options;
  const auto refused = [&](int32_t code, std::string why) {
    trial.result = code;
    trial.error = std::move(why);
    return trial;
  };
  auto cpuid = supported_cpuid(kvm);
  if (!cpuid) return refused(-EIO, cpuid.error());
  TrialHost host(*cpuid, trial.lines);
  const auto instance =
      host_kit::PluginInstance::create(plugin.descriptor(), host, with_log_level(options).c_str());
  if (!instance) return refused(instance.error().code, instance.error().text);
  const auto vm = kvm.create_vm();
  if (!vm) return refused(vm.error(), "KVM_CREATE_VM failed");
  const auto view = host_kit::PluginVm::created(**instance, TrialHost::handle(**vm), 1);
  if (!view) return refused(view.error().code, view.error().text);
  play_vcpu(**vm, *cpuid, **view, trial);
  return trial;
}

}  // namespace svm_pmu::tool
