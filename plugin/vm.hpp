// SPDX-License-Identifier: MIT
//
// What the plugin keeps of one VM: how its vPMU stands, and what was learnt of its registers.
#pragma once

#include <vmm/plugin.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "host.hpp"
#include "options.hpp"
#include "pmu_layout.hpp"

namespace svm_pmu {

/// How a VM's vPMU stands after vm_created.
enum class Vpmu : uint8_t {
  none,         ///< KVM's host is neither AMD's nor Hygon's: no vPMU of this plugin's
  on,           ///< as the host's KVM makes it: alive, as far as known
  off_by_cap,   ///< KVM_PMU_CAP_DISABLE was accepted: no register holds anything
  already_off,  ///< KVM has it off for all VMs, by its own word: registers decide
  filtered,     ///< alive, but the guest's RDMSR and WRMSR of its registers take #GP
};

class Vm {
 public:
  /// Allocates one byte a vCPU. May throw std::bad_alloc.
  Vm(const Host& vm_host, const Options& vm_options, const vmm_vm& vm, Vpmu state)
      : host(vm_host),
        options(vm_options),
        handle(vm.handle),
        max_vcpus(vm.max_vcpus),
        vpmu(state),
        layouts_(vm.max_vcpus, 0) {}

  const Host& host;
  const Options& options;
  const vmm_vm_handle handle;
  const uint32_t max_vcpus;
  const Vpmu vpmu;

  /// The layout of a vCPU, looked up once it is known: the guest's CPUID cannot change after the
  /// vCPU has run. S2; `index` below max_vcpus.
  LayoutId layout_of(uint32_t index, vmm_vcpu_handle vcpu) noexcept {
    const std::atomic_ref<uint8_t> slot(layouts_[index]);
    const uint8_t known = slot.load(std::memory_order_relaxed);
    if (known != 0) return static_cast<LayoutId>(known - 1);
    const LayoutId found = find_layout(host, handle, vcpu);
    if (found != kUnknown) slot.store(static_cast<uint8_t>(found + 1), std::memory_order_relaxed);
    return found;
  }

  /// Registers that KVM does not have for this VM's vCPUs of one layout (msr_bit of each); they are
  /// left out of resets. By layout, since vCPUs may differ in their CPUID, and KVM answers by that.
  uint32_t absent(LayoutId layout) const noexcept {
    return absent_[layout].load(std::memory_order_relaxed);
  }

  /// Whether a counter was seen to keep a value (live) or not (off), at the VM's first reset. Until
  /// then how it stands is the word of one ioctl, which the VMM may have undone.
  enum class Look : uint8_t { due, off, live };
  Look look() const noexcept { return look_.load(std::memory_order_relaxed); }
  /// Remembers what was seen; true for the one thread that is to say so.
  bool seen(Look look) noexcept { return look_.exchange(look, std::memory_order_relaxed) != look; }

  /// Adds to absent(); returns what was not known before, which is for one thread to log.
  uint32_t add_absent(LayoutId layout, uint32_t bits) noexcept {
    return bits & ~absent_[layout].fetch_or(bits, std::memory_order_relaxed);
  }

 private:
  std::vector<uint8_t> layouts_;  // LayoutId + 1 of each vCPU; 0 = not known yet
  std::array<std::atomic<uint32_t>, kLayoutCount> absent_{};
  std::atomic<Look> look_{Look::due};
};

}  // namespace svm_pmu
