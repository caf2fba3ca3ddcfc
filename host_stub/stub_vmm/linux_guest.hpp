// SPDX-License-Identifier: MIT
//
// What a Linux guest does with the AMD PMU, and the lines that it prints: its probe at boot, perf,
// and its NMI handler. It knows a vCPU only by what guest code can do (kvm.hpp), so the same model
// runs on the simulated KVM and, by real guest instructions, on /dev/kvm.
//
// Modelled on Linux 6.1, arch/x86/events/core.c (check_hw_exists, perf_event_nmi_handler,
// x86_perf_event_update, which reads counters by RDPMC),
// arch/x86/events/amd/core.c and arch/x86/kernel/nmi.c; the lines are those that such guests were
// seen to print. As a KVM guest it has no NMI watchdog unless told to (nmi_watchdog=1).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kvm/kvm.hpp"

namespace host_stub {

/// CPUID as the guest executes it: leaf, subleaf -> eax, ebx, ecx, edx.
struct CpuidResult {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};
using GuestCpuid = std::function<CpuidResult(uint32_t leaf, uint32_t subleaf)>;

/// A line of the guest's console.
using GuestConsole = std::function<void(const std::string& line)>;

/// Which Linux it is.
struct GuestKernel {
  bool knows_perfmonv2 = true;  ///< Linux 5.19 and later; before, GLOBAL_CTL is never touched
};

class LinuxGuest {
 public:
  /// `vcpus[0]` is the boot CPU. They must outlive the guest; the guest runs on the caller's
  /// thread.
  LinuxGuest(std::vector<Vcpu*> vcpus, GuestKernel kernel, GuestCpuid cpuid, GuestConsole console);

  /// Boots a new kernel: forgets all of the old one, probes the PMU, lets a little time pass.
  void boot();

  /// perf top: a sampling event for core cycles on every CPU, for a few periods. False (and a line)
  /// without a PMU.
  bool start_perf();

  /// Ends perf as Linux does: disables the events, leaves the counters as they are.
  void stop_perf();

  /// The guest starts a new kernel by itself (kexec, kdump): no VMM sees it, so nothing is reset.
  void kexec() { boot(); }

  /// A CPU is plugged in again after its reset: the running kernel brings it up.
  void plug_cpu(std::size_t cpu);

  /// Lets every CPU run for so many cycles; takes the NMIs that come.
  void run(uint64_t cycles);

  /// run(), and looks whether the counter of a running perf moves meanwhile
  /// (state().dead_counters).
  void pass_time(uint64_t cycles);

  /// What happened since boot() began.
  struct State {
    bool has_pmu = false;
    bool perf_runs = false;
    bool firmware_bug = false;   ///< "Broken BIOS detected" was printed
    uint32_t unknown_nmis = 0;   ///< "Uhhuh. NMI received for unknown reason"
    uint64_t samples = 0;        ///< NMIs that perf took for its own
    bool dead_counters = false;  ///< perf ran on a CPU and its counter did not move
    bool not_run = false;        ///< the backend could not run the guest
  };
  const State& state() const { return state_; }

  /// What the guest remembers of its PMU, as a snapshot's memory image would hold it.
  struct Memory;
  Memory memory() const;
  /// Goes on from there, on this VM's vCPUs.
  void resume(const Memory& memory);

  /// Sampling period of perf, in cycles.
  static constexpr uint64_t kPeriod = 1'000'000;
  static constexpr uint64_t kPerfCycles = 3 * kPeriod + kPeriod / 2;
  /// Time that boot() lets pass on each CPU once the PMU driver is up.
  static constexpr uint64_t kBootCycles = 4 * kPeriod;

 private:
  struct Pmu {
    std::string family;  ///< "Fam17h+ core perfctr, "
    std::string name;    ///< "AMD"
    uint32_t selector0 = 0, counter0 = 0, stride = 0, counters = 0;
    bool global = false;
    uint32_t selector(uint32_t i) const { return selector0 + stride * i; }
    uint32_t counter(uint32_t i) const { return counter0 + stride * i; }
  };
  enum class Probe { ok, absent };

  std::optional<Pmu> identify() const;
  Probe check_hw_exists(const Pmu& pmu);
  void start_cpus();
  void run_cpu(std::size_t cpu, uint64_t cycles);
  void handle_nmi(std::size_t cpu);
  bool handle_overflow(Vcpu& vcpu);
  tl::expected<uint64_t, GuestFault> rdpmc(Vcpu& vcpu, uint32_t counter);
  tl::expected<uint64_t, GuestFault> rdmsr(Vcpu& vcpu, uint32_t msr);
  bool wrmsr(Vcpu& vcpu, uint32_t msr, uint64_t value);

  std::vector<Vcpu*> vcpus_;
  GuestKernel kernel_;
  GuestCpuid cpuid_;
  GuestConsole console_;
  std::string pending_;  ///< a line begun and not ended
  std::optional<Pmu> pmu_;
  State state_;
};

struct LinuxGuest::Memory {
  std::optional<Pmu> pmu;
  State state;
};

}  // namespace host_stub
