// SPDX-License-Identifier: MIT
//
// The names of a plugin's functions, for words and for telling which one runs (by address: a
// function's name is always one of these arrays).
#pragma once

#include <vmm/plugin.h>

namespace host_stub::validate {

inline constexpr char kEntry[] = VMM_PLUGIN_ENTRY_NAME;
inline constexpr char kGetExtension[] = "get_extension";
inline constexpr char kCreate[] = "create";
inline constexpr char kDestroy[] = "destroy";
inline constexpr char kVmCreated[] = "vm_created";
inline constexpr char kVmDestroyed[] = "vm_destroyed";
inline constexpr char kMsrListBuild[] = "msr_list_build";
inline constexpr char kVcpuReset[] = "vcpu_reset";
inline constexpr char kDlopen[] = "dlopen";
inline constexpr char kDlclose[] = "dlclose";

}  // namespace host_stub::validate
