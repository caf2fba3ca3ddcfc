// SPDX-License-Identifier: MIT
//
// What a VMM was told on its command line about the guest: the VM's name, and whether it is to have
// a PMU. The syntax is QEMU's, which libvirt, Proxmox, OpenStack Nova and Kata write too; other
// programs' words are left alone.
//
//   -cpu MODEL,-pmu | ,pmu=off | ,pmu=on | ,+pmu | ,pmu       the last -cpu counts
//   -global DRIVER.pmu=off                                    DRIVER: cpu, x86_64-cpu, *-x86_64-cpu
//   -global driver=DRIVER,property=pmu,value=off
//   -name NAME | -name guest=NAME,...                         the last one that names it counts
//   --name=NAME                                               kvmtool's and others' form
//
// Within -cpu QEMU applies the settings in this order, whatever theirs: pmu=VALUE (the last one
// counts), then +pmu, then -pmu; and all of them after -global (target/i386/cpu.c,
// x86_cpu_parse_featurestr and x86_cpu_expand_features). VALUE is one of on, yes, true, y, off, no,
// false and n (qapi_bool_parse); QEMU refuses any other.
//
// Not read: files (-readconfig), what a monitor says later, and the defaults of CPU models.
//
// Pure, but for own_command_line. May throw bad_alloc.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace host_preload {

enum class GuestPmu : uint8_t { unsaid, off, on };

struct VmmCommandLine {
  std::string vm_name;  ///< empty: it has none
  GuestPmu guest_pmu = GuestPmu::unsaid;
};

/// `arguments`: with the program's name in front, which is not looked at.
VmmCommandLine read_command_line(std::span<const std::string> arguments);

/// The arguments of this process (/proc/self/cmdline); empty if they cannot be read.
std::vector<std::string> own_command_line();

}  // namespace host_preload
