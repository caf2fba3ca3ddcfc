// SPDX-License-Identifier: MIT
//
// The built plugin on a simulated KVM, the way a host drives it: loaded as a file, behind host_kit,
// with faults and a recorder around the KVM. What a test looks at or prepares goes past both.
#pragma once

#include <vmm/plugin.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "host_kit/host.hpp"
#include "host_kit/plugin_instance.hpp"
#include "kvm/kvm.hpp"
#include "kvm/recorder.hpp"
#include "sim/sim_vcpu.hpp"
#include "stub_vmm/guest_cpuid.hpp"

namespace host_stub {

/// An event selector as a guest's watchdog leaves it: cycles, OS and USR, INT, EN.
inline constexpr uint64_t kStaleSelector = 0x530076;

inline const char* plugin_path() {
  const char* named = std::getenv("SVM_PMU_TEST_PLUGIN");
  return named != nullptr ? named : TEST_BUILD_DIR "/plugin/svm_pmu.so";
}
/// The plugin's file, the one that was built or another form of it; and its descriptor: loaded at
/// the first call, for the rest of the program.
inline const char* const kPluginPath = plugin_path();
const vmm_plugin& plugin_descriptor();

/// A simulated KVM, as open_sim; nullptr: no such one. newest_sim(): its vCPU that this thread made
/// last, below all decorators.
std::unique_ptr<Kvm> open_tapped_sim(const std::string& spec);
SimVcpu* newest_sim();

/// The plugin, but its hosts' tables are edited before it sees them.
template <void (*edit)(vmm_host&)>
vmm_plugin plugin_with_edited_host() {
  vmm_plugin descriptor = plugin_descriptor();
  descriptor.create = [](const vmm_host* host, const char* options, void** ctx, vmm_error* error) {
    static vmm_host edited;  // to stay valid until destroy
    edited = *host;
    edit(edited);
    return plugin_descriptor().create(&edited, options, ctx, error);
  };
  return descriptor;
}

struct HostSpec {
  std::string kvm = "sim:linux-6.12";  ///< as in open_sim
  std::string cpuid = "core";          ///< of the guests, as in CpuidModel::parse
  // NOLINTNEXTLINE(readability-redundant-string-init): g++ warns of what is left out without one
  std::string faults = "";  ///< as in parse_faults
  bool record = true;       ///< the recorder allocates
  bool own_filter = false;  ///< the host offers deny_msrs
  bool irqchip = true;      ///< VMs have an in-kernel interrupt controller
  std::optional<int32_t> hide_result = std::nullopt;  ///< the host offers hide_cpuid, which says so
};

struct LogLine {
  uint32_t level;
  std::string text;
};

/// A host of the plugin: any number of VMs on one KVM. Any thread.
class PluginHost final : public host_kit::Host {
 public:
  explicit PluginHost(const HostSpec& spec);

  Kvm& kvm() { return *kvm_; }
  const GuestCpuidTable& cpuid() const { return *cpuid_; }
  bool irqchip() const { return irqchip_; }

  // ---- what happened
  std::vector<LogLine> log_lines() const;
  /// Number of lines of that level (0: any) that hold all these parts.
  std::size_t logged(uint32_t level, std::initializer_list<std::string_view> parts) const;
  /// ioctls of that name that the plugin (or anything behind the recorder) made; "": all.
  std::vector<IoctlEvent> ioctls(std::string_view wanted = "") const;
  void forget();

  // ---- what the plugin is told; to be set while no hook runs
  bool cpuid_known = true;
  std::optional<uint32_t> unknown_leaf;
  std::map<uint32_t, CpuidResult> other_cpuid;  ///< leaves that differ from the guest's real ones
  std::map<vmm_vcpu_handle, std::map<uint32_t, CpuidResult>> vcpu_cpuid;  ///< of one vCPU alone
  /// Answers vCPU ioctls in the KVM's stead; nothing: ask the KVM.
  std::function<std::optional<int32_t>(uint32_t request, void* arg)> vcpu_answer;
  std::function<int32_t(std::span<const vmm_msr_range>)> deny;
  std::vector<vmm_cpuid_bits> hidden;  ///< what the plugin hid
  bool keep_log = true;                ///< keeping lines allocates

  // ---- host_kit::Host
  const char* name() const noexcept override { return "plugin_fixture"; }
  int32_t vm_ioctl(vmm_vm_handle vm, uint32_t request, void* arg) noexcept override;
  int32_t vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) noexcept override;
  void log(uint32_t level, std::string_view source, std::string_view message) noexcept override;
  int32_t get_cpuid(vmm_vm_handle vm, vmm_vcpu_handle vcpu, uint32_t leaf, uint32_t subleaf,
                    std::span<uint32_t, 4> registers) noexcept override;
  bool has_msr_filter() const noexcept override { return own_filter_; }
  int32_t deny_msrs(vmm_vm_handle vm, std::span<const vmm_msr_range> ranges) noexcept override;
  bool has_cpuid_hiding() const noexcept override { return hide_result_.has_value(); }
  int32_t hide_cpuid(vmm_vm_handle vm, std::span<const vmm_cpuid_bits> bits) noexcept override;

 private:
  const std::optional<int32_t> hide_result_;
  const bool own_filter_;
  const bool irqchip_;
  std::unique_ptr<Kvm> kvm_;
  std::optional<GuestCpuidTable> cpuid_;
  mutable std::mutex mutex_;
  std::vector<LogLine> log_;
  std::vector<IoctlEvent> ioctls_;
};

/// An instance of the plugin. Throws if it cannot be made.
std::unique_ptr<host_kit::PluginInstance> make_plugin(
    PluginHost& host, const char* options = "", const vmm_plugin& descriptor = plugin_descriptor());

/// One VM with the plugin at work in it. Throws if it cannot be made.
class Machine {
 public:
  Machine(PluginHost& host, host_kit::PluginInstance& plugin, uint32_t vcpus = 2);
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  host_kit::PluginVm& hooks() { return *hooks_; }
  vmm_vcpu_handle handle(uint32_t vcpu) const;
  SimVcpu& sim(uint32_t vcpu) const { return *sims_[vcpu]; }
  int32_t reset(uint32_t vcpu, const vmm_msr_sink* batch = nullptr);

  // ---- registers, by KVM_GET_MSRS and KVM_SET_MSRS of one entry; neither recorded nor faulty
  std::optional<uint64_t> read(uint32_t vcpu, uint32_t msr) const;
  bool write(uint32_t vcpu, uint32_t msr, uint64_t value) const;

  /// Gives every PMU register that takes one a value, as a guest that was counting leaves them;
  /// with `counters` only those of the first so many counters, and the global ones.
  void dirty(uint32_t vcpu, uint32_t counters = 6) const;
  /// The PMU registers that are not as after RESET, "c0010200=530076 ..."; "" = all are.
  std::string stale(uint32_t vcpu) const;

 private:
  std::unique_ptr<Vm> vm_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
  std::vector<SimVcpu*> sims_;  // behind vcpus_
  std::unique_ptr<host_kit::PluginVm> hooks_;
};

/// One host, one instance, one VM.
struct Rig {
  explicit Rig(const HostSpec& spec = {}, const char* options = "", uint32_t vcpus = 2)
      : host(spec), plugin(make_plugin(host, options)), vm(host, *plugin, vcpus) {}
  PluginHost host;
  std::unique_ptr<host_kit::PluginInstance> plugin;
  Machine vm;
};

/// The least table of a host, for calls that host_kit does not make. ioctls fail with EBADF.
struct RawHost {
  RawHost();
  RawHost(const RawHost&) = delete;
  RawHost& operator=(const RawHost&) = delete;

  vmm_host table{};
  int32_t answer = 0;  ///< of register_hooks
  vmm_hooks hooks{};   ///< what was registered
  void* ctx = nullptr;
  char last_line[512] = "";  ///< of the log
};

/// A text buffer for errors.
struct ErrorText {
  char text[256] = "";
  vmm_error error{sizeof(vmm_error), sizeof text, text};
};

/// Every PMU MSR of AMD that keeps a value, in any bank.
std::span<const uint32_t> pmu_msrs();
bool is_selector(uint32_t msr);

/// What a reset must write, in its order, independently of the plugin's own tables.
struct Plan {
  enum Bank : uint8_t { nothing, legacy, extended } bank = nothing;
  uint32_t counters = 0;
  bool global = false;
  uint64_t global_ctl = 0;  ///< after the reset
};
std::vector<vmm_msr> writes_of(const Plan& plan);

/// "c0010200=0 c0010201=0": of entries, and of a recorded KVM_GET_MSRS or KVM_SET_MSRS.
std::string text_of(std::span<const vmm_msr> entries);
std::string text_of(const IoctlEvent& event);

inline bool says(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace host_stub
