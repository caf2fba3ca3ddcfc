// SPDX-License-Identifier: MIT
//
// What one VM of a soak is: which kernel, guest, options and faults, from a seed and its number
// alone.
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace soak {

struct SoakCase {
  std::string kvm;      ///< as in open_sim
  std::string cpuid;    ///< of the guest, as in CpuidModel::parse
  std::string options;  ///< the plugin's
  std::string faults;   ///< as in parse_faults
  bool off = false;     ///< the options say pmu-cap-disabled=on
  bool strict = false;  ///< and strict=on
  bool verify = false;
  bool says_warnings = true;        ///< log-level lets them pass
  bool transient_refusals = false;  ///< a fault makes KVM refuse registers that it has
  bool lies = false;                ///< a fault drops a write and reports it done
  uint32_t vcpus = 1;
  uint32_t resets = 1;      ///< of each vCPU
  bool irqchip = true;      ///< in-kernel interrupt controller
  bool own_filter = false;  ///< the host offers deny_msrs
  bool cpuid_known = true;  ///< it offers get_cpuid's answers
  bool batch = false;       ///< it lends an open batch
  /// Allocations that succeed in create, vm_created and msr_list_build; the next one fails.
  unsigned create_memory = ~0u, vm_memory = ~0u, list_memory = ~0u;

  std::string text() const;
};

/// The same everywhere: std::mt19937_64 is, and no distribution of the library's is used.
SoakCase make_case(uint64_t seed, uint64_t vm);

}  // namespace soak
