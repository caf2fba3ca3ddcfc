// SPDX-License-Identifier: MIT
//
// The names of a plugin's functions, for words and for telling which one runs (by address: a
// function's name is always one of these arrays), and the sizes of ABI 1.0.
#pragma once

#include <vmm/plugin.h>

#include <cstddef>
#include <cstdint>

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

/// The sizes that structs of variable size had in ABI 1.0: what every one has at least.
inline constexpr uint32_t kHooksSizeV1_0 =
    offsetof(vmm_hooks, vcpu_reset) + sizeof(vmm_hooks::vcpu_reset);
inline constexpr uint32_t kPluginSizeV1_0 =
    offsetof(vmm_plugin, destroy) + sizeof(vmm_plugin::destroy);

}  // namespace host_stub::validate
