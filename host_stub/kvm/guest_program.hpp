// SPDX-License-Identifier: MIT
//
// The program that a guest runs to execute one RDMSR, WRMSR or RDPMC, in real mode, and to say how
// it went. Answers: what lies where in guest memory, which vCPU state starts it, and what an exit
// on one of its ports means.
//
//   guest physical       holds
//   0x70000 - 0x703ff    interrupt vectors: 13 (#GP) -> gp handler, all others -> other handler
//   0x70400              RDMSR, OUT kDone
//   0x70410              WRMSR, OUT kDone
//   0x70420              gp handler: OUT kGeneralProtection
//   0x70430              other handler: OUT kOtherException
//   0x70440              RDPMC, OUT kDone
//   0x71000 - 0x80fff    stacks, 16 bytes a vCPU: an exception pushes 6 (no error code in real
//                        mode), and no handler ever returns
//
// Segment bases are selector * 16 and all of it lies below 1 MiB, which is what Intel hosts without
// "unrestricted guest" need as well. The code is only read, so vCPUs share it.
#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace host_stub::guest_program {

inline constexpr uint64_t kAddress = 0x70000;  ///< guest physical
inline constexpr size_t kSize = 0x11000;       ///< whole pages

/// Where the program starts, as an offset into its code segment.
enum class Entry : uint16_t { rdmsr = 0x400, wrmsr = 0x410, rdpmc = 0x440 };

/// The I/O port of the KVM_EXIT_IO that ends the program. No device of an in-kernel irqchip or PIT
/// has these (0x20, 0x40-0x43, 0x61, 0xa0, 0x4d0), and KVM has a quirk only for 0x7e.
inline constexpr uint16_t kDone = 0xe0, kGeneralProtection = 0xe1, kOtherException = 0xe2;

/// Writes the program to the memory that the guest sees at kAddress; `memory` is zero and kSize.
void load(std::span<std::byte> memory);

/// Makes registers that start the program on vCPU `vcpu_id`; of `sregs` (as KVM_GET_SREGS gave it)
/// what does not matter for real mode is left alone.
void start_state(Entry entry, uint32_t vcpu_id, kvm_regs& regs, kvm_sregs& sregs);

}  // namespace host_stub::guest_program
