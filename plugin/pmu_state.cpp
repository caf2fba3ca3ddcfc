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
  for (uint32_t i = 0; i < layout.counters; ++i)
    list.add(layout.counter(i), amd::kCounterMask, saved);
  // reserved bits of selectors are KVM's to drop: they differ between kernels, and what was read
  // from one has none of them set
  for (uint32_t i = 0; i < layout.counters; ++i) list.add(layout.selector(i), kAllBits, saved);
  if (layout.has_global) {
    list.add(amd::kGlobalStatus, layout.global_mask(), saved);
    list.add(amd::kGlobalCtl, layout.global_mask());
    list.add(amd::kGlobalCtl, layout.global_mask(), saved);
  }
  return list;
}

}  // namespace

Expected<void> build_msr_list(const Vm& vm, const vmm_msr_sink* host_sink) noexcept {
  vmm_msr_sink sink;
  if (!copy_struct(sink, host_sink) || sink.add == nullptr)
    return fail(-EINVAL, Text("msr_list_build: the sink is NULL, too small or has no add"));
  if (vm.vpmu == Vpmu::off_by_cap) return {};
  const Layout& layout = kLayouts[find_layout(vm.host, vm.handle, nullptr)];
  const MsrList list = make_list(layout, vm.options.strict);
  if (list.count == 0) return {};
  const int32_t result = sink.add(sink.sink_ctx, list.entries.data(), list.count);
  if (result != 0)
    return fail(result < 0 ? result : -EPROTO, Text()
                                                   << "msr_list_build: the host does not take "
                                                   << list.count << " entries: " << Errno{result});
  return {};
}

}  // namespace svm_pmu
