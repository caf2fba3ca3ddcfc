// SPDX-License-Identifier: MIT
//
// A KVM of the host stub's, a simulated one as a rule, as the operator's tool asks it.
#pragma once

#include <memory>
#include <utility>

#include "kvm/kvm.hpp"
#include "tool/kvm.hpp"

namespace host_stub {

class ProbedVcpu final : public svm_pmu::tool::Vcpu {
 public:
  explicit ProbedVcpu(std::unique_ptr<host_stub::Vcpu> vcpu) : vcpu_(std::move(vcpu)) {}
  int32_t ioctl(uint32_t request, void* arg) override { return vcpu_->ioctl(request, arg); }

 private:
  std::unique_ptr<host_stub::Vcpu> vcpu_;
};

class ProbedVm final : public svm_pmu::tool::Vm {
 public:
  explicit ProbedVm(std::unique_ptr<host_stub::Vm> vm) : vm_(std::move(vm)) {}
  int32_t ioctl(uint32_t request, void* arg) override { return vm_->ioctl(request, arg); }
  tl::expected<std::unique_ptr<svm_pmu::tool::Vcpu>, int32_t> create_vcpu(uint32_t id) override {
    auto vcpu = vm_->create_vcpu(id);
    if (!vcpu) return tl::unexpected(vcpu.error());
    return std::make_unique<ProbedVcpu>(std::move(*vcpu));
  }

 private:
  std::unique_ptr<host_stub::Vm> vm_;
};

class ProbedKvm final : public svm_pmu::tool::Kvm {
 public:
  /// `kvm` must outlive it.
  explicit ProbedKvm(host_stub::Kvm& kvm) : kvm_(kvm) {}
  int32_t ioctl(uint32_t request, void* arg) override { return kvm_.ioctl(request, arg); }
  tl::expected<std::unique_ptr<svm_pmu::tool::Vm>, int32_t> create_vm() override {
    auto vm = kvm_.create_vm();
    if (!vm) return tl::unexpected(vm.error());
    return std::make_unique<ProbedVm>(std::move(*vm));
  }
  svm_pmu::tool::HostInfo host_info() const override {
    const host_stub::HostInfo info = kvm_.host_info();
    return {info.kernel, info.enable_pmu};
  }
  std::string name() const override { return kvm_.name(); }

 private:
  host_stub::Kvm& kvm_;
};

}  // namespace host_stub
