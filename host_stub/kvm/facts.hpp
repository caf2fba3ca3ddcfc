// SPDX-License-Identifier: MIT
//
// What does a KVM do with the AMD PMU registers and capabilities? Asks any backend the same
// questions and gives the answers as JSON objects, one a line. The recordings in
// tests/data/kvm_facts were made with the same questions, so two KVMs can be compared line by line.
//
// Keys: vpmu = how the VM was made (default | cap_off | cap_zero); cpuid = what the guest's CPUID
// says (plain: no PerfCtrExtCore; core: PerfCtrExtCore; v2: core and PerfMonV2 with 6 counters);
// get, set = the ioctl's own result, the number of MSRs processed or -errno; vcpu = 0 or the -errno
// of KVM_CREATE_VCPU, after which the rest of that VM's answers are -9 (EBADF).
#pragma once

#include <string>
#include <vector>

#include "kvm/kvm.hpp"

namespace host_stub {

/// `irqchip`: each VM gets an in-kernel interrupt controller first; a mediated vPMU needs one.
/// Leaves no state behind. Lines have no line end.
std::vector<std::string> kvm_facts(Kvm& kvm, bool irqchip);

}  // namespace host_stub
