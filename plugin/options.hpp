// SPDX-License-Identifier: MIT
//
// The plugin's option string: its grammar, its table, its values.
//
// "key=value,key=value"; a literal comma in a value is doubled, as QEMU does; NULL and "" mean no
// options. Keys are lower case. Nothing is trimmed, nothing is guessed, each key at most once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "error.hpp"

namespace svm_pmu {

/// How pmu-cap-disabled=on is to be done.
enum class PmuOffMethod : uint8_t { automatic, cap, msr_filter };

/// Which VMs are to have no vPMU.
enum class PmuOff : uint8_t {
  off,        ///< none
  on,         ///< all
  automatic,  ///< those whose VMM was told so (vmm/guest_pmu.h)
};

/// What becomes of the CPUID bits that announce a PMU, in a VM that has none.
enum class PmuCpuid : uint8_t {
  automatic,  ///< hidden where this plugin switched the vPMU off
  hide,       ///< hidden also where it was off before
  keep,
};

struct Options {
  PmuOff pmu_cap_disabled = PmuOff::off;
  PmuOffMethod pmu_off_method = PmuOffMethod::automatic;
  PmuCpuid pmu_cpuid = PmuCpuid::automatic;
  bool pmu_reset = true;
  bool pmu_state = true;
  bool verify = false;
  bool strict = false;
  uint32_t log_level = 200;  ///< VMM_LOG_*
};

/// One row of the option table; the texts are for options_help, svm_pmu(7), the README and error
/// messages.
struct OptionRow {
  const char* key;
  const char* values;
  const char* default_value;
  const char* help;
};

// The one table that the parser, the descriptor's options_help and the documentation are made of.
#define SVM_PMU_BOOL_VALUES "on|off|true|false|yes|no|1|0"
#define SVM_PMU_OPTION_TABLE(ROW)                                                                 \
  ROW("pmu-cap-disabled", SVM_PMU_BOOL_VALUES "|auto", "off",                                     \
      "switch the vPMU off: on for every VM, auto for VMs whose VMM was told to, as by QEMU's "   \
      "-cpu X,pmu=off")                                                                           \
  ROW("pmu-off-method", "auto|cap|msr-filter", "auto",                                            \
      "how to switch it off: by KVM_CAP_PMU_CAPABILITY, by an MSR deny filter, or by the first "  \
      "of the two that KVM offers")                                                               \
  ROW("pmu-cpuid", "auto|hide|keep", "auto",                                                      \
      "what a VM without a vPMU sees in CPUID: auto hides PerfCtrExtCore and PerfMonV2 if the "   \
      "plugin switched the vPMU off, hide also if it was off before")                             \
  ROW("pmu-reset", SVM_PMU_BOOL_VALUES, "on", "reset the AMD PMU registers with the vCPU")        \
  ROW("pmu-state", SVM_PMU_BOOL_VALUES, "on",                                                     \
      "list the AMD PMU registers for VMMs that save and restore state through plugins; vmm-run " \
      "cannot")                                                                                   \
  ROW("verify", SVM_PMU_BOOL_VALUES, "off",                                                       \
      "read the selectors back after a reset and fail if one is still enabled; costs two ioctls " \
      "per reset, even where the host lends a batch")                                             \
  ROW("strict", SVM_PMU_BOOL_VALUES, "off",                                                       \
      "fail where an option cannot be applied, instead of warning")                               \
  ROW("log-level", "error|warning|info|debug", "warning", "the least severe lines to log")

#define SVM_PMU_OPTION_ROW(key, values, default_value, help) {key, values, default_value, help},
inline constexpr OptionRow kOptionTable[] = {SVM_PMU_OPTION_TABLE(SVM_PMU_OPTION_ROW)};
#undef SVM_PMU_OPTION_ROW

#define SVM_PMU_OPTION_HELP(key, values, default_value, help) \
  key "=" values " (" default_value ")\n    " help "\n"
inline constexpr const char* kOptionsHelp = SVM_PMU_OPTION_TABLE(SVM_PMU_OPTION_HELP);
#undef SVM_PMU_OPTION_HELP

/// The longest option string that is read, in bytes.
inline constexpr std::size_t kMaxOptionsLength = 4096;

/// Parses an option string; nullptr = none. Error: -EINVAL with the key, the value and what is
/// allowed; -ENOMEM. Allocates and throws inside (S0); nothing leaves but the result.
Expected<Options> parse_options(const char* options) noexcept;

}  // namespace svm_pmu
