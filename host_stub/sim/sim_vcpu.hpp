// SPDX-License-Identifier: MIT
//
// A vCPU of the simulated KVM, with what only a simulation can show: the perf events that KVM keeps
// on the host for it. Get at one with sim_vcpu(vcpu).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "kvm/kvm.hpp"
#include "sim/lapic.hpp"
#include "sim/pmu.hpp"
#include "sim/sim_host.hpp"
#include "vmm/kvm_uapi.h"

namespace host_stub {

class SimVm;

class SimVcpu final : public Vcpu {
 public:
  /// State of the VM that is settled once a vCPU exists.
  struct Setup {
    bool vpmu_on;
    bool mediated;
    bool irqchip;
  };

  SimVcpu(const SimHost& host, const SimVm& vm, uint32_t id, Setup setup);

  int32_t ioctl(uint32_t request, void* arg) override;
  tl::expected<uint64_t, GuestFault> guest_rdmsr(uint32_t msr) override;
  tl::expected<void, GuestFault> guest_wrmsr(uint32_t msr, uint64_t value) override;
  tl::expected<uint64_t, GuestFault> guest_rdpmc(uint32_t counter) override;

  /// Each call is one sched-in of the vCPU. Every event counts one a cycle.
  GuestRun guest_run(uint64_t cycles) override;

  /// Without an in-kernel interrupt controller the APIC is the VMM's, and this is ignored.
  void guest_write_lvtpc(uint32_t value) override;

  // ---- what no real vCPU shows
  uint32_t live_events() const { return pmu_.live_events(); }
  const Pmu& pmu() const { return pmu_; }
  uint32_t lvtpc() const { return lapic_ ? lapic_->lvtpc() : Lapic::kMasked; }

 private:
  MsrRead read_msr(uint32_t msr, Access access) const;
  MsrVerdict write_msr(uint32_t msr, uint64_t value, Access access);
  bool reads_zero(uint32_t msr, MsrVerdict verdict, Access access) const;
  bool takes(uint32_t msr, uint64_t value, MsrVerdict verdict, Access access) const;
  int32_t get_msrs(void* arg) const;
  int32_t set_msrs(void* arg);
  int32_t set_cpuid2(const void* arg);
  int32_t get_cpuid2(void* arg) const;
  int32_t lapic_ioctl(uint32_t request, void* arg);
  int32_t sregs2_ioctl(uint32_t request, void* arg);
  int32_t stored_ioctl(uint32_t request, void* arg);

  const SimHost& host_;
  const SimVm& vm_;
  Pmu pmu_;
  std::optional<Lapic> lapic_;
  bool has_run_ = false;
  std::vector<kvm_cpuid_entry2> cpuid_;
  std::unordered_map<uint32_t, uint64_t> other_msrs_;
  std::map<uint32_t, std::vector<uint8_t>> stored_;  ///< by number of the KVM_GET_ ioctl
};

/// The simulated vCPU behind the interface; null: it is another backend's (or decorated).
inline SimVcpu* sim_vcpu(Vcpu* vcpu) { return dynamic_cast<SimVcpu*>(vcpu); }

}  // namespace host_stub
