// SPDX-License-Identifier: MIT
#include "kvm/guest_access.hpp"

#include <fmt/format.h>

#include <array>
#include <initializer_list>
#include <utility>

#include "kvm/errno_names.hpp"
#include "kvm/guest_program.hpp"
#include "kvm/ioctl_names.hpp"
#include "vmm/kvm_uapi.h"

namespace host_stub {
namespace {

using Reason = tl::unexpected<std::string>;

// Three pages below the BIOS, where QEMU and others put it; only Intel hosts use it.
constexpr uintptr_t kTssAddress = 0xfffbd000;

// A whole access takes one exit, two with exits for filtered MSRs.
constexpr int kMaxExits = 16;

struct ExitName {
  uint32_t reason;
  std::string_view name;
};

constexpr ExitName kExitNames[] = {
    {KVM_EXIT_HLT, "KVM_EXIT_HLT"},
    {KVM_EXIT_MMIO, "KVM_EXIT_MMIO"},
    {KVM_EXIT_SHUTDOWN, "KVM_EXIT_SHUTDOWN (triple fault)"},
    {KVM_EXIT_FAIL_ENTRY, "KVM_EXIT_FAIL_ENTRY"},
    {KVM_EXIT_INTERNAL_ERROR, "KVM_EXIT_INTERNAL_ERROR"},
};

std::string exit_name(uint32_t reason) {
  for (const ExitName& entry : kExitNames) {
    if (entry.reason == reason) return std::string(entry.name);
  }
  return fmt::format("exit reason {}", reason);
}

Reason failed(uint32_t request, int32_t result) {
  return Reason(fmt::format("{}: {}", ioctl_name(request), errno_name(-result)));
}

// What of a vCPU the program needs changed.
struct VcpuState {
  kvm_regs regs;
  kvm_sregs sregs;
  kvm_vcpu_events events;
  kvm_mp_state mp_state;
};

struct StateCall {
  uint32_t request;
  void* arg;
};

tl::expected<void, std::string> call_all(int fd, std::initializer_list<StateCall> calls) {
  for (const StateCall& call : calls) {
    const int32_t result = ioctl_result(fd, call.request, call.arg);
    if (result < 0) return failed(call.request, result);
  }
  return {};
}

tl::expected<VcpuState, std::string> get_state(int fd) {
  VcpuState state{};
  return call_all(fd, {{KVM_GET_MP_STATE, &state.mp_state},
                       {KVM_GET_REGS, &state.regs},
                       {KVM_GET_SREGS, &state.sregs},
                       {KVM_GET_VCPU_EVENTS, &state.events}})
      .map([&] { return state; });
}

// Events after registers: KVM_SET_REGS drops a pending exception. MP_STATE last: KVM_SET_SREGS
// makes a BSP at the reset vector runnable.
tl::expected<void, std::string> set_state(int fd, VcpuState state) {
  // The count of pending NMIs is KVM's to keep: one may arrive during the access.
  state.events.flags &= KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_PAYLOAD;
  return call_all(fd, {{KVM_SET_SREGS, &state.sregs},
                       {KVM_SET_REGS, &state.regs},
                       {KVM_SET_VCPU_EVENTS, &state.events},
                       {KVM_SET_MP_STATE, &state.mp_state}});
}

VcpuState program_state(const VcpuState& saved, uint32_t vcpu_id, const GuestAccess& access) {
  using guest_program::Entry;
  VcpuState state = saved;
  constexpr std::array kEntries{Entry::rdmsr, Entry::wrmsr, Entry::rdpmc};  // by Kind
  guest_program::start_state(kEntries[static_cast<size_t>(access.kind)], vcpu_id, state.regs,
                             state.sregs);
  state.regs.rcx = access.number;
  state.regs.rax = static_cast<uint32_t>(access.value);
  state.regs.rdx = access.value >> 32;
  // With an in-kernel irqchip all but the first vCPU wait for INIT and SIPI, and KVM_RUN blocks.
  state.mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
  // Nothing may be injected into the program, and an NMI has to wait until it is over.
  state.events = {};
  state.events.nmi.masked = 1;
  state.events.flags = KVM_VCPUEVENT_VALID_SHADOW;
  return state;
}

// The exit is answered only at the next KVM_RUN (api.rst, KVM_RUN: "pending operations"); one that
// does not enter the guest keeps that from happening on top of the restored registers.
void complete_exit(int fd, kvm_run& run) {
  run.immediate_exit = 1;
  ioctl_result(fd, KVM_RUN, nullptr);
  run.immediate_exit = 0;
}

// The port that the program ended with.
tl::expected<uint16_t, std::string> run_to_port(int fd, kvm_run& run) {
  run.immediate_exit = 0;
  for (int exits = 0; exits < kMaxExits;) {
    const int32_t result = ioctl_result(fd, KVM_RUN, nullptr);
    if (result == -EINTR) continue;  // a signal of this process
    ++exits;
    if (result == -EAGAIN) continue;  // the vCPU had been waiting for an INIT
    if (result < 0) return failed(KVM_RUN, result);
    if (run.exit_reason == KVM_EXIT_X86_RDMSR || run.exit_reason == KVM_EXIT_X86_WRMSR) {
      run.msr.error = 1;  // KVM_CAP_X86_USER_SPACE_MSR is on: deny, that is #GP
      continue;
    }
    const uint32_t reason = run.exit_reason;  // KVM_RUN writes the page anew
    const uint16_t port = run.io.port;
    complete_exit(fd, run);
    if (reason == KVM_EXIT_IO) return port;
    return Reason(exit_name(reason));
  }
  return Reason("KVM_RUN: no end of the guest program");
}

tl::expected<GuestOutcome, std::string> read_outcome(int fd, uint16_t port) {
  if (port == guest_program::kGeneralProtection) return GuestOutcome{.general_protection = true};
  if (port == guest_program::kOtherException) return Reason("the guest took another exception");
  if (port != guest_program::kDone) return Reason(fmt::format("exit on I/O port {:#x}", port));
  kvm_regs regs{};
  const int32_t result = ioctl_result(fd, KVM_GET_REGS, &regs);
  if (result < 0) return failed(KVM_GET_REGS, result);
  return GuestOutcome{.value = regs.rdx << 32 | (regs.rax & 0xffffffff)};
}

}  // namespace

tl::expected<void, std::string> GuestMemory::ensure(int vm_fd) {
  const std::lock_guard lock(mutex_);
  if (!memory_.empty()) return {};
  tl::expected<Mapping, int32_t> memory = Mapping::map(guest_program::kSize);
  if (!memory) return Reason("guest memory: " + errno_name(-memory.error()));
  guest_program::load(memory->bytes());

  // Intel hosts without "unrestricted guest" run real mode with it; it fails where it was set
  // before, which is as good.
  ioctl_result(vm_fd, KVM_SET_TSS_ADDR, reinterpret_cast<void*>(kTssAddress));
  // The last slot: whoever makes slots of his own starts at 0.
  const int32_t slots =
      ioctl_result(vm_fd, KVM_CHECK_EXTENSION, reinterpret_cast<void*>(KVM_CAP_NR_MEMSLOTS));
  kvm_userspace_memory_region region{};
  region.slot = slots > 0 ? static_cast<uint32_t>(slots) - 1 : 31;
  region.guest_phys_addr = guest_program::kAddress;
  region.memory_size = memory->bytes().size();
  region.userspace_addr = reinterpret_cast<uintptr_t>(memory->bytes().data());
  const int32_t result = ioctl_result(vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
  if (result < 0) return failed(KVM_SET_USER_MEMORY_REGION, result);
  memory_ = std::move(*memory);
  return {};
}

tl::expected<GuestOutcome, std::string> run_guest_access(int vcpu_fd, kvm_run& run,
                                                         uint32_t vcpu_id,
                                                         const GuestAccess& access) {
  const tl::expected<VcpuState, std::string> saved = get_state(vcpu_fd);
  if (!saved) return Reason(saved.error());
  tl::expected<GuestOutcome, std::string> outcome =
      set_state(vcpu_fd, program_state(*saved, vcpu_id, access))
          .and_then([&] { return run_to_port(vcpu_fd, run); })
          .and_then([&](uint16_t port) { return read_outcome(vcpu_fd, port); });
  const tl::expected<void, std::string> restored = set_state(vcpu_fd, *saved);
  if (!restored) return Reason("registers not put back: " + restored.error());
  return outcome;
}

}  // namespace host_stub
