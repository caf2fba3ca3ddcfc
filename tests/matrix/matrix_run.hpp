// SPDX-License-Identifier: MIT
//
// Runs a case of the matrix (boot, perf, reset, boot, with two vCPUs), keeps what was seen, and
// says where that is not what was expected.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "kvm/kvm.hpp"
#include "matrix/matrix_case.hpp"
#include "matrix/matrix_expectation.hpp"

namespace host_stub::matrix {

/// The case's host. Error: why there is none such.
tl::expected<std::unique_ptr<Kvm>, std::string> open_host(const Case& row);

/// How often each ioctl was made, by name.
using IoctlCounts = std::map<std::string, uint32_t>;

struct LogLine {
  uint32_t level = 0;
  std::string text;
};

/// What one vCPU's PMU registers held.
struct Registers {
  uint32_t dirty_counters = 0;         ///< pairs of selector and counter of which one is not 0
  std::vector<uint32_t> dirty;         ///< the registers themselves
  std::optional<uint64_t> global_ctl;  ///< empty: KVM does not know it, or it reads 0 and takes 0
  uint64_t global_status = 0;
};

struct Observation {
  int32_t start_result = 0;  ///< of making the VM: 0 or -errno
  std::string start_error;
  IoctlCounts vm_created;                     ///< ioctls on the VM inside the hook
  std::vector<IoctlCounts> reset;             ///< of each vCPU: MSR ioctls in the second reset
  std::vector<uint32_t> written_twice;        ///< registers, in one reset of one vCPU
  std::vector<Registers> before, after;       ///< the second reset, of each vCPU
  std::vector<std::string> boot, boot_after;  ///< the guest's console
  std::vector<uint32_t> guest_reaches;        ///< PMU registers that take no #GP, on vCPU 0
  uint32_t nmis_after = 0;                    ///< unknown NMIs since the boot after the reset
  std::vector<LogLine> log;                   ///< the plugin's
  std::vector<LogLine> host_log;              ///< the host's own
  int32_t hook_result = 0;                    ///< the worst of all hooks
};

/// `plugin`: path of the plugin, of which only cases with one make use.
Observation observe(const Case& row, const std::string& plugin);

/// What is not as expected, one line each; empty: met.
std::vector<std::string> differences(const Expectation& expected, const Case& row,
                                     const Observation& seen);

/// What vm_created came to, by what the plugin says; empty: it says none or several of them.
std::optional<Decision> decision_said(const Observation& seen);

}  // namespace host_stub::matrix
