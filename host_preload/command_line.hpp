// SPDX-License-Identifier: MIT
//
// What a VMM's command line tells about its VM.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace host_preload {

/// This process's arguments, its name first; empty if /proc is not there. May throw bad_alloc.
std::vector<std::string> own_command_line();

/// The VM's name: of QEMU's -name ("NAME", "guest=NAME", with more options after commas; a literal
/// comma is doubled), of kvmtool's and others' --name. Empty: there is none. The last one counts.
std::string vm_name(const std::vector<std::string>& command_line);

}  // namespace host_preload
