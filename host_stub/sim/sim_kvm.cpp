// SPDX-License-Identifier: MIT
#include "sim/sim_kvm.hpp"

#include <cerrno>

#include "sim/sim_host.hpp"
#include "sim/sim_vm.hpp"
#include "vmm/kvm_uapi.h"

namespace host_stub {

int32_t SimHost::check_extension(long capability) const {
  const Kernel& kernel = *profile.kernel;
  switch (capability) {
    case KVM_CAP_PMU_CAPABILITY:  // a mask of what may be enabled; all of it gone with enable_pmu=N
      return kernel.pmu_capability && profile.enable_pmu && !profile.no_pmu_capability
                 ? KVM_PMU_CAP_DISABLE
                 : 0;
    case KVM_CAP_X86_USER_SPACE_MSR:
    case KVM_CAP_X86_MSR_FILTER:
      return kernel.msr_filter ? 1 : 0;
    case KVM_CAP_DISABLE_QUIRKS2:
      return kernel.disable_quirks2;
    case KVM_CAP_MAX_VCPUS:
      return kernel.max_vcpus;
    case KVM_CAP_MAX_VCPU_ID:
      return kernel.max_vcpu_id;
    case KVM_CAP_NR_VCPUS:
      return 8;  // recommended number: the host's CPUs
    case 200:    // KVM_CAP_SREGS2
      return kernel.sregs2 ? 1 : 0;
    case KVM_CAP_IRQCHIP:
    case KVM_CAP_USER_MEMORY:
    case KVM_CAP_SET_TSS_ADDR:
    case KVM_CAP_EXT_CPUID:
    case KVM_CAP_MP_STATE:
    case KVM_CAP_CHECK_EXTENSION_VM:
    case KVM_CAP_ENABLE_CAP_VM:
    case KVM_CAP_SPLIT_IRQCHIP:
    case KVM_CAP_IMMEDIATE_EXIT:
      return 1;
    default:
      return 0;
  }
}

namespace {

int32_t get_msr_index_list(const SimHost& host, void* arg) {
  if (arg == nullptr) return -EFAULT;
  auto* header = static_cast<vmm_kvm_msr_list_header*>(arg);
  const uint32_t room = header->nmsrs;
  header->nmsrs = static_cast<uint32_t>(host.msr_list.size());
  if (room < header->nmsrs) return -E2BIG;
  std::ranges::copy(host.msr_list, reinterpret_cast<uint32_t*>(header + 1));
  return 0;
}

int32_t get_supported_cpuid(const SimHost& host, void* arg) {
  if (arg == nullptr) return -EFAULT;
  auto* header = static_cast<vmm_kvm_cpuid2_header*>(arg);
  if (header->nent < host.cpuid.size()) return -E2BIG;  // and nothing is told of the size
  header->nent = static_cast<uint32_t>(host.cpuid.size());
  auto* entry = reinterpret_cast<kvm_cpuid_entry2*>(header + 1);
  for (const CpuidLeaf& leaf : host.cpuid) {
    *entry = {};
    entry->function = leaf.function;
    entry->eax = leaf.eax;
    entry->ebx = leaf.ebx;
    entry->ecx = leaf.ecx;
    entry->edx = leaf.edx;
    ++entry;
  }
  return 0;
}

class SimKvm final : public Kvm {
 public:
  explicit SimKvm(const Profile& profile) : host_(profile) {}

  int32_t ioctl(uint32_t request, void* arg) override {
    switch (request) {
      case KVM_GET_API_VERSION:
        return KVM_API_VERSION;
      case KVM_CHECK_EXTENSION:
        return host_.check_extension(reinterpret_cast<intptr_t>(arg));
      case KVM_GET_VCPU_MMAP_SIZE:
        return 3 * 4096;
      case VMM_KVM_GET_MSR_INDEX_LIST:
        return get_msr_index_list(host_, arg);
      case VMM_KVM_GET_SUPPORTED_CPUID:
        return get_supported_cpuid(host_, arg);
      default:
        return -EINVAL;  // measured: on /dev/kvm an unknown ioctl is not ENOTTY
    }
  }

  tl::expected<std::unique_ptr<Vm>, int32_t> create_vm() override {
    return std::make_unique<SimVm>(host_);
  }

  HostInfo host_info() const override {
    const Kernel& kernel = *host_.profile.kernel;
    const char* parameter = host_.profile.enable_pmu ? "Y" : "N";
    return {std::string(kernel.release), kernel.enable_pmu_parameter ? parameter : "?"};
  }

  std::string name() const override { return host_.profile.spec; }

 private:
  SimHost host_;
};

}  // namespace

std::unique_ptr<Kvm> make_sim(const Profile& profile) { return std::make_unique<SimKvm>(profile); }

tl::expected<std::unique_ptr<Kvm>, std::string> open_sim(std::string_view spec) {
  return parse_profile(spec).map([](const Profile& profile) { return make_sim(profile); });
}

}  // namespace host_stub
