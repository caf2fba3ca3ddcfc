// SPDX-License-Identifier: MIT
//
// A VM of the simulated KVM: its vPMU switch, its interrupt controller, its MSR filter, and the
// vCPUs' numbers. One lock for all of it, as kvm->lock.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>

#include "kvm/kvm.hpp"
#include "sim/msr_filter.hpp"
#include "sim/sim_host.hpp"
#include "vmm/kvm_uapi.h"

namespace host_stub {

class SimVm final : public Vm {
 public:
  explicit SimVm(const SimHost& host);

  int32_t ioctl(uint32_t request, void* arg) override;
  tl::expected<std::unique_ptr<Vcpu>, int32_t> create_vcpu(uint32_t id) override;

  /// The filter in force; never null. A vCPU asks at each guest access.
  std::shared_ptr<const MsrFilter> msr_filter() const;

 private:
  int32_t enable_cap(const kvm_enable_cap& cap);
  int32_t enable_pmu_capability(const kvm_enable_cap& cap);
  int32_t create_irqchip();
  int32_t set_msr_filter(const kvm_msr_filter& request);
  int32_t precreate_mediated_pmu();

  const SimHost& host_;
  mutable std::mutex mutex_;
  bool enable_pmu_;
  bool mediated_created_ = false;
  bool irqchip_ = false;         ///< local APICs are in the kernel
  std::set<uint32_t> vcpu_ids_;  ///< of all vCPUs ever made: closing one frees no number
  std::shared_ptr<const MsrFilter> filter_ = std::make_shared<const MsrFilter>();
};

}  // namespace host_stub
