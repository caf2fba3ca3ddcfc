// SPDX-License-Identifier: MIT
//
// What must come of a case of the matrix, written down before it runs. It is made from what is
// known of KVM (recorded answers, KVM's documentation and source) and from what the plugin is
// required to do; it shares nothing with the plugin or with the simulated KVM, so that the three
// can disagree.
#pragma once

#include <cstdint>
#include <optional>

#include "matrix/matrix_case.hpp"

namespace host_stub::matrix {

/// How far the VM comes.
enum class Start : uint8_t {
  runs,
  refused,  ///< vm_created fails with EOPNOTSUPP: strict=on and nothing applies
  busy,     ///< the first KVM_CREATE_VCPU fails with EBUSY
};

/// What vm_created came to.
enum class Decision : uint8_t {
  nothing,       ///< not asked to do anything
  off_by_cap,    ///< KVM_PMU_CAP_DISABLE
  already_off,   ///< KVM has it off for every VM
  filtered,      ///< deny filter
  not_possible,  ///< said so; the reset stays armed
};

/// What the guest says of its PMU when it boots.
enum class BootLine : uint8_t {
  driver,         ///< "AMD PMU driver." or "HYGON PMU driver."
  not_available,  ///< "PMU not available due to virtualization"
  no_driver,      ///< not a CPU with AMD's PMU
};

enum class Warning : uint8_t { never, may, must };

struct Range {
  uint32_t least = 0, most = 0;
};

struct Expectation {
  const char* impossible = nullptr;  ///< why there is no such case; then nothing else counts
  Start start = Start::runs;
  Decision decision = Decision::nothing;
  uint32_t most_vm_created_ioctls = 0;
  bool live = false;                   ///< registers hold what is written to them
  uint32_t live_counters = 0;          ///< of those that the guest's CPUID promises
  std::optional<uint64_t> global_ctl;  ///< after a reset; empty: the VM has no GLOBAL_CTL
  bool global_is_dead = false;  ///< GLOBAL_* are there without counters: what they hold is nothing
  BootLine boot = BootLine::no_driver;
  bool firmware_bug = false;   ///< at the boot after the reset
  Range set_msrs;              ///< KVM_SET_MSRS of each vCPU in a reset that is not the first
  uint32_t most_get_msrs = 0;  ///< KVM_GET_MSRS of each vCPU in such a reset
  Range refused_lines;  ///< the plugin's lines of registers that KVM refuses, in the VM's life
  Warning warning = Warning::never;
};

Expectation expectation_of(const Case& row);

}  // namespace host_stub::matrix
