// SPDX-License-Identifier: MIT
#include "pmu_state.hpp"

#include <cerrno>
#include <cstddef>

#include "abi_struct.hpp"
#include "amd_pmu.hpp"
#include "pmu_layout.hpp"

namespace svm_pmu {
namespace {

/// A stop, the saved registers, and GLOBAL_CTL once more.
constexpr std::size_t kMaxListEntries = 2 * kMaxResetWrites;
using MsrList = MsrWrites<kMaxListEntries>;

constexpr uint64_t kAllBits = ~uint64_t{0};

MsrList make_list(const Layout& layout, bool required) noexcept {
  const uint32_t saved = VMM_MSR_SAVED | (required ? VMM_MSR_REQUIRED : 0);
  MsrList list;
  add_stop(list, layout);
  for (uint32_t i = 0; i < layout.guest_counters; ++i)
    list.add(layout.counter(i), amd::kCounterMask, saved);
  // reserved bits of selectors are KVM's to drop: they differ between kernels, and what was read
  // from one has none of them set
  for (uint32_t i = 0; i < layout.guest_counters; ++i)
    list.add(layout.selector(i), kAllBits, saved);
  if (layout.has_global) {
    list.add(amd::kGlobalStatus, layout.global_mask(), saved);
    list.add(amd::kGlobalCtl, layout.global_mask());
    list.add(amd::kGlobalCtl, layout.global_mask(), saved);
  }
  return list;
}

/// Of a VM without a vPMU for its guest: every register that a state may bring is written as 0, so
/// that nothing counts which the guest cannot stop; with `required` a value that is lost is an
/// error.
constexpr std::size_t kAllRegisters = 2 * amd::kLegacyCounters + 2 * amd::kExtCounters + 2;
MsrWrites<kAllRegisters> make_empty_list(bool required) noexcept {
  const uint32_t saved = VMM_MSR_SAVED | (required ? VMM_MSR_REQUIRED : 0);
  MsrWrites<kAllRegisters> list;
  list.add(amd::kGlobalCtl, 0, saved);
  for (uint32_t i = 0; i < amd::kExtCounters; ++i) list.add(amd::kPerfCtl0 + 2 * i, 0, saved);
  for (uint32_t i = 0; i < amd::kLegacyCounters; ++i) list.add(amd::kPerfEvtSel0 + i, 0, saved);
  for (uint32_t i = 0; i < amd::kExtCounters; ++i) list.add(amd::kExtCtr0 + 2 * i, 0, saved);
  for (uint32_t i = 0; i < amd::kLegacyCounters; ++i) list.add(amd::kPerfCtr0 + i, 0, saved);
  list.add(amd::kGlobalStatus, 0, saved);
  return list;
}

Expected<void> give(const vmm_msr_sink& sink, std::span<const vmm_msr> list) noexcept {
  if (list.empty()) return {};
  const int32_t result = sink.add(sink.sink_ctx, list.data(), static_cast<uint32_t>(list.size()));
  if (result == 0) return {};
  return fail(result < 0 ? result : -EPROTO, Text() << "msr_list_build: the host does not take "
                                                    << static_cast<uint64_t>(list.size())
                                                    << " entries: " << Errno{result});
}

}  // namespace

Expected<void> build_msr_list(const Vm& vm, const vmm_msr_sink* host_sink) noexcept {
  vmm_msr_sink sink;
  if (!copy_struct(sink, host_sink) || sink.add == nullptr)
    return fail(-EINVAL, Text("msr_list_build: the sink is NULL, too small or has no add"));
  if (vm.vpmu == Vpmu::none) return {};
  // without strict=on a host says of each value that the list lacks that it is dropped
  if (vm.vpmu == Vpmu::off_by_cap && !vm.options.strict) return {};
  if (vm.vpmu == Vpmu::off_by_cap || vm.vpmu == Vpmu::filtered)
    return give(sink, make_empty_list(vm.options.strict).view());
  const Layout& layout = kLayouts[find_layout(vm.host, vm.handle, nullptr)];
  return give(sink, make_list(layout, vm.options.strict).view());
}

}  // namespace svm_pmu
