// SPDX-License-Identifier: MIT
#include "sim/msr_filter.hpp"

#include <cerrno>

namespace host_stub {
namespace {

constexpr uint32_t kRangeFlags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
constexpr uint32_t kMaxBitmapBytes = 0x600;  // KVM_MSR_FILTER_MAX_BITMAP_SIZE

/// Bytes that KVM reads: whole 64-bit words.
constexpr size_t bitmap_bytes(uint32_t msrs) { return (size_t{msrs} + 63) / 64 * 8; }

constexpr bool is_x2apic(uint32_t msr) { return msr >= 0x800 && msr <= 0x8ff; }

}  // namespace

tl::expected<MsrFilter, int32_t> MsrFilter::make(const kvm_msr_filter& request) {
  const tl::unexpected<int32_t> invalid(-EINVAL);
  if ((request.flags & ~uint32_t{KVM_MSR_FILTER_DEFAULT_DENY}) != 0) return invalid;
  MsrFilter filter;
  filter.default_allow_ = (request.flags & KVM_MSR_FILTER_DEFAULT_DENY) == 0;
  for (const kvm_msr_filter_range& range : request.ranges) {
    if (range.nmsrs == 0) continue;
    if (range.flags == 0 || (range.flags & ~kRangeFlags) != 0) return invalid;
    if (bitmap_bytes(range.nmsrs) > kMaxBitmapBytes) return invalid;
    // only the bytes that hold bits: callers need not round up to words
    const uint8_t* bits = range.bitmap;
    filter.ranges_.push_back(
        {range.flags, range.base, range.nmsrs, {bits, bits + (size_t{range.nmsrs} + 7) / 8}});
  }
  if (filter.ranges_.empty() && !filter.default_allow_) return invalid;
  return filter;
}

bool MsrFilter::allows(uint32_t msr, uint32_t type) const {
  if (is_x2apic(msr)) return true;
  for (const Range& range : ranges_) {
    if (msr < range.base || msr - range.base >= range.count || (range.flags & type) == 0) continue;
    const uint32_t bit = msr - range.base;
    return (range.bitmap[bit / 8] >> (bit % 8) & 1) != 0;
  }
  return default_allow_;
}

}  // namespace host_stub
