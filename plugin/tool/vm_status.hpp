// SPDX-License-Identifier: MIT
//
// Which VMs of a host are protected from the two bugs, which are not, and of which nothing is
// known.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tool/vmm_process.hpp"

namespace svm_pmu::tool {

enum class Protection : uint8_t {
  yes,
  no,
  unknown,
  not_needed,  ///< this host has neither bug
};
const char* protection_word(Protection protection);

struct VmStatus {
  int32_t pid = 0;
  std::string program, name;
  int32_t fd = -1;  ///< of the VM in its process; -1: not known
  Protection protection = Protection::unknown;
  std::string vpmu;             ///< the plugin's word for what it does; empty: there is none
  std::string plugin, options;  ///< "svm_pmu 1.0.0"; empty: there is none
  uint64_t resets = 0, failed_resets = 0;
  host_preload::GuestPmu told = host_preload::GuestPmu::unsaid;  ///< what the VMM was told
  bool believes_off = false;  ///< its VMM was told that the guest has no PMU, and it has one
  std::string reason;         ///< why it is not protected, or nothing is known; what else is wrong
};

struct HostStatus {
  HostFacts host;
  std::vector<VmStatus> vms;
  uint32_t unreadable = 0;
  bool hidden = false;
};

/// `require_plugin`: a VM without the plugin is not protected on a host without the bugs, either.
HostStatus judge(const Scan& scan, bool require_plugin);

/// kExitGood, kExitWrong (a VM is not protected) or kExitUnknown.
int exit_status(const HostStatus& status);

std::string text_of(const HostStatus& status, bool colour);
std::string json_of(const HostStatus& status);

/// For node_exporter's textfile collector.
std::string prometheus_of(const HostStatus& status);

}  // namespace svm_pmu::tool
