// SPDX-License-Identifier: MIT
//
// The plugin on this KVM, tried rather than foretold: a VM for each setting, on which it does what
// it would do to a VMM's, and what it says meanwhile.
//
// The VM's host is as the preload host is (vmm-run): it has an MSR filter of its own, knows the
// guest's CPUID and hides bits of it, and makes vCPUs with an in-kernel interrupt controller. Its
// VMM was told that the guest is to have no PMU (pmu=off), which is what pmu-cap-disabled=auto asks
// for.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "host_kit/plugin_library.hpp"
#include "tool/kvm.hpp"
#include "tool/probe.hpp"

namespace svm_pmu::tool {

/// The settings that are tried where nobody names one.
inline constexpr std::array<const char*, 5> kSettings{{
    "pmu-cap-disabled=off",
    "pmu-cap-disabled=on,pmu-off-method=auto",
    "pmu-cap-disabled=on,pmu-off-method=cap",
    "pmu-cap-disabled=on,pmu-off-method=msr-filter",
    "pmu-cap-disabled=auto",
}};

/// A line of the plugin's.
struct PluginLine {
  uint32_t level = 0;  ///< VMM_LOG_*
  std::string text;
};

struct Trial {
  std::string options;
  int32_t result = 0;             ///< of create and vm_created: -errno = this VM does not start
  std::string error;              ///< why, in the plugin's words
  std::vector<PluginLine> lines;  ///< what it logged, from create to vcpu_reset
  CounterAnswer counter;          ///< a counter of the VM's vCPU afterwards, asked by the host
  int32_t reset_result = 0;       ///< of vcpu_reset
  std::optional<bool> cleared;    ///< a counter that held 1 before vcpu_reset; empty: none held it
};

/// Tries one setting; `options` as written by an operator, log-level=info is added where it names
/// none.
Trial try_plugin(Kvm& kvm, const host_kit::PluginLibrary& plugin, const std::string& options);

}  // namespace svm_pmu::tool
