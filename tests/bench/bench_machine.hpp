// SPDX-License-Identifier: MIT
//
// A VM for measurements: the plugin in a host as thin as a host can be, on /dev/kvm, on a simulated
// KVM, or on none. Between the plugin and KVM stand one function of C and the ioctl, so what is
// measured is the plugin. What goes wrong while it is put together throws std::runtime_error.
#pragma once

#include <vmm/plugin.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kvm/kvm.hpp"
#include "kvm/msr_request.hpp"
#include "stub_vmm/guest_cpuid.hpp"

namespace bench {

/// Instead of a KVM's spec: vCPU ioctls succeed at once and do nothing. What is left is the plugin.
inline constexpr const char* kNoKvm = "none";

/// A host's table of vmm/plugin.h with one instance of a plugin behind it.
class BenchHost {
 public:
  /// `plugin` and `cpuid` (what get_cpuid answers) must outlive the host.
  BenchHost(const vmm_plugin& plugin, const char* options, const host_stub::GuestCpuidTable& cpuid);
  ~BenchHost();
  BenchHost(const BenchHost&) = delete;
  BenchHost& operator=(const BenchHost&) = delete;

  const vmm_host& table() const { return table_; }
  const vmm_hooks& hooks() const { return hooks_; }
  void* ctx() const { return ctx_; }

  uint32_t vm_ioctls = 0;              ///< that the plugin made
  bool keep_written = false;           ///< note what KVM_SET_MSRS writes; one thread only
  std::vector<kvm_msr_entry> written;  ///< by the last one noted

 private:
  static BenchHost& self(void* host_ctx) { return *static_cast<BenchHost*>(host_ctx); }
  static int32_t register_hooks(void* host_ctx, const vmm_hooks* hooks, void* ctx);
  static int32_t vm_ioctl(void* host_ctx, vmm_vm_handle vm, uint32_t request, void* arg);
  static int32_t vcpu_ioctl(void* host_ctx, vmm_vcpu_handle vcpu, uint32_t request, void* arg);
  static int32_t get_cpuid(void* host_ctx, vmm_vm_handle vm, vmm_vcpu_handle vcpu, uint32_t leaf,
                           uint32_t subleaf, uint32_t registers[4]);

  const vmm_plugin& plugin_;
  const host_stub::GuestCpuidTable& cpuid_;
  vmm_host table_{};
  vmm_hooks hooks_{};
  void* ctx_ = nullptr;
};

struct MachineSpec {
  std::string kvm = "sim:linux-6.12";  ///< kNoKvm, or as in open_kvm
  std::string cpuid = "core";          ///< as in CpuidModel::parse
  // NOLINTNEXTLINE(readability-redundant-string-init): g++ warns of what is left out without one
  std::string options = "";  ///< of the plugin
  uint32_t vcpus = 1;
};

/// One VM with its vCPUs, each reset twice already: what the plugin learns of this KVM it knows.
/// Different vCPUs may be used from different threads.
class BenchMachine {
 public:
  BenchMachine(const vmm_plugin& plugin, const MachineSpec& spec);
  BenchMachine(const BenchMachine&) = delete;
  BenchMachine& operator=(const BenchMachine&) = delete;

  uint32_t vcpus() const { return static_cast<uint32_t>(handles_.size()); }
  BenchHost& host() { return *host_; }

  /// The hook, as a VMM calls it.
  int32_t reset(uint32_t vcpu, const vmm_msr_sink* batch = nullptr) const {
    const vmm_vcpu context{sizeof(vmm_vcpu), vcpu, 0, 0, handles_[vcpu], batch};
    return host_->hooks().vcpu_reset(host_->ctx(), vm_ctx_.get(), &context);
  }

  /// The same KVM_SET_MSRS without the plugin: what the last reset of vCPU 0 wrote, entry by entry.
  /// The result of the ioctl: how many MSRs KVM took.
  int32_t write_bare(uint32_t vcpu) {
    return vcpu_at(vcpu).ioctl(VMM_KVM_SET_MSRS, written_.arg());
  }
  /// The same through the host's callback, as the plugin does it.
  int32_t write_by_callback(uint32_t vcpu) {
    const vmm_host& table = host_->table();
    return table.vcpu_ioctl(table.host_ctx, handles_[vcpu], VMM_KVM_SET_MSRS, written_.arg());
  }
  /// The same with one ioctl a register, the naive way. How many MSRs KVM took.
  int32_t write_one_by_one(uint32_t vcpu);

  /// What a reset writes on this machine.
  uint32_t registers() const { return written_.size(); }
  std::span<const kvm_msr_entry> entries() { return written_.entries(); }

 private:
  struct EndVm {
    BenchHost* host;
    void operator()(void* vm_ctx) const { host->hooks().vm_destroyed(host->ctx(), vm_ctx); }
  };

  host_stub::Vcpu& vcpu_at(uint32_t index) const {
    return *reinterpret_cast<host_stub::Vcpu*>(handles_[index]);
  }
  void reset_once(uint32_t vcpu) const;

  std::unique_ptr<host_stub::Kvm> kvm_;
  std::optional<host_stub::GuestCpuidTable> cpuid_;
  std::unique_ptr<BenchHost> host_;
  std::unique_ptr<host_stub::Vm> vm_;
  std::vector<std::unique_ptr<host_stub::Vcpu>> vcpus_;
  std::vector<vmm_vcpu_handle> handles_;
  std::unique_ptr<void, EndVm> vm_ctx_;
  host_stub::MsrRequest written_;
  std::vector<host_stub::MsrRequest> single_;  // one each
};

}  // namespace bench
