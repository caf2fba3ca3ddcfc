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

  /// GLOBAL_CTL has two places in a plan: what became of its last write counts.
  void note(uint32_t index, bool is_absent) noexcept {
    absent = is_absent ? absent | msr_bit(index) : absent & ~msr_bit(index);
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

/// Whether a register lies beyond what the vCPU's CPUID promises.
bool is_extra(const Reset& reset, uint32_t index) noexcept {
  return kLayouts[reset.vm.layout_of(reset.vcpu.index, reset.vcpu.handle)].is_beyond_cpuid(index);
}

/// KVM's answer for one register; failed: the ioctl itself, logged as the reset's failure.
enum class Answer : uint8_t { taken, refused, failed };

Answer write_one(Reset& reset, const vmm_msr& entry) noexcept {
  kvm::MsrRequest request;
  fill(request, {&entry, 1});
  const int32_t set = kvm::set_msrs(reset.vm.host, reset.vcpu.handle, request);
  if (set < 0) reset.failed(set, ioctl_failed("KVM_SET_MSRS", entry.index, 1, set));
  return set < 0 ? Answer::failed : set == 1 ? Answer::taken : Answer::refused;
}

/// `value` is what was read, where the answer is `taken`.
Answer read_one(Reset& reset, uint32_t index, uint64_t& value) noexcept {
  const vmm_msr entry{index, 0, 0};
  kvm::MsrRequest request;
  fill(request, {&entry, 1});
  const int32_t got = kvm::get_msrs(reset.vm.host, reset.vcpu.handle, request);
  if (got < 0) reset.failed(got, ioctl_failed("KVM_GET_MSRS", index, 1, got));
  value = request.entries[0].data;
  return got < 0 ? Answer::failed : got == 1 ? Answer::taken : Answer::refused;
}

/// KVM answers the same each time, so a register that refuses both ways twice is not there. The
/// second round costs nothing that matters (once per VM and register) and keeps a hiccup of
/// whatever stands between plugin and kernel from being taken for "not there" for the rest of the
/// VM's life.
constexpr int kRounds = 2;

/// Is a register whose write KVM refused not there at all? If it is there, and keeps another value
/// than the wanted one, the reset has failed. Rounds that differ say "not absent": the register had
/// the wanted value once, and later resets try again.
bool is_absent(Reset& reset, const vmm_msr& wanted) noexcept {
  int rounds_right = 0;
  for (int round = 0; round < kRounds; ++round) {
    uint64_t value = 0;
    const Answer read = read_one(reset, wanted.index, value);
    if (read == Answer::failed) return false;
    const bool right = read == Answer::taken && value == wanted.value;
    rounds_right += right ? 1 : 0;
    // what the guest's CPUID does not promise may read 0 and refuse even that: it holds nothing
    if (right && !is_extra(reset, wanted.index)) return false;
    if (write_one(reset, wanted) != Answer::refused) return false;
    if (read == Answer::refused || right) continue;
    // A live GLOBAL_CTL takes any value and drops what it does not have. One that reads 0 and takes
    // nothing but 0 is only KVM's answer for a register that it lists and this guest lacks.
    if (wanted.index == amd::kGlobalCtl && value == 0) continue;
    Text what;
    what << "KVM_SET_MSRS refuses " << Hex{wanted.index, 8} << " = " << Hex{wanted.value}
         << "; it keeps " << Hex{value};
    reset.failed(-EIO, what);
    return false;
  }
  return rounds_right == 0 || rounds_right == kRounds;
}

/// Writes all entries, going on after each that KVM refuses.
void write(Reset& reset, std::span<const vmm_msr> entries) noexcept {
  kvm::MsrRequest request;
  while (!entries.empty()) {
    fill(request, entries);
    const int32_t taken = kvm::set_msrs(reset.vm.host, reset.vcpu.handle, request);
    if (taken < 0)
      return reset.failed(
          taken, ioctl_failed("KVM_SET_MSRS", entries.front().index, entries.size(), taken));
    const auto done = static_cast<std::size_t>(taken);
    if (reset.absent != 0)
      for (const vmm_msr& entry : entries.first(done)) reset.note(entry.index, false);
    entries = entries.subspan(done);
    if (entries.empty()) return;
    const vmm_msr& refused = entries.front();
    reset.note(refused.index, is_absent(reset, refused));
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

/// Remembers what KVM does not have and says so, once per VM.
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
    if (!layout.is_beyond_cpuid(entry.index)) any_unforeseen = true;
    line << " " << Hex{entry.index, 8};
  }
  if (layout.bank == Bank::legacy && !any_unforeseen) return;  // nothing that the guest knows of
  line << " with this guest's CPUID; resets leave them out from now on";
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

/// Is the vPMU off, as vm_created left it? A counter that is written and read back tells: where KVM
/// has it off the counter reads 0, or refuses both ways. No perf event is made, since no selector
/// is enabled; a host's kernel log may get one line of an ignored write. The reset that follows a
/// live answer clears the counter. Once per VM: after its first vCPU nothing can switch the vPMU.
Vm::Look look_at_counter(Reset& reset) noexcept {
  constexpr vmm_msr kProbe{amd::kPerfCtr0, 0, 1};
  for (int round = 0; round < kRounds; ++round) {
    uint64_t value = 0;
    const Answer written = write_one(reset, kProbe);
    const Answer read = read_one(reset, kProbe.index, value);
    if (written == Answer::failed || read == Answer::failed) return Vm::Look::due;
    if (read == Answer::taken && value == kProbe.value) return Vm::Look::live;
    if (written != read) return Vm::Look::due;
    if (written == Answer::taken) return Vm::Look::off;
  }
  return Vm::Look::off;
}

/// True: there is no vPMU, nothing to reset. Says once if there is one in spite of vm_created.
bool is_off(Reset& reset) noexcept {
  Vm& vm = reset.vm;
  if (vm.vpmu != Vpmu::off_by_cap && vm.vpmu != Vpmu::already_off) return false;
  if (vm.look() == Vm::Look::due) {
    const Vm::Look look = look_at_counter(reset);
    if (vm.seen(look) && look == Vm::Look::live && !vm.options.strict)
      vm.host.log(VMM_LOG_WARNING,
                  Text(vm.vpmu == Vpmu::off_by_cap
                           ? "the vPMU is on although it was switched off: the VMM has called "
                             "KVM_ENABLE_CAP(KVM_CAP_PMU_CAPABILITY) after this plugin; AMD's PMU "
                             "registers are reset, and are not part of a saved state"
                           : "the vPMU is on although KVM offers no way to switch it off: "
                             "pmu-off-method=msr-filter hides it; AMD's PMU registers are reset"));
  }
  if (vm.look() == Vm::Look::live && vm.options.strict)
    reset.failed(-EIO, Text("the vPMU is on although it should be off (strict=on)"));
  return vm.look() == Vm::Look::off && vm.vpmu == Vpmu::off_by_cap;
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
  if (vm.vpmu == Vpmu::none) return 0;
  if (is_off(reset) || reset.result != 0) return reset.result;

  const LayoutId layout = vm.layout_of(vcpu.index, vcpu.handle);
  const uint32_t absent = vm.absent(layout);
  if (absent == 0) return carry_out(reset, layout, kResetPlans[layout].view());
  ResetPlan present;
  for (const vmm_msr& entry : kResetPlans[layout].view())
    if ((absent & msr_bit(entry.index)) == 0) present.add(entry.index, entry.value);
  return carry_out(reset, layout, present.view());
}

}  // namespace svm_pmu
