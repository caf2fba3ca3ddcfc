// SPDX-License-Identifier: MIT
//
// What is in an ioctl's arg, for a reader. Answers: "15 MSRs: c0000301=0 c0010200=0 ...",
// "KVM_CAP_PMU_CAPABILITY args[0]=1", "default allow, deny c0010000+8 rw".
#pragma once

#include <cstdint>
#include <string>

namespace host_stub {

/// One line, short; empty for an ioctl that is not described or a null arg. Reads what `arg` points
/// to, as the kernel would.
std::string ioctl_detail(uint32_t request, void* arg);

}  // namespace host_stub
