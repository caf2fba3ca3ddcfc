// SPDX-License-Identifier: MIT
//
// Which KVM is simulated? A profile is a kernel (a row of one table of answers) plus the switches
// of the host: module parameters and CPU. Nothing outside this room asks for a kernel's name: what
// differs between kernels is a column.
//
// Grammar of a spec:  sim[:KERNEL][,SWITCH]...
//   KERNEL   linux-5.4 | linux-5.10 | linux-5.15 | linux-6.1 | linux-6.6 (as released) |
//            linux-6.6.y (its stable branch) | linux-6.12 (default) | linux-6.18 | linux-7.2
//   SWITCH   enable_pmu=Y|N     module parameter kvm.enable_pmu (Linux 5.17)
//            host-perfmonv2     the host CPU has PerfMonV2
//            mediated           module parameter kvm_amd.enable_mediated_pmu=1 (Linux 7.0)
//            host-perf-busy[=N] the host's own perf events hold N counters of each CPU, as its NMI
//                               watchdog (1) or a profiling agent do; all counters unless said
//            no-pmu-capability  KVM_CAP_PMU_CAPABILITY reads 0 although the vPMU works, as where a
//                               vendor took over a part of Linux 5.18 only
//            ignore_msrs=0|1    module parameter kvm.ignore_msrs
//            counters=1..15     core counters of the host CPU, 6 unless said
//            vendor=amd|hygon|intel
// e.g. "sim:linux-7.2,host-perfmonv2,mediated".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

namespace host_stub {

struct CpuidLeaf {
  uint32_t function = 0, eax = 0, ebx = 0, ecx = 0, edx = 0;
};

/// Who reads 0 from an F15H register that the vCPU has not.
enum class ReadsZero : uint8_t { nobody, host, everybody };

/// One kernel's KVM: every column is an answer that a test or a recording can check.
struct Kernel {
  std::string_view name;     ///< as in a spec
  std::string_view release;  ///< as uname -r on the recorded host
  // capabilities
  bool msr_filter;                 ///< KVM_CAP_X86_MSR_FILTER, KVM_CAP_X86_USER_SPACE_MSR
  bool pmu_capability;             ///< KVM_CAP_PMU_CAPABILITY
  bool enable_pmu_parameter;       ///< kvm.enable_pmu
  int32_t disable_quirks2;         ///< answer to KVM_CAP_DISABLE_QUIRKS2
  bool sregs2;                     ///< KVM_CAP_SREGS2
  int32_t max_vcpus, max_vcpu_id;  ///< KVM_CAP_MAX_VCPUS, KVM_CAP_MAX_VCPU_ID
  bool user_msr_checks_args;       ///< KVM_CAP_X86_USER_SPACE_MSR refuses unknown reasons
  // which PMU MSRs there are
  bool always_live;               ///< K7 0-3 and F15H 0-5 work whatever CPUID and capability say
  bool refused_by_cpuid_alone;    ///< an MSR that CPUID promises, no counter behind: refused
  ReadsZero extended_reads_zero;  ///< F15H that the vCPU has not, listed or not
  bool extended_takes_zero;       ///< the host may set those to 0, listed or not
  bool zero_waiver;               ///< a listed MSR that the vCPU has not: host gets 0, may set 0
  bool listed_while_off;          ///< enable_pmu=N leaves K7 and F15H in the MSR index list
  bool lists_fixed_overflow;      ///< MSR 390 in the list; with it 38d-38f stay at enable_pmu=N
  bool counters_capped;           ///< n is at most what the host has
  bool perfmonv2;                 ///< PerfMonV2 for guests
  bool status_set;                ///< GLOBAL_STATUS_SET exists
  bool cpuid_capped;              ///< a feature that KVM does not support is not the guest's
  bool global_ctl_at_cpuid;       ///< KVM_SET_CPUID2 sets GLOBAL_CTL to (1 << n) - 1
  bool metadata_while_off;        ///< version and n are set though the vPMU is off
  bool mediated;                  ///< kvm_amd.enable_mediated_pmu
  // life of events
  bool reprogram_at_once;         ///< by the write itself, else at the next KVM_RUN
  bool cpuid_frozen_after_run;    ///< KVM_SET_CPUID2 cannot change anything after KVM_RUN
  bool lvtpc_masked_on_delivery;  ///< for a guest with AMD's or Hygon's CPUID
  // tables
  uint32_t other_msrs;               ///< entries of the MSR index list beside the PMU's
  std::span<const CpuidLeaf> cpuid;  ///< KVM_GET_SUPPORTED_CPUID, host without PerfMonV2
};

/// All kernels that can be simulated, oldest first.
std::span<const Kernel> kernels();

enum class Vendor : uint8_t { amd, hygon, intel };

struct Profile {
  const Kernel* kernel = nullptr;  ///< into kernels(); never null after parse_profile
  bool enable_pmu = true;
  bool host_perfmonv2 = false;
  bool mediated = false;
  bool no_pmu_capability = false;
  bool ignore_msrs = false;
  uint32_t held_counters = 0;  ///< by the host's own perf events, on each CPU
  uint32_t counters = 6;
  Vendor vendor = Vendor::amd;
  std::string spec;

  /// KVM on this host: has it AMD's vPMU at all, and does it offer these to guests?
  bool amd_pmu() const { return vendor != Vendor::intel; }
  bool offers_core() const;       ///< PerfCtrExtCore
  bool offers_perfmonv2() const;  ///< PerfMonV2
};

/// Error: names the spec, the part that is wrong, and what would be allowed.
tl::expected<Profile, std::string> parse_profile(std::string_view spec);

/// KVM_GET_SUPPORTED_CPUID: the leaves that were recorded, in KVM's order.
std::vector<CpuidLeaf> supported_cpuid(const Profile& profile);

/// KVM_GET_MSR_INDEX_LIST, in KVM's order.
std::vector<uint32_t> msr_index_list(const Profile& profile);

}  // namespace host_stub
