// SPDX-License-Identifier: MIT
//
// What does KVM answer for a PMU MSR of this vCPU? The register semantics of KVM's AMD vPMU (KVM:
// arch/x86/kvm/svm/pmu.c and pmu.c), for the host's KVM_GET_MSRS / KVM_SET_MSRS and for the guest.
#pragma once

#include <array>
#include <cstdint>

#include "sim/perf_counter.hpp"
#include "sim/pmu_msrs.hpp"
#include "sim/profile.hpp"

namespace host_stub {

/// Who accesses an MSR: the VMM with an ioctl, or the guest's own RDMSR / WRMSR.
enum class Access : uint8_t { host, guest };

enum class MsrVerdict : uint8_t {
  done,
  refused,  ///< KVM knows the MSR and says no: #GP, or the ioctl ends here
  unknown,  ///< this vCPU has no such MSR: as refused, but the host's zero waiver may apply
};

struct MsrRead {
  MsrVerdict verdict = MsrVerdict::unknown;
  uint64_t value = 0;
};

/// What the guest's CPUID says of its PMU.
struct GuestPmuCpuid {
  bool core = false;       ///< 80000001.ECX[23] PerfCtrExtCore
  bool perfmonv2 = false;  ///< 80000022.EAX[0]
  uint32_t counters = 0;   ///< 80000022.EBX[3:0]
};

class Pmu {
 public:
  /// `on`: the VM's vPMU was not turned off when the vCPU was made. The profile must live on.
  Pmu(const Profile& profile, bool on, bool mediated);

  /// KVM_SET_CPUID2.
  void refresh(const GuestPmuCpuid& cpuid);

  MsrRead read(const PmuMsr& msr) const;
  MsrVerdict write(const PmuMsr& msr, uint64_t value, Access access);

  /// The guest's RDPMC of counter `index`, without its width flag. Refused: #GP.
  MsrRead read_counter(uint32_t index) const;

  /// Start of a KVM_RUN: deferred reprogramming, then lazy release.
  void sched_in();

  uint64_t cycles_to_overflow() const;
  /// Passes guest cycles, at most cycles_to_overflow(). True: an overflow asks for an interrupt.
  bool advance(uint64_t cycles);

  bool on() const { return on_; }
  bool mediated() const { return mediated_; }
  /// 0 = off, 1, 2 = PerfMonV2, and n. Kernels with metadata_while_off tell both of an off one.
  uint32_t version() const { return version_; }
  uint32_t counters() const { return counters_; }
  uint32_t live_events() const;  ///< perf events allocated on the host

 private:
  bool exists(const PmuMsr& msr) const;
  bool has_counter(const PmuMsr& msr) const;
  MsrRead read_global(uint32_t index) const;
  MsrVerdict write_global(uint32_t index, uint64_t value, Access access);
  void write_global_ctl(uint64_t value);
  uint64_t counter_bits() const { return (uint64_t{1} << counters_) - 1; }
  uint64_t selector_mask() const;
  void reprogram(uint32_t index);
  PerfCounter::Backing backing_of(uint32_t index) const;

  const Kernel* kernel_;
  const Profile* profile_;
  bool on_;
  bool mediated_;
  bool core_ = false;
  uint32_t version_ = 0;
  uint32_t counters_ = 0;
  uint64_t global_ctl_ = 0;
  uint64_t global_status_ = 0;
  std::array<PerfCounter, kMaxCounters> counter_{};
};

}  // namespace host_stub
