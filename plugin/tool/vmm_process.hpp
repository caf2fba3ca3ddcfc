// SPDX-License-Identifier: MIT
//
// The processes of a host that have KVM virtual machines open, as /proc shows them, and what the
// preload library of each has published (host_preload/status_page.hpp).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "host_preload/vmm_command_line.hpp"

namespace svm_pmu::tool {

/// A plugin of a process.
struct PublishedPlugin {
  std::string name, version, options;
};

/// A VM of a process.
struct PublishedVm {
  int32_t fd = -1;
  uint32_t plugins = 0;             ///< bit i: plugin i has it
  std::vector<std::string> states;  ///< of plugin i; empty: it does not say
  uint64_t resets = 0, failed_resets = 0;
};

/// A copy of a status page.
struct Published {
  uint32_t pid = 0;  ///< as the process itself sees it
  std::string host;
  std::vector<PublishedPlugin> plugins;
  std::vector<PublishedVm> vms;
  uint32_t vms_without_room = 0;
};

/// Reads a page's bytes. Empty: it is none, or of another version.
std::optional<Published> read_page(const std::string& bytes);

struct VmmProcess {
  int32_t pid = 0;
  std::string program;                        ///< its file's name, or what the kernel calls it
  host_preload::VmmCommandLine command_line;  ///< the VM's name; what was said of its PMU
  uint32_t vm_descriptors = 0;                ///< that lead to a VM; duplicates count
  bool library = false;                       ///< libvmm_preload.so is mapped
  bool library_asked = false;                 ///< LD_PRELOAD or VMM_PLUGINS is set for it
  bool plugin = false;                        ///< svm_pmu.so is mapped
  std::optional<Published> published;
};

/// What decides whether this host's VMs have the bugs at all.
struct HostFacts {
  std::string vendor;      ///< "AuthenticAMD"; empty: not known
  std::string enable_pmu;  ///< kvm.enable_pmu: "Y", "N"; "?" = not there

  bool affected() const;  ///< false: an Intel host, or KVM makes no vPMU
};

struct Scan {
  HostFacts host;
  std::vector<VmmProcess> processes;  ///< by pid
  uint32_t unreadable = 0;            ///< processes whose descriptors this user may not see
  bool hidden = false;                ///< /proc does not list all processes (hidepid), or is absent
};

/// `root`: the folder in which proc and sys are: "" for this machine. `pid`: only this process; 0:
/// all.
Scan scan_host(const std::string& root, int32_t pid = 0);

}  // namespace svm_pmu::tool
