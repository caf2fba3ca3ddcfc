// SPDX-License-Identifier: MIT
#include "sim/pmu.hpp"

#include <algorithm>
#include <limits>

namespace host_stub {
namespace {

// Bits that KVM clears silently: 19, 21, 36-63 (kvm_pmu.reserved_bits on AMD). With the mediated
// vPMU, GuestOnly (40) and HostOnly (41) are kept for the guest to read.
constexpr uint64_t kSelectorReserved = 0xfffffff000280000;
constexpr uint64_t kGuestHostOnly = uint64_t{3} << 40;

// offsets from the first global register
constexpr uint32_t kStatus = 0;
constexpr uint32_t kCtl = kMsrGlobalCtl - kMsrGlobalStatus;
constexpr uint32_t kStatusClr = kMsrGlobalStatusClr - kMsrGlobalStatus;
constexpr uint32_t kStatusSet = kMsrGlobalStatusSet - kMsrGlobalStatus;

}  // namespace

Pmu::Pmu(const Profile& profile, bool on, bool mediated)
    : kernel_(profile.kernel),
      profile_(&profile),
      on_(on && profile.amd_pmu()),
      mediated_(mediated && on_) {
  refresh({});
}

void Pmu::refresh(const GuestPmuCpuid& cpuid) {
  core_ = cpuid.core && (!kernel_->cpuid_capped || profile_->offers_core());
  const bool v2 = cpuid.perfmonv2 && kernel_->perfmonv2 &&
                  (!kernel_->cpuid_capped || profile_->offers_perfmonv2());
  version_ = 0;
  counters_ = 0;
  if (!profile_->amd_pmu() || (!on_ && !kernel_->metadata_while_off)) return;
  version_ = v2 ? 2 : 1;
  const uint32_t claimed = v2 ? cpuid.counters : core_ ? kMaxCounters : kLegacyCounters;
  // with enable_pmu=N KVM takes the host for one without counters
  const uint32_t offered = profile_->enable_pmu ? profile_->counters : 0;
  const uint32_t host = kernel_->counters_capped ? offered : kMaxCounters;
  counters_ = std::min({claimed, host, kMaxCounters});
  if (v2 && kernel_->global_ctl_at_cpuid && counters_ != 0) global_ctl_ = counter_bits();
}

/// Is the MSR one of this vCPU's? Where the kernel answers by CPUID alone (amd_is_valid_msr), a yes
/// is no promise that a counter is behind it.
bool Pmu::exists(const PmuMsr& msr) const {
  if (!profile_->amd_pmu()) return false;
  switch (msr.bank) {
    case PmuBank::global:
      return version_ > 1 && (msr.index != kStatusSet || kernel_->status_set);
    case PmuBank::legacy:
      return kernel_->refused_by_cpuid_alone ? version_ > 0 : has_counter(msr);
    case PmuBank::extended:
      if (kernel_->refused_by_cpuid_alone) return core_;
      return kernel_->always_live || (core_ && has_counter(msr));
  }
  return false;
}

bool Pmu::has_counter(const PmuMsr& msr) const {
  return kernel_->always_live || (on_ && msr.index < counters_);
}

MsrRead Pmu::read(const PmuMsr& msr) const {
  if (!exists(msr)) {
    // K7 registers that are not there read 0, for guest and host (kvm_get_msr_common)
    const bool swallowed = msr.bank == PmuBank::legacy;
    return {swallowed ? MsrVerdict::done : MsrVerdict::unknown, 0};
  }
  if (msr.bank == PmuBank::global) return read_global(msr.index);
  if (!has_counter(msr)) return {MsrVerdict::refused, 0};
  const PerfCounter& pmc = counter_[msr.index];
  return {MsrVerdict::done, msr.selector ? pmc.selector() : pmc.counter()};
}

MsrVerdict Pmu::write(const PmuMsr& msr, uint64_t value, Access access) {
  if (!exists(msr)) return msr.bank == PmuBank::legacy ? MsrVerdict::done : MsrVerdict::unknown;
  if (msr.bank == PmuBank::global) return write_global(msr.index, value, access);
  if (!has_counter(msr)) return MsrVerdict::refused;
  PerfCounter& pmc = counter_[msr.index];
  if (!msr.selector) {
    pmc.write_counter(value);
    return MsrVerdict::done;
  }
  pmc.write_selector(value & selector_mask());
  if (pmc.reprogram_pending() && kernel_->reprogram_at_once) reprogram(msr.index);
  return MsrVerdict::done;
}

MsrRead Pmu::read_counter(uint32_t index) const {
  if (version_ == 0 || index >= counters_) return {MsrVerdict::refused, 0};
  return {MsrVerdict::done, counter_[index].counter()};
}

MsrRead Pmu::read_global(uint32_t index) const {
  switch (index) {
    case kStatus:
      return {MsrVerdict::done, global_status_};
    case kCtl:
      return {MsrVerdict::done, global_ctl_};
    default:  // STATUS_CLR and STATUS_SET read 0
      return {MsrVerdict::done, 0};
  }
}

MsrVerdict Pmu::write_global(uint32_t index, uint64_t value, Access access) {
  const bool guest = access == Access::guest;
  switch (index) {
    case kStatus:
      if (guest) return MsrVerdict::done;  // read-only to the guest, writes are ignored
      if ((value & ~counter_bits()) != 0) return MsrVerdict::refused;
      global_status_ = value;
      return MsrVerdict::done;
    case kCtl:
      write_global_ctl(value & counter_bits());
      return MsrVerdict::done;
    case kStatusClr:  // a host's write would act on the state being restored, so KVM ignores it
      if (guest) global_status_ &= ~value;
      return MsrVerdict::done;
    default:
      if (guest) global_status_ |= value & counter_bits();
      return MsrVerdict::done;
  }
}

void Pmu::write_global_ctl(uint64_t value) {
  const uint64_t changed = global_ctl_ ^ value;
  global_ctl_ = value;
  for (uint32_t i = 0; i < kMaxCounters; ++i) {
    if ((changed >> i & 1) == 0) continue;
    counter_[i].request_reprogram();
    if (kernel_->reprogram_at_once) reprogram(i);
  }
}

uint64_t Pmu::selector_mask() const {
  return ~(mediated_ ? kSelectorReserved & ~kGuestHostOnly : kSelectorReserved);
}

void Pmu::reprogram(uint32_t index) {
  const bool enabled = version_ < 2 || (global_ctl_ >> index & 1) != 0;
  counter_[index].reprogram(enabled, backing_of(index));
}

/// KVM's perf events are pinned: one that finds no counter of the CPU free gets none until it is
/// reprogrammed (perf_event_open(2), "pinned").
PerfCounter::Backing Pmu::backing_of(uint32_t index) const {
  if (mediated_) return PerfCounter::Backing::hardware;
  uint32_t taken = profile_->held_counters;
  for (uint32_t i = 0; i < kMaxCounters; ++i)
    if (i != index && counter_[i].counting()) ++taken;
  return taken < profile_->counters ? PerfCounter::Backing::event : PerfCounter::Backing::starved;
}

void Pmu::sched_in() {
  for (uint32_t i = 0; i < kMaxCounters; ++i) {
    if (counter_[i].reprogram_pending()) reprogram(i);
    counter_[i].release_if_idle();
  }
}

uint64_t Pmu::cycles_to_overflow() const {
  uint64_t least = std::numeric_limits<uint64_t>::max();
  for (const PerfCounter& pmc : counter_) least = std::min(least, pmc.cycles_to_overflow());
  return least;
}

bool Pmu::advance(uint64_t cycles) {
  bool interrupt = false;
  for (uint32_t i = 0; i < kMaxCounters; ++i) {
    if (!counter_[i].advance(cycles)) continue;
    global_status_ |= uint64_t{1} << i;
    interrupt |= (counter_[i].selector() & kSelectorInt) != 0;
  }
  return interrupt;
}

uint32_t Pmu::live_events() const {
  return static_cast<uint32_t>(std::ranges::count_if(counter_, &PerfCounter::has_event));
}

}  // namespace host_stub
