// SPDX-License-Identifier: MIT
//
// A small VMM that calls the hooks of vmm/plugin.h where a real one does: one VM on any KVM
// backend, its vCPUs, resets, save and restore. It is a host_kit::Host, so the ioctls of plugins go
// to the same backend.
//
// Threads: one thread drives it; with parallel_reset a reset uses one thread a vCPU.
#pragma once

#include <vmm/plugin.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "host_kit/host.hpp"
#include "host_kit/msr_state.hpp"
#include "host_kit/plugin_instance.hpp"
#include "host_kit/plugin_library.hpp"
#include "kvm/kvm.hpp"
#include "stub_vmm/event.hpp"
#include "stub_vmm/guest_cpuid.hpp"
#include "stub_vmm/linux_guest.hpp"

namespace host_stub {

struct PluginSpec {
  std::string path;
  std::string options;
};

/// What a VMM does to the PMU by itself, beside the hooks.
enum class VmmKind : uint8_t {
  stub,         ///< nothing
  qemu_11,      ///< QEMU 11: registers written at each reset, aborts if one is refused; with
                ///< pmu=off the capability, and no write
  enables_pmu,  ///< KVM_ENABLE_CAP(KVM_CAP_PMU_CAPABILITY, 0) before its first vCPU
};

struct VmmConfig {
  VmmKind kind = VmmKind::stub;
  uint32_t guest_pmu = VMM_GUEST_PMU_UNSAID;  ///< what the user said of the guest's PMU
  uint32_t vcpus = 1;
  bool irqchip = true;          ///< KVM_CREATE_IRQCHIP
  bool batch = false;           ///< lend plugins a KVM_SET_MSRS batch at a reset
  bool msr_filter = false;      ///< the VMM has an MSR filter of its own, and offers deny_msrs
  bool parallel_reset = false;  ///< each vCPU is reset by a thread of its own
  CpuidModel cpuid;
  GuestKernel guest_kernel;
  std::vector<PluginSpec> plugins;
  /// The guest's CPUID where it is not for `cpuid` to say: of a guest that comes from another host.
  std::optional<GuestCpuidTable> guest_cpuid;
};

/// Why a VM could not be made, or a step could not be done.
struct VmmError {
  int32_t code = 0;  ///< negated errno
  std::string text;
};
template <typename T>
using VmmResult = tl::expected<T, VmmError>;

class StubVmm final : public host_kit::Host {
 public:
  /// Loads the plugins, makes the VM and its vCPUs, and puts them into their first reset.
  /// `kvm` must outlive the VMM; `events` may be empty.
  static VmmResult<std::unique_ptr<StubVmm>> create(Kvm& kvm, const VmmConfig& config,
                                                    EventSink events);
  ~StubVmm() override;

  /// A machine reset: every vCPU's registers and local APIC, then vcpu_reset for each.
  VmmResult<void> reset();

  /// The MSRs that plugins list, of every vCPU.
  using VmState = std::vector<std::vector<host_kit::SavedMsr>>;
  VmmResult<VmState> save();
  /// Restores by this VM's own list; what is dropped is one warning for the VM.
  VmmResult<void> restore(const VmState& state);

  /// All that a snapshot or a migration takes along: registers, MSRs by plugins' lists, and what is
  /// in the guest's memory.
  struct MachineState;
  VmmResult<MachineState> save_machine();
  /// Loads it, as after a reset of this VM. The vCPUs must be as many.
  VmmResult<void> load_machine(const MachineState& state);

  /// Takes the last vCPU out and plugs it in again: its KVM vCPU stays, and is reset.
  VmmResult<void> replug();

  LinuxGuest& guest() { return *guest_; }
  Vcpu& vcpu(uint32_t index);
  Vm& vm() { return *vm_; }
  const std::vector<vmm_msr>& msr_list() const { return msr_list_; }
  const VmmConfig& config() const { return config_; }
  const GuestCpuidTable& guest_cpuid() const { return *cpuid_; }

  // host_kit::Host
  const char* name() const noexcept override;
  int32_t vm_ioctl(vmm_vm_handle vm, uint32_t request, void* arg) noexcept override;
  int32_t vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) noexcept override;
  void log(uint32_t level, std::string_view source, std::string_view message) noexcept override;
  int32_t get_cpuid(vmm_vm_handle vm, vmm_vcpu_handle vcpu, uint32_t leaf, uint32_t subleaf,
                    std::span<uint32_t, 4> registers) noexcept override;
  bool has_msr_filter() const noexcept override { return config_.msr_filter; }
  int32_t deny_msrs(vmm_vm_handle vm, std::span<const vmm_msr_range> ranges) noexcept override;
  bool has_cpuid_hiding() const noexcept override { return true; }
  int32_t hide_cpuid(vmm_vm_handle vm, std::span<const vmm_cpuid_bits> bits) noexcept override;
  int32_t get_supported_cpuid(vmm_vm_handle vm, uint32_t leaf, uint32_t subleaf,
                              std::span<uint32_t, 4> registers) noexcept override;
  uint32_t guest_pmu_wanted(vmm_vm_handle) noexcept override { return config_.guest_pmu; }

 private:
  /// A vCPU's state as KVM_GET_* tells it.
  struct VcpuState {
    kvm_regs regs{};
    kvm_sregs sregs{};
    kvm_mp_state mp_state{};
    std::optional<kvm_lapic_state> lapic;
  };
  /// A vCPU and the state that KVM gave it at its creation, which is its reset state.
  struct VcpuRecord;

  StubVmm(Kvm& kvm, const VmmConfig& config, EventSink events);
  VmmResult<void> make_cpuid();
  VmmResult<void> load_plugins();
  VmmResult<void> create_vm();
  VmmResult<void> create_vcpu(uint32_t index);
  VmmResult<void> set_pmu_capability();
  VmmResult<VcpuState> get_state(Vcpu& vcpu) const;
  static VmmResult<void> set_state(Vcpu& vcpu, const VcpuState& state);
  VmmResult<void> build_msr_list();
  VmmResult<void> reset_vcpu(VcpuRecord& record);
  VmmResult<void> call_vcpu_reset(VcpuRecord& record);
  VmmResult<void> write_pmu_as_qemu_11(VcpuRecord& record);
  int32_t set_filter() noexcept;
  void log_refused(uint32_t vcpu, const std::vector<vmm_msr>& refused);
  void emit(const Event& event) noexcept;
  void hook_event(const char* name, std::string text, int32_t result) noexcept;

  Kvm& kvm_;
  const VmmConfig config_;
  EventSink events_;
  std::mutex events_mutex_;
  std::unique_ptr<GuestCpuidTable> supported_;  ///< as KVM says
  std::unique_ptr<GuestCpuidTable> cpuid_;      ///< the guest's
  std::vector<host_kit::PluginLibrary> libraries_;
  std::vector<std::unique_ptr<host_kit::PluginInstance>> plugins_;
  std::unique_ptr<Vm> vm_;
  std::vector<std::unique_ptr<VcpuRecord>> vcpus_;
  std::vector<std::unique_ptr<host_kit::PluginVm>> plugin_vms_;
  std::vector<vmm_msr> msr_list_;
  std::vector<vmm_msr_range> denied_;
  std::mutex refused_mutex_;
  std::set<uint32_t> refused_;  ///< MSRs that KVM refused in a reset batch, said once
  std::unique_ptr<LinuxGuest> guest_;
};

struct StubVmm::MachineState {
  VmState msrs;
  std::vector<VcpuState> vcpus;
  LinuxGuest::Memory memory;
};

}  // namespace host_stub
