// SPDX-License-Identifier: MIT
#include "host_kit/msr_filter.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace host_kit {
namespace {

/// Bitmap of a range that is denied whole: all 0. KVM only reads it.
constexpr uint32_t kMaxRangeMsrs = KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8;
std::array<uint8_t, KVM_MSR_FILTER_MAX_BITMAP_SIZE> deny_bitmap{};

constexpr uint64_t end_of(uint32_t base, uint32_t count) { return uint64_t{base} + count; }

bool touches(const kvm_msr_filter_range& a, const vmm_msr_range& b) {
  return a.nmsrs != 0 && a.base < end_of(b.base, b.count) && b.base < end_of(a.base, a.nmsrs);
}

/// Sorts, and joins what overlaps or is adjacent as far as one bitmap reaches.
std::vector<vmm_msr_range> normalised(std::vector<vmm_msr_range> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const vmm_msr_range& a, const vmm_msr_range& b) { return a.base < b.base; });
  std::vector<vmm_msr_range> joined;
  for (const vmm_msr_range& range : ranges) {
    if (!joined.empty()) {
      vmm_msr_range& last = joined.back();
      const uint64_t end = std::max(end_of(last.base, last.count), end_of(range.base, range.count));
      if (range.base <= end_of(last.base, last.count) && end - last.base <= kMaxRangeMsrs) {
        last.count = static_cast<uint32_t>(end - last.base);
        continue;
      }
    }
    joined.push_back(range);
  }
  return joined;
}

}  // namespace

int32_t DenyList::add(std::span<const vmm_msr_range> ranges) {
  for (const vmm_msr_range& range : ranges)
    if (range.count == 0 || range.count > kMaxRangeMsrs ||
        end_of(range.base, range.count) > (uint64_t{1} << 32))
      return -EINVAL;
  std::vector<vmm_msr_range> all = ranges_;
  all.insert(all.end(), ranges.begin(), ranges.end());
  all = normalised(std::move(all));
  if (all.size() > KVM_MSR_FILTER_MAX_RANGES) return -ENOSPC;
  ranges_ = std::move(all);
  return 0;
}

bool DenyList::denies(uint32_t msr) const noexcept {
  return std::any_of(ranges_.begin(), ranges_.end(), [msr](const vmm_msr_range& range) {
    return msr >= range.base && msr < end_of(range.base, range.count);
  });
}

tl::expected<kvm_msr_filter, uint32_t> merge_msr_filter(const kvm_msr_filter& vmm,
                                                        const DenyList& denied) noexcept {
  const std::span<const kvm_msr_filter_range> theirs(vmm.ranges);
  const bool denies_by_default = (vmm.flags & KVM_MSR_FILTER_DEFAULT_DENY) != 0;
  kvm_msr_filter merged{};
  merged.flags = vmm.flags;
  uint32_t used = 0;
  const auto append = [&](const kvm_msr_filter_range& range) {
    if (used < KVM_MSR_FILTER_MAX_RANGES) merged.ranges[used] = range;
    ++used;
  };
  for (const vmm_msr_range& range : denied.ranges()) {
    // also keeps an invalid filter (deny all, no range) as invalid as it was
    const bool denied_anyway =
        denies_by_default && std::none_of(theirs.begin(), theirs.end(),
                                          [&](const auto& their) { return touches(their, range); });
    if (!denied_anyway)
      append({KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, range.count, range.base,
              deny_bitmap.data()});
  }
  for (const kvm_msr_filter_range& range : theirs)
    if (range.nmsrs != 0) append(range);
  if (used > KVM_MSR_FILTER_MAX_RANGES) return tl::unexpected(used);
  return merged;
}

int32_t deny_msrs(Host& host, vmm_vm_handle vm, DenyList& denied,
                  std::span<const vmm_msr_range> ranges) {
  if (host.vm_ioctl(vm, KVM_CHECK_EXTENSION, reinterpret_cast<void*>(KVM_CAP_X86_MSR_FILTER)) <= 0)
    return -EOPNOTSUPP;
  DenyList all = denied;
  if (const int32_t result = all.add(ranges); result < 0) return result;
  auto filter = merge_msr_filter(kvm_msr_filter{}, all);
  if (!filter) return -ENOSPC;
  if (const int32_t result = host.vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &*filter); result < 0)
    return result;
  denied = std::move(all);
  return 0;
}

bool answer_denied_msr(const DenyList& denied, kvm_run& run) noexcept {
  // PerfEvtSel0-3 and PerfCtr0-3 (K7): there on every AMD processor
  constexpr uint32_t kLegacyFirst = 0xc0010000, kLegacyLast = 0xc0010007;
  const bool read = run.exit_reason == KVM_EXIT_X86_RDMSR;
  if (!read && run.exit_reason != KVM_EXIT_X86_WRMSR) return false;
  if (run.msr.reason != KVM_MSR_EXIT_REASON_FILTER || !denied.denies(run.msr.index)) return false;
  const bool ignored = run.msr.index >= kLegacyFirst && run.msr.index <= kLegacyLast;
  run.msr.error = ignored ? 0 : 1;
  if (ignored && read) run.msr.data = 0;
  return true;
}

}  // namespace host_kit
