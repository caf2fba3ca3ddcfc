// SPDX-License-Identifier: MIT
#include "kvm/intercept.hpp"

#include <atomic>
#include <cerrno>
#include <utility>

#include "vmm/kvm_uapi.h"

namespace host_stub {
namespace {

template <class T>
using Created = tl::expected<std::unique_ptr<T>, int32_t>;

// KVM_CREATE_* as an interceptable call: the object instead of a descriptor.
template <class T, class Create>
Created<T> intercept_creation(const IoctlIntercept& intercept, const IoctlCall& call,
                              const Create& create) {
  std::unique_ptr<T> object;
  const int32_t result = intercept(call, [&](void*) -> int32_t {
    Created<T> created = create();
    if (!created) return created.error();
    object = std::move(*created);
    return 0;
  });
  if (result < 0) return tl::unexpected(result);
  if (!object) return tl::unexpected(-EINVAL);
  return object;
}

class InterceptedVcpu final : public Vcpu {
 public:
  InterceptedVcpu(std::unique_ptr<Vcpu> inner, const IoctlIntercept& intercept,
                  const IoctlCall& call)
      : inner_(std::move(inner)), intercept_(intercept), call_(call) {}

  int32_t ioctl(uint32_t request, void* arg) override {
    IoctlCall call = call_;
    call.request = request;
    call.arg = arg;
    return intercept_(call, [&](void* inner_arg) { return inner_->ioctl(request, inner_arg); });
  }
  tl::expected<uint64_t, GuestFault> guest_rdmsr(uint32_t msr) override {
    return inner_->guest_rdmsr(msr);
  }
  tl::expected<void, GuestFault> guest_wrmsr(uint32_t msr, uint64_t value) override {
    return inner_->guest_wrmsr(msr, value);
  }
  tl::expected<uint64_t, GuestFault> guest_rdpmc(uint32_t counter) override {
    return inner_->guest_rdpmc(counter);
  }
  GuestRun guest_run(uint64_t cycles) override { return inner_->guest_run(cycles); }
  bool has_guest_time() const override { return inner_->has_guest_time(); }
  void guest_write_lvtpc(uint32_t value) override { inner_->guest_write_lvtpc(value); }

 private:
  std::unique_ptr<Vcpu> inner_;
  const IoctlIntercept& intercept_;
  IoctlCall call_;  // without request and arg
};

class InterceptedVm final : public Vm {
 public:
  InterceptedVm(std::unique_ptr<Vm> inner, const IoctlIntercept& intercept, int64_t number)
      : inner_(std::move(inner)), intercept_(intercept), number_(number) {}

  int32_t ioctl(uint32_t request, void* arg) override {
    return intercept_(call(request, arg),
                      [&](void* inner_arg) { return inner_->ioctl(request, inner_arg); });
  }
  Created<Vcpu> create_vcpu(uint32_t id) override {
    void* arg = reinterpret_cast<void*>(uintptr_t{id});
    Created<Vcpu> vcpu = intercept_creation<Vcpu>(intercept_, call(KVM_CREATE_VCPU, arg),
                                                  [&] { return inner_->create_vcpu(id); });
    if (!vcpu) return vcpu;
    const IoctlCall vcpu_call{.level = IoctlLevel::vcpu, .vm = number_, .vcpu = id};
    return std::make_unique<InterceptedVcpu>(std::move(*vcpu), intercept_, vcpu_call);
  }

 private:
  IoctlCall call(uint32_t request, void* arg) const {
    return {.level = IoctlLevel::vm, .vm = number_, .vcpu = -1, .request = request, .arg = arg};
  }

  std::unique_ptr<Vm> inner_;
  const IoctlIntercept& intercept_;
  int64_t number_;
};

class InterceptedKvm final : public Kvm {
 public:
  InterceptedKvm(std::unique_ptr<Kvm> inner, IoctlIntercept intercept)
      : inner_(std::move(inner)), intercept_(std::move(intercept)) {}

  int32_t ioctl(uint32_t request, void* arg) override {
    return intercept_(call(request, arg),
                      [&](void* inner_arg) { return inner_->ioctl(request, inner_arg); });
  }
  Created<Vm> create_vm() override {
    Created<Vm> vm = intercept_creation<Vm>(intercept_, call(KVM_CREATE_VM, nullptr),
                                            [&] { return inner_->create_vm(); });
    if (!vm) return vm;
    return std::make_unique<InterceptedVm>(std::move(*vm), intercept_, vms_++);
  }
  HostInfo host_info() const override { return inner_->host_info(); }
  std::string name() const override { return inner_->name(); }

 private:
  static IoctlCall call(uint32_t request, void* arg) {
    return {.level = IoctlLevel::system, .vm = -1, .vcpu = -1, .request = request, .arg = arg};
  }

  std::unique_ptr<Kvm> inner_;
  IoctlIntercept intercept_;
  std::atomic<int64_t> vms_ = 0;
};

}  // namespace

std::unique_ptr<Kvm> intercept_ioctls(std::unique_ptr<Kvm> kvm, IoctlIntercept intercept) {
  return std::make_unique<InterceptedKvm>(std::move(kvm), std::move(intercept));
}

}  // namespace host_stub
