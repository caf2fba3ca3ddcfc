// SPDX-License-Identifier: MIT
//
// All that a probe found, for people and for programs.
#pragma once

#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "tool/kvm.hpp"
#include "tool/perf_counters.hpp"
#include "tool/probe.hpp"
#include "tool/trial.hpp"

namespace svm_pmu::tool {

struct ProbeOptions {
  std::string plugin;                 ///< a path, or a name that is looked for; empty: svm_pmu.so
  std::vector<std::string> settings;  ///< of the plugin, to try; none: kSettings
  bool json = false;
};

struct ProbeReport {
  Probe probe;
  PerfCounters perf;          ///< asked on this machine's KVM with a live vPMU only
  std::string plugin;         ///< the file that was tried, and its version
  std::string plugin_error;   ///< why none was
  std::vector<Trial> trials;  ///< one a setting
};

/// Asks a KVM, its host and the plugin. Error: one line; KVM could not be asked at all.
tl::expected<ProbeReport, std::string> make_report(Kvm& kvm, const ProbeOptions& options);

std::string text_of(const ProbeReport& report);
std::string json_of(const ProbeReport& report);

/// Probes a KVM and prints what was found to standard output. Error: one line; KVM could not be
/// asked, or a plugin or a setting that the options name made no VM.
tl::expected<void, std::string> print_probe(Kvm& kvm, const ProbeOptions& options);

}  // namespace svm_pmu::tool
