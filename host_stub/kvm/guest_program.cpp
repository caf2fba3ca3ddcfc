// SPDX-License-Identifier: MIT
#include "kvm/guest_program.hpp"

#include <algorithm>

namespace host_stub::guest_program {
namespace {

constexpr uint16_t kCodeSelector = kAddress >> 4;
constexpr uint16_t kStackSelector = kCodeSelector + 0x100;
constexpr uint16_t kGpHandler = 0x420;
constexpr uint16_t kOtherHandler = 0x430;
constexpr uint32_t kVectors = 256;
constexpr uint32_t kGeneralProtectionVector = 13;
constexpr uint32_t kStackBytes = 16;
constexpr uint32_t kStacks = 0x10000 / kStackBytes;

// AMD APM vol. 2, table 14-1, "Initial processor state": CR0 after RESET, caches off, ET set.
constexpr uint64_t kResetCr0 = 0x60000010;
constexpr uint64_t kEferLongMode = 0x500;  // LME, LMA: not without paging
constexpr uint64_t kRflagsFixed = 2;

struct Snippet {
  uint16_t offset;
  uint8_t code[5];
};

// 0f 32 = RDMSR, 0f 30 = WRMSR, 0f 33 = RDPMC, e6 ib = OUT ib,AL, f4 = HLT (never reached).
constexpr Snippet kSnippets[] = {
    {static_cast<uint16_t>(Entry::rdmsr), {0x0f, 0x32, 0xe6, kDone, 0xf4}},
    {static_cast<uint16_t>(Entry::wrmsr), {0x0f, 0x30, 0xe6, kDone, 0xf4}},
    {static_cast<uint16_t>(Entry::rdpmc), {0x0f, 0x33, 0xe6, kDone, 0xf4}},
    {kGpHandler, {0xe6, kGeneralProtection, 0xf4}},
    {kOtherHandler, {0xe6, kOtherException, 0xf4}},
};

void put16(std::span<std::byte> memory, size_t offset, uint16_t value) {
  memory[offset] = static_cast<std::byte>(value & 0xff);
  memory[offset + 1] = static_cast<std::byte>(value >> 8);
}

// Attributes of a real-mode segment, as the CPU has them after RESET.
kvm_segment segment(uint16_t selector, uint8_t type) {
  kvm_segment made{};
  made.base = static_cast<uint64_t>(selector) << 4;
  made.limit = 0xffff;
  made.selector = selector;
  made.type = type;
  made.present = 1;
  made.s = 1;
  return made;
}

}  // namespace

void load(std::span<std::byte> memory) {
  for (uint32_t vector = 0; vector < kVectors; ++vector) {
    const bool gp = vector == kGeneralProtectionVector;
    put16(memory, vector * size_t{4}, gp ? kGpHandler : kOtherHandler);
    put16(memory, vector * size_t{4} + 2, kCodeSelector);
  }
  for (const Snippet& snippet : kSnippets) {
    std::ranges::transform(snippet.code, memory.begin() + snippet.offset,
                           [](uint8_t byte) { return std::byte{byte}; });
  }
}

void start_state(Entry entry, uint32_t vcpu_id, kvm_regs& regs, kvm_sregs& sregs) {
  regs = {};
  regs.rip = static_cast<uint16_t>(entry);
  regs.rsp = (vcpu_id % kStacks + 1) * kStackBytes & 0xffff;  // 0: the push wraps to the top
  regs.rflags = kRflagsFixed;

  sregs.cs = segment(kCodeSelector, 0xb);  // executable, readable, accessed
  sregs.ss = segment(kStackSelector, 0x3);
  for (kvm_segment* data : {&sregs.ds, &sregs.es, &sregs.fs, &sregs.gs}) {
    *data = segment(0, 0x3);
  }
  sregs.idt.base = kAddress;
  sregs.idt.limit = kVectors * 4 - 1;
  sregs.cr0 = kResetCr0;
  sregs.cr4 = 0;
  sregs.efer &= ~kEferLongMode;
  std::ranges::fill(sregs.interrupt_bitmap, 0);
}

}  // namespace host_stub::guest_program
