// SPDX-License-Identifier: MIT
#include "stub_vmm/linux_guest.hpp"

#include <fmt/format.h>

#include <utility>

namespace host_stub {
namespace {

constexpr uint64_t kEn = uint64_t{1} << 22;
/// EN, INT, OS, USR, event 0x76 (cycles not in halt): what perf programs for "cycles".
constexpr uint64_t kCyclesEvent = 0x530076;
constexpr uint64_t kCounterMask = (uint64_t{1} << 48) - 1;
constexpr uint64_t kCounterTop = uint64_t{1} << 47;

constexpr uint32_t kGlobalStatus = 0xc0000300, kGlobalCtl = 0xc0000301,
                   kGlobalStatusClr = 0xc0000302;

constexpr uint32_t kLvtpcNmi = 0x400;

/// The counter that perf gets first.
constexpr uint32_t kPerfCounter = 0;

constexpr const char* kNotAvailable =
    "PMU not available due to virtualization, using software events only.";

}  // namespace

LinuxGuest::LinuxGuest(std::vector<Vcpu*> vcpus, GuestKernel kernel, GuestCpuid cpuid,
                       GuestConsole console)
    : vcpus_(std::move(vcpus)),
      kernel_(kernel),
      cpuid_(std::move(cpuid)),
      console_(std::move(console)) {}

tl::expected<uint64_t, GuestFault> LinuxGuest::rdmsr(Vcpu& vcpu, uint32_t msr) {
  auto value = vcpu.guest_rdmsr(msr);
  if (!value && value.error() == GuestFault::not_run) state_.not_run = true;
  return value;
}

tl::expected<uint64_t, GuestFault> LinuxGuest::rdpmc(Vcpu& vcpu, uint32_t counter) {
  auto value = vcpu.guest_rdpmc(counter);
  if (!value && value.error() == GuestFault::not_run) state_.not_run = true;
  return value;
}

bool LinuxGuest::wrmsr(Vcpu& vcpu, uint32_t msr, uint64_t value) {
  const auto done = vcpu.guest_wrmsr(msr, value);
  if (!done && done.error() == GuestFault::not_run) state_.not_run = true;
  return done.has_value();
}

/// amd_pmu_init: which driver, which registers.
std::optional<LinuxGuest::Pmu> LinuxGuest::identify() const {
  const CpuidResult vendor = cpuid_(0, 0);
  const bool amd = vendor.ebx == 0x68747541;    // "Auth"
  const bool hygon = vendor.ebx == 0x6f677948;  // "Hygo"
  if (!amd && !hygon) return std::nullopt;
  const uint32_t signature = cpuid_(1, 0).eax;
  const uint32_t base_family = (signature >> 8) & 0xf;
  const uint32_t family = base_family + (base_family == 0xf ? (signature >> 20) & 0xff : 0);
  if (family < 6) return std::nullopt;

  Pmu pmu{"", amd ? "AMD" : "HYGON", 0xc0010000, 0xc0010004, 1, 4, false};
  if ((cpuid_(0x80000001, 0).ecx & (1u << 23)) == 0) return pmu;
  pmu.family = family == 0x15  ? "Fam15h core perfctr, "
               : family > 0x16 ? "Fam17h+ core perfctr, "
                               : "core perfctr, ";
  pmu.selector0 = 0xc0010200;
  pmu.counter0 = 0xc0010201;
  pmu.stride = 2;
  pmu.counters = 6;
  const CpuidResult perfmon = cpuid_(0x80000022, 0);
  if (kernel_.knows_perfmonv2 && cpuid_(0x80000000, 0).eax >= 0x80000022 &&
      (perfmon.eax & 1) != 0) {
    pmu.global = true;
    pmu.counters = perfmon.ebx & 0xf;
  }
  return pmu;
}

/// The probe: every selector must be readable, one of them off, and its counter must keep a value.
LinuxGuest::Probe LinuxGuest::check_hw_exists(const Pmu& pmu) {
  Vcpu& cpu = *vcpus_.front();
  std::optional<uint32_t> usable;
  std::optional<std::pair<uint32_t, uint64_t>> corrupted;
  for (uint32_t i = 0; i < pmu.counters; ++i) {
    const auto selector = rdmsr(cpu, pmu.selector(i));
    if (!selector) return Probe::absent;
    if ((*selector & kEn) != 0)
      corrupted = {pmu.selector(i), *selector};
    else
      usable = i;
  }
  if (!usable) return Probe::absent;
  const auto before = rdmsr(cpu, pmu.counter(*usable));
  if (!before) return Probe::absent;
  const uint64_t changed = *before ^ 0xffff;
  if (!wrmsr(cpu, pmu.counter(*usable), changed)) return Probe::absent;
  const auto after = rdmsr(cpu, pmu.counter(*usable));
  if (!after || *after != changed) return Probe::absent;

  if (corrupted) {
    state_.firmware_bug = true;
    console_(pending_ + "Broken BIOS detected, complain to your hardware vendor.");
    pending_.clear();
    console_(
        fmt::format("[Firmware Bug]: the BIOS has corrupted hw-PMU resources (MSR {:x} is {:x})",
                    corrupted->first, corrupted->second));
  }
  return Probe::ok;
}

void LinuxGuest::boot() {
  state_ = {};
  pmu_ = identify();
  pending_ = "Performance Events: ";
  if (!pmu_) {
    console_(pending_ + "no PMU driver, software events only.");
    return;
  }
  pending_ += pmu_->family;
  if (check_hw_exists(*pmu_) == Probe::absent) {
    if (state_.not_run) return;
    console_(pending_ + kNotAvailable);
    pmu_.reset();
    return;
  }
  state_.has_pmu = true;
  console_(pending_ + pmu_->name + " PMU driver.");
  pending_.clear();
  console_(fmt::format("... version:                {}", pmu_->global ? 2 : 0));
  start_cpus();
  run(kBootCycles);
}

LinuxGuest::Memory LinuxGuest::memory() const { return {pmu_, state_}; }

void LinuxGuest::resume(const Memory& memory) {
  pmu_ = memory.pmu;
  state_ = memory.state;
}

void LinuxGuest::plug_cpu(std::size_t cpu) {
  if (pmu_) vcpus_[cpu]->guest_write_lvtpc(kLvtpcNmi);
}

/// Each CPU as it comes up: the local APIC delivers counter overflows as NMIs.
void LinuxGuest::start_cpus() {
  for (Vcpu* vcpu : vcpus_) vcpu->guest_write_lvtpc(kLvtpcNmi);
}

bool LinuxGuest::start_perf() {
  if (!pmu_) {
    console_("perf: cycles is not supported, falling back to cpu-clock");
    return false;
  }
  for (Vcpu* vcpu : vcpus_) {
    wrmsr(*vcpu, pmu_->counter(kPerfCounter), (0 - kPeriod) & kCounterMask);
    wrmsr(*vcpu, pmu_->selector(kPerfCounter), kCyclesEvent);
    if (pmu_->global) wrmsr(*vcpu, kGlobalCtl, (uint64_t{1} << pmu_->counters) - 1);
  }
  state_.perf_runs = true;
  run(kPeriod / 2);  // no overflow yet
  for (Vcpu* vcpu : vcpus_) {
    const auto counter = rdpmc(*vcpu, kPerfCounter);
    if (vcpu->has_guest_time() && (!counter || *counter == ((0 - kPeriod) & kCounterMask)))
      state_.dead_counters = true;
  }
  run(kPerfCycles - kPeriod / 2);
  return true;
}

void LinuxGuest::stop_perf() {
  if (!pmu_ || !state_.perf_runs) return;
  for (Vcpu* vcpu : vcpus_) {
    if (pmu_->global) wrmsr(*vcpu, kGlobalCtl, 0);
    wrmsr(*vcpu, pmu_->selector(kPerfCounter), kCyclesEvent & ~kEn);
  }
  state_.perf_runs = false;
}

void LinuxGuest::run(uint64_t cycles) {
  for (std::size_t cpu = 0; cpu < vcpus_.size(); ++cpu) run_cpu(cpu, cycles);
}

void LinuxGuest::pass_time(uint64_t cycles) {
  Vcpu& cpu = *vcpus_.front();
  if (!pmu_ || !state_.perf_runs || !cpu.has_guest_time()) return run(cycles);
  const uint64_t samples = state_.samples;
  const auto before = rdpmc(cpu, kPerfCounter);
  run(cycles);
  const auto after = rdpmc(cpu, kPerfCounter);
  const bool moved = before && after && (*before != *after || samples != state_.samples);
  if (!moved) state_.dead_counters = true;
}

void LinuxGuest::run_cpu(std::size_t cpu, uint64_t cycles) {
  // An interrupted stretch of no cycles at all, again and again, would be a storm: give up then.
  constexpr int kMostNmis = 10'000;
  for (int nmis = 0; cycles > 0 && nmis < kMostNmis;) {
    const GuestRun stretch = vcpus_[cpu]->guest_run(cycles);
    cycles -= stretch.cycles < cycles ? stretch.cycles : cycles;
    if (!stretch.nmi) return;
    ++nmis;
    handle_nmi(cpu);
  }
}

void LinuxGuest::handle_nmi(std::size_t cpu) {
  Vcpu& vcpu = *vcpus_[cpu];
  const bool handled = state_.perf_runs && handle_overflow(vcpu);
  vcpu.guest_write_lvtpc(kLvtpcNmi);  // an NMI masks LVTPC; Linux opens it again
  if (handled) {
    ++state_.samples;
    return;
  }
  ++state_.unknown_nmis;
  console_(fmt::format("Uhhuh. NMI received for unknown reason 30 on CPU {}.", cpu));
  console_("Dazed and confused, but trying to continue");
}

/// perf's own counter passed its top: count a sample, start the next period.
bool LinuxGuest::handle_overflow(Vcpu& vcpu) {
  if (pmu_->global) {
    const auto status = rdmsr(vcpu, kGlobalStatus);
    if (!status || (*status & (uint64_t{1} << kPerfCounter)) == 0) return false;
    wrmsr(vcpu, kGlobalStatusClr, *status);
  } else {
    const auto counter = rdpmc(vcpu, kPerfCounter);
    if (!counter || (*counter & kCounterTop) != 0) return false;
  }
  wrmsr(vcpu, pmu_->counter(kPerfCounter), (0 - kPeriod) & kCounterMask);
  return true;
}

}  // namespace host_stub
