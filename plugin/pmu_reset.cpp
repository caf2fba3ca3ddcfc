// SPDX-License-Identifier: MIT
#include "pmu_reset.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>

#include "abi_struct.hpp"
#include "amd_pmu.hpp"
#include "kvm.hpp"
#include "pmu_layout.hpp"

namespace svm_pmu {
namespace {

/// One vCPU's reset under way.
struct Reset {
  Vm& vm;
  const vmm_vcpu& vcpu;
  uint32_t absent = 0;  ///< msr_bit of what KVM turned out not to have
  int32_t result = 0;   ///< the first failure

  void failed(int32_t code, const Text& what) noexcept {
    Text line;
    line << "reset of vCPU " << vcpu.index << ": " << what.view();
    vm.host.log(VMM_LOG_ERROR, line);
    if (result == 0) result = code;
  }
};

/// `entries` have flags 0: they are what KVM takes, byte for byte.
void fill(kvm::MsrRequest& request, std::span<const vmm_msr> entries) noexcept {
  static_assert(sizeof(vmm_msr) == sizeof(kvm_msr_entry) &&
                offsetof(vmm_msr, index) == offsetof(kvm_msr_entry, index) &&
                offsetof(vmm_msr, flags) == offsetof(kvm_msr_entry, reserved) &&
                offsetof(vmm_msr, value) == offsetof(kvm_msr_entry, data));
  request.header = {static_cast<uint32_t>(entries.size()), 0};
  std::memcpy(request.entries.data(), entries.data(), entries.size_bytes());
}

Text ioctl_failed(const char* name, uint32_t index, std::size_t count, int32_t code) noexcept {
  Text what;
  what << name << " of " << static_cast<uint64_t>(count) << " MSRs from " << Hex{index, 8}
       << " on failed: " << Errno{code};
  return what;
}

/// Looks at a register whose write KVM refused.
///
/// KVM answers the same each time, so a register that refuses both ways twice is not there. The
/// second round costs nothing that matters (once a VM and register) and keeps a hiccup of whatever
/// stands between plugin and kernel from being taken for "not there" for the rest of the VM's life.
void examine_refused(Reset& reset, const vmm_msr& wanted) noexcept {
  constexpr int kRounds = 2;
  kvm::MsrRequest request;
  reset.absent &= ~msr_bit(wanted.index);  // of GLOBAL_CTL's two places the later look counts
  for (int round = 0; round < kRounds; ++round) {
    fill(request, {&wanted, 1});
    const int32_t got = kvm::get_msrs(reset.vm.host, reset.vcpu.handle, request);
    if (got < 0) return reset.failed(got, ioctl_failed("KVM_GET_MSRS", wanted.index, 1, got));
    const uint64_t value = request.entries[0].data;
    if (got == 1 && value == wanted.value) return;
    fill(request, {&wanted, 1});
    const int32_t set = kvm::set_msrs(reset.vm.host, reset.vcpu.handle, request);
    if (set < 0) return reset.failed(set, ioctl_failed("KVM_SET_MSRS", wanted.index, 1, set));
    if (set == 1) return;
    if (got == 0) continue;
    // A live GLOBAL_CTL takes any value and drops what it does not have. One that reads 0 and takes
    // nothing but 0 is only KVM's answer for a register that it lists and this guest lacks.
    if (wanted.index == amd::kGlobalCtl && value == 0) continue;
    Text what;
    what << "KVM_SET_MSRS refuses " << Hex{wanted.index, 8} << " = " << Hex{wanted.value}
         << "; it keeps " << Hex{value};
    return reset.failed(-EIO, what);
  }
  reset.absent |= msr_bit(wanted.index);
}

/// Writes all entries, going on behind each that KVM refuses.
void write(Reset& reset, std::span<const vmm_msr> entries) noexcept {
  kvm::MsrRequest request;
  while (!entries.empty()) {
    fill(request, entries);
    const int32_t taken = kvm::set_msrs(reset.vm.host, reset.vcpu.handle, request);
    if (taken < 0)
      return reset.failed(
          taken, ioctl_failed("KVM_SET_MSRS", entries.front().index, entries.size(), taken));
    // GLOBAL_CTL has two places: refused at the first for whatever reason, it is there if the
    // second takes it
    const auto done = static_cast<std::size_t>(taken);
    if (reset.absent != 0)
      for (const vmm_msr& entry : entries.first(done)) reset.absent &= ~msr_bit(entry.index);
    entries = entries.subspan(done);
    if (entries.empty()) return;
    examine_refused(reset, entries.front());
    entries = entries.subspan(1);
  }
}

/// Reads the selectors of the plan back: none may be enabled.
void verify(Reset& reset, std::span<const vmm_msr> written) noexcept {
  MsrWrites<amd::kExtCounters> selectors;
  for (const vmm_msr& entry : written)
    if (is_selector(entry.index) && (reset.absent & msr_bit(entry.index)) == 0)
      selectors.add(entry.index, 0);
  kvm::MsrRequest request;
  for (auto left = selectors.view(); !left.empty();) {
    fill(request, left);
    const int32_t taken = kvm::get_msrs(reset.vm.host, reset.vcpu.handle, request);
    if (taken < 0)
      return reset.failed(taken,
                          ioctl_failed("KVM_GET_MSRS", left.front().index, left.size(), taken));
    const auto read = static_cast<std::size_t>(taken);
    for (std::size_t i = 0; i < read; ++i) {
      const kvm_msr_entry& entry = request.entries[i];
      if ((entry.data & amd::kSelectorEn) == 0) continue;
      Text what;
      what << "verify: event selector " << Hex{entry.index, 8}
           << " is still enabled: " << Hex{entry.data};
      reset.failed(-EIO, what);
    }
    if (read < left.size()) {
      Text what;
      what << "verify: event selector " << Hex{left[read].index, 8} << " cannot be read back";
      reset.failed(-EIO, what);
    }
    left = left.subspan(std::min(read + 1, left.size()));
  }
}

/// Remembers what KVM does not have and says so, once a VM.
void learn(Reset& reset, LayoutId id, std::span<const vmm_msr> written) noexcept {
  if (reset.absent == 0) return;  // as a rule: then nothing that vCPUs share is written
  const Layout& layout = kLayouts[id];
  const uint32_t news = reset.vm.add_absent(id, reset.absent);
  if (news == 0) return;
  Text line;
  bool any_selector_left = false, any_unforeseen = false;
  uint32_t said = 0;
  line << "KVM does not have";
  for (const vmm_msr& entry : written) {
    const uint32_t bit = msr_bit(entry.index);
    if ((reset.absent & bit) == 0 && is_selector(entry.index)) any_selector_left = true;
    if ((news & bit) == 0 || (said & bit) != 0) continue;
    said |= bit;
    if (!layout.is_beyond_n(entry.index)) any_unforeseen = true;
    line << " " << Hex{entry.index, 8};
  }
  line << " for this VM's guest CPUID; left out of resets from now on";
  if (!any_selector_left) line << " (its vPMU is off: nothing to reset)";
  reset.vm.host.log(any_selector_left && any_unforeseen ? VMM_LOG_WARNING : VMM_LOG_INFO, line);
}

bool into_batch(const Reset& reset, std::span<const vmm_msr> entries) noexcept {
  vmm_msr_sink batch;
  if (!copy_struct(batch, reset.vcpu.batch) || batch.add == nullptr) return false;
  return batch.add(batch.sink_ctx, entries.data(), static_cast<uint32_t>(entries.size())) == 0;
}

int32_t carry_out(Reset& reset, LayoutId layout, std::span<const vmm_msr> entries) noexcept {
  if (entries.empty()) return 0;
  const bool verified = reset.vm.options.verify;
  if (!verified && into_batch(reset, entries)) return 0;
  write(reset, entries);
  if (verified && reset.result == 0) verify(reset, entries);
  learn(reset, layout, entries);
  return reset.result;
}

}  // namespace

int32_t reset_vcpu(Vm& vm, const vmm_vcpu& vcpu) noexcept {
  Reset reset{vm, vcpu};
  if (vcpu.index >= vm.max_vcpus) {
    Text what;
    what << "this VM has vCPUs 0 to " << vm.max_vcpus - 1;
    reset.failed(-EINVAL, what);
    return reset.result;
  }
  if (vm.vpmu == Vpmu::off_by_cap) return 0;

  const LayoutId layout = vm.layout_of(vcpu.index, vcpu.handle);
  const uint32_t absent = vm.absent(layout);
  if (absent == 0) return carry_out(reset, layout, kResetPlans[layout].view());
  ResetPlan present;
  for (const vmm_msr& entry : kResetPlans[layout].view())
    if ((absent & msr_bit(entry.index)) == 0) present.add(entry.index, entry.value);
  return carry_out(reset, layout, present.view());
}

}  // namespace svm_pmu
