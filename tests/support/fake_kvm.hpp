// SPDX-License-Identifier: MIT
//
// The least that looks like KVM: MSRs in a map, every other ioctl succeeds. For tests of what is
// put around a Kvm; it knows nothing of a PMU.
#pragma once

#include <cerrno>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "kvm/kvm.hpp"
#include "kvm/msr_request.hpp"

namespace host_stub {

/// What all of one FakeKvm share, and a test looks into.
struct FakeState {
  std::map<uint32_t, uint64_t> msrs;  ///< of vCPU 0; an MSR never written reads 0
  std::set<uint32_t> refused;         ///< MSRs that KVM_GET_MSRS and KVM_SET_MSRS stop at
  uint32_t ioctls = 0;                ///< that reached it, KVM_CREATE_* too
};

class FakeVcpu final : public Vcpu {
 public:
  explicit FakeVcpu(FakeState& state) : state_(state) {}

  int32_t ioctl(uint32_t request, void* arg) override {
    ++state_.ioctls;
    if (!is_msr_request(request)) return 0;
    int32_t done = 0;
    for (kvm_msr_entry& entry : msr_entries(arg)) {
      if (state_.refused.contains(entry.index)) break;
      if (request == VMM_KVM_SET_MSRS) state_.msrs[entry.index] = entry.data;
      if (request == VMM_KVM_GET_MSRS) entry.data = state_.msrs[entry.index];
      ++done;
    }
    return done;
  }
  tl::expected<uint64_t, GuestFault> guest_rdmsr(uint32_t msr) override { return state_.msrs[msr]; }
  tl::expected<void, GuestFault> guest_wrmsr(uint32_t msr, uint64_t value) override {
    state_.msrs[msr] = value;
    return {};
  }
  tl::expected<uint64_t, GuestFault> guest_rdpmc(uint32_t) override { return 0; }
  GuestRun guest_run(uint64_t cycles) override { return {.cycles = cycles, .nmi = false}; }
  void guest_write_lvtpc(uint32_t) override {}

 private:
  FakeState& state_;
};

class FakeVm final : public Vm {
 public:
  explicit FakeVm(FakeState& state) : state_(state) {}

  int32_t ioctl(uint32_t, void*) override {
    ++state_.ioctls;
    return 0;
  }
  tl::expected<std::unique_ptr<Vcpu>, int32_t> create_vcpu(uint32_t) override {
    ++state_.ioctls;
    return std::make_unique<FakeVcpu>(state_);
  }

 private:
  FakeState& state_;
};

class FakeKvm final : public Kvm {
 public:
  explicit FakeKvm(FakeState& state) : state_(state) {}

  int32_t ioctl(uint32_t, void*) override {
    ++state_.ioctls;
    return 0;
  }
  tl::expected<std::unique_ptr<Vm>, int32_t> create_vm() override {
    ++state_.ioctls;
    return std::make_unique<FakeVm>(state_);
  }
  HostInfo host_info() const override { return {.kernel = "fake", .enable_pmu = "?"}; }
  std::string name() const override { return "fake"; }

 private:
  FakeState& state_;
};

}  // namespace host_stub
