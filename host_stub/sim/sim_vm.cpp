// SPDX-License-Identifier: MIT
#include "sim/sim_vm.hpp"

#include <cerrno>
#include <utility>

#include "sim/sim_vcpu.hpp"

namespace host_stub {
namespace {

constexpr uint64_t kUserMsrReasons = 7;  // INVAL, UNKNOWN, FILTER

}  // namespace

SimVm::SimVm(const SimHost& host) : host_(host), enable_pmu_(host.profile.enable_pmu) {}

int32_t SimVm::ioctl(uint32_t request, void* arg) {
  switch (request) {
    case KVM_CHECK_EXTENSION:
      return host_.check_extension(reinterpret_cast<intptr_t>(arg));
    case KVM_CREATE_IRQCHIP:
      return create_irqchip();
    case KVM_ENABLE_CAP:
      return arg == nullptr ? -EFAULT : enable_cap(*static_cast<const kvm_enable_cap*>(arg));
    case KVM_X86_SET_MSR_FILTER:
      if (!host_.profile.kernel->msr_filter) return -ENOTTY;
      return arg == nullptr ? -EFAULT : set_msr_filter(*static_cast<const kvm_msr_filter*>(arg));
    case KVM_SET_TSS_ADDR:  // taken and of no effect: there is no guest memory
    case KVM_SET_IDENTITY_MAP_ADDR:
    case KVM_SET_USER_MEMORY_REGION:
    case KVM_CREATE_PIT2:
      return 0;
    default:
      return -ENOTTY;
  }
}

int32_t SimVm::enable_cap(const kvm_enable_cap& cap) {
  if (cap.flags != 0) return -EINVAL;
  const std::lock_guard lock(mutex_);
  switch (cap.cap) {
    case KVM_CAP_PMU_CAPABILITY:
      return enable_pmu_capability(cap);
    case KVM_CAP_X86_USER_SPACE_MSR:
      if (!host_.profile.kernel->msr_filter) return -EINVAL;
      // Exits to userspace are not modelled: a denied access is #GP, what a VMM that asked for the
      // exit answers as a rule.
      if (host_.profile.kernel->user_msr_checks_args && (cap.args[0] & ~kUserMsrReasons) != 0)
        return -EINVAL;
      return 0;
    case KVM_CAP_SPLIT_IRQCHIP:
      if (irqchip_) return -EEXIST;
      if (!vcpu_ids_.empty()) return -EINVAL;
      irqchip_ = true;
      return 0;
    case KVM_CAP_X86_DISABLE_EXITS:
    case KVM_CAP_X2APIC_API:
    case KVM_CAP_EXCEPTION_PAYLOAD:
    case KVM_CAP_DISABLE_QUIRKS:
      return 0;
    default:
      return -EINVAL;
  }
}

int32_t SimVm::enable_pmu_capability(const kvm_enable_cap& cap) {
  if (host_.check_extension(KVM_CAP_PMU_CAPABILITY) == 0) return -EINVAL;
  if ((cap.args[0] & ~uint64_t{KVM_PMU_CAP_DISABLE}) != 0) return -EINVAL;
  if (!vcpu_ids_.empty() || mediated_created_) return -EINVAL;
  enable_pmu_ = (cap.args[0] & KVM_PMU_CAP_DISABLE) == 0;
  return 0;
}

int32_t SimVm::create_irqchip() {
  const std::lock_guard lock(mutex_);
  if (irqchip_) return -EEXIST;
  if (!vcpu_ids_.empty()) return -EINVAL;
  irqchip_ = true;
  return 0;
}

int32_t SimVm::set_msr_filter(const kvm_msr_filter& request) {
  auto filter = MsrFilter::make(request);
  if (!filter) return filter.error();
  auto fresh = std::make_shared<const MsrFilter>(std::move(*filter));
  const std::lock_guard lock(mutex_);
  filter_ = std::move(fresh);
  return 0;
}

/// What kvm_arch_vcpu_precreate does for the first vCPU where mediation is asked for.
int32_t SimVm::precreate_mediated_pmu() {
  if (!host_.profile.mediated || !enable_pmu_ || mediated_created_) return 0;
  if (!irqchip_) {
    enable_pmu_ = false;  // and says so to nobody
    return 0;
  }
  if (host_.profile.held_counters != 0) return -EBUSY;
  mediated_created_ = true;
  return 0;
}

tl::expected<std::unique_ptr<Vcpu>, int32_t> SimVm::create_vcpu(uint32_t id) {
  const Kernel& kernel = *host_.profile.kernel;
  const auto error = [](int32_t code) { return tl::unexpected<int32_t>(code); };
  const std::lock_guard lock(mutex_);
  if (id >= static_cast<uint32_t>(kernel.max_vcpu_id)) return error(-EINVAL);
  if (vcpu_ids_.size() >= static_cast<size_t>(kernel.max_vcpus)) return error(-EINVAL);
  if (const int32_t result = precreate_mediated_pmu(); result < 0) return error(result);
  if (!vcpu_ids_.insert(id).second) return error(-EEXIST);
  return std::make_unique<SimVcpu>(host_, *this, id,
                                   SimVcpu::Setup{enable_pmu_, mediated_created_, irqchip_});
}

std::shared_ptr<const MsrFilter> SimVm::msr_filter() const {
  const std::lock_guard lock(mutex_);
  return filter_;
}

}  // namespace host_stub
