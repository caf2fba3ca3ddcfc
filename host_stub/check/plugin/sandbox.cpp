// SPDX-License-Identifier: MIT
#include "check/plugin/sandbox.hpp"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>
#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <thread>
#include <vector>

namespace host_stub::validate {
namespace {

constexpr SystemCall kEnd[] = {{SYS_exit_group}};

constexpr SystemCall kNewResources[] = {
    {SYS_open}, {SYS_openat}, {SYS_openat2}, {SYS_creat},  {SYS_execve}, {SYS_execveat},
    {SYS_fork}, {SYS_vfork},  {SYS_clone},   {SYS_clone3}, {SYS_socket}, {SYS_socketpair},
};

constexpr uint32_t ioctl_number(unsigned long request) { return static_cast<uint32_t>(request); }

// Firecracker, resources/seccomp/x86_64-unknown-linux-musl.json at commit 01a3b57933e4, the filter
// "vcpu"; its default action is to trap.
constexpr SystemCall kFirecrackerCalls[] = {
    {SYS_exit},
    {SYS_exit_group},
    {SYS_write},
    {SYS_open},
    {SYS_close},
    {SYS_fstat},
    {SYS_brk},
    {SYS_clock_gettime},
    {SYS_mremap},
    {SYS_munmap},
    {SYS_rt_sigprocmask},
    {SYS_rt_sigreturn},
    {SYS_sigaltstack},
    {SYS_sched_yield},
    {SYS_futex, 1, FUTEX_WAIT},
    {SYS_futex, 1, FUTEX_WAKE},
    {SYS_futex, 1, FUTEX_WAIT_PRIVATE},
    {SYS_futex, 1, FUTEX_WAIT_BITSET_PRIVATE},
    {SYS_futex, 1, FUTEX_WAKE_PRIVATE},
    {SYS_madvise, 2, MADV_DONTNEED},
    {SYS_mmap, 3, MAP_SHARED},
    {SYS_rt_sigaction, 0, SIGABRT},
    {SYS_tkill, 1, SIGABRT},
    {SYS_timerfd_settime, 1, 0},
    {SYS_ioctl, 1, ioctl_number(KVM_RUN)},
    {SYS_ioctl, 1, ioctl_number(KVM_GET_MP_STATE)},
    {SYS_ioctl, 1, ioctl_number(KVM_SET_MP_STATE)},
    {SYS_ioctl, 1, ioctl_number(KVM_GET_VCPU_EVENTS)},
    {SYS_ioctl, 1, ioctl_number(KVM_SET_VCPU_EVENTS)},
    {SYS_ioctl, 1, ioctl_number(KVM_GET_LAPIC)},
    {SYS_ioctl, 1, ioctl_number(KVM_SET_LAPIC)},
    {SYS_ioctl, 1, ioctl_number(KVM_GET_REGS)},
    {SYS_ioctl, 1, ioctl_number(KVM_SET_REGS)},
    {SYS_ioctl, 1, ioctl_number(KVM_GET_SREGS)},
    {SYS_ioctl, 1, ioctl_number(KVM_SET_SREGS)},
    {SYS_ioctl, 1, VMM_KVM_GET_CPUID2},
    {SYS_ioctl, 1, VMM_KVM_SET_CPUID2},
    {SYS_ioctl, 1, VMM_KVM_GET_MSRS},
    {SYS_ioctl, 1, VMM_KVM_SET_MSRS},
    {SYS_ioctl, 1, ioctl_number(KVM_GET_PIT2)},
    {SYS_ioctl, 1, ioctl_number(KVM_GET_DEBUGREGS)},
    {SYS_ioctl, 1, ioctl_number(KVM_SET_DEBUGREGS)},
    {SYS_ioctl, 1, 0x9000aea4},  // KVM_GET_XSAVE, of 4 KiB
    {SYS_ioctl, 1, 0x5000aea5},  // KVM_SET_XSAVE
    {SYS_ioctl, 1, ioctl_number(KVM_GET_XCRS)},
    {SYS_ioctl, 1, ioctl_number(KVM_SET_XCRS)},
    {SYS_ioctl, 1, ioctl_number(KVM_GET_TSC_KHZ)},
    {SYS_ioctl, 1, ioctl_number(KVM_SET_TSC_KHZ)},
};

// Cloud Hypervisor, vmm/src/seccomp_filters.rs, vcpu_thread_rules with
// create_vcpu_ioctl_seccomp_rule and ..._kvm, as of the versions that have KVM_NMI there (2024 on),
// without the ioctls of VFIO and vDPA. exit_group stands for its own way to end a trapped process.
constexpr SystemCall kCloudHypervisorCalls[] = {
    {SYS_brk},
    {SYS_clock_gettime},
    {SYS_clock_nanosleep},
    {SYS_close},
    {SYS_dup},
    {SYS_exit},
    {SYS_exit_group},
    {SYS_epoll_ctl},
    {SYS_fstat},
    {SYS_futex},
    {SYS_getrandom},
    {SYS_getpid},
    {SYS_lseek},
    {SYS_madvise},
    {SYS_mmap},
    {SYS_mprotect},
    {SYS_mremap},
    {SYS_munmap},
    {SYS_nanosleep},
    {SYS_newfstatat},
    {SYS_open},
    {SYS_openat},
    {SYS_pread64},
    {SYS_pwrite64},
    {SYS_read},
    {SYS_recvfrom},
    {SYS_recvmsg},
    {SYS_rt_sigaction},
    {SYS_rt_sigprocmask},
    {SYS_rt_sigreturn},
    {SYS_sched_yield},
    {SYS_sendmsg},
    {SYS_shutdown},
    {SYS_sigaltstack},
    {SYS_tgkill},
    {SYS_tkill},
    {SYS_unlink},
    {SYS_write},
    {SYS_writev},
    {SYS_ioctl, 1, ioctl_number(KVM_CHECK_EXTENSION)},
    {SYS_ioctl, 1, ioctl_number(KVM_IOEVENTFD)},
    {SYS_ioctl, 1, ioctl_number(KVM_IRQFD)},
    {SYS_ioctl, 1, ioctl_number(KVM_SET_DEVICE_ATTR)},
    {SYS_ioctl, 1, 0x4008ae6a},  // KVM_SET_GSI_ROUTING, whose struct ends in an array
    {SYS_ioctl, 1, ioctl_number(KVM_SET_USER_MEMORY_REGION)},
    {SYS_ioctl, 1, ioctl_number(KVM_RUN)},
    {SYS_ioctl, 1, ioctl_number(KVM_NMI)},
};

// ---- from a list to a program

constexpr sock_filter load(std::size_t offset) {
  return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset));
}
constexpr sock_filter skip_unless(uint32_t value, uint8_t skipped) {
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skipped);
}
constexpr sock_filter give(uint32_t verdict) { return BPF_STMT(BPF_RET | BPF_K, verdict); }

std::vector<sock_filter> program_of(const CallFilter& filter) {
  const uint32_t listed = filter.lists_allowed ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP;
  const uint32_t others = filter.lists_allowed ? SECCOMP_RET_TRAP : SECCOMP_RET_ALLOW;
  std::vector<sock_filter> program;
  const auto load_number = load(offsetof(seccomp_data, nr));
  program.push_back(load_number);
  for (const SystemCall& call : filter.calls) {
    const auto number = static_cast<uint32_t>(call.number);
    if (call.argument < 0) {
      program.insert(program.end(), {skip_unless(number, 1), give(listed)});
      continue;
    }
    const std::size_t argument =
        offsetof(seccomp_data, args) + sizeof(uint64_t) * static_cast<std::size_t>(call.argument);
    program.insert(program.end(), {skip_unless(number, 4), load(argument),
                                   skip_unless(call.value, 1), give(listed), load_number});
  }
  program.push_back(give(others));
  return program;
}

// ---- what happens at a trapped call

Findings* notes = nullptr;
unsigned noted_rule = 0;

struct CallName {
  long number;
  const char* name;
};
constexpr CallName kCallNames[] = {
    {SYS_read, "read"},         {SYS_write, "write"},
    {SYS_open, "open"},         {SYS_openat, "openat"},
    {SYS_close, "close"},       {SYS_mmap, "mmap"},
    {SYS_mprotect, "mprotect"}, {SYS_munmap, "munmap"},
    {SYS_brk, "brk"},           {SYS_ioctl, "ioctl"},
    {SYS_futex, "futex"},       {SYS_clone, "clone"},
    {SYS_clone3, "clone3"},     {SYS_fork, "fork"},
    {SYS_vfork, "vfork"},       {SYS_execve, "execve"},
    {SYS_socket, "socket"},     {SYS_getpid, "getpid"},
    {SYS_madvise, "madvise"},   {SYS_nanosleep, "nanosleep"},
    {SYS_writev, "writev"},     {SYS_clock_nanosleep, "clock_nanosleep"},
};

void trapped(int, siginfo_t* info, void*) {
  const auto* known = std::ranges::find(kCallNames, long{info->si_syscall}, &CallName::number);
  if (known != std::end(kCallNames))
    notes->fail(noted_rule, "system call {} in {}", known->name, notes->function());
  else
    notes->fail(noted_rule, "system call {} in {}", info->si_syscall, notes->function());
  notes->finish();
  syscall(SYS_exit_group, 0);
}

bool prepare(Findings& findings, unsigned rule) {
  notes = &findings;
  noted_rule = rule;
  struct sigaction action {};
  action.sa_sigaction = trapped;
  action.sa_flags = SA_SIGINFO;
  return sigaction(SIGSYS, &action, nullptr) == 0;
}

bool put_on(std::vector<sock_filter>& program) {
  const sock_fprog all{static_cast<unsigned short>(program.size()), program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &all) == 0;
}

}  // namespace

const CallFilter kNoCalls{"no system call", true, kEnd};
const CallFilter kNoNewResources{"S1", false, kNewResources};
const CallFilter kFirecrackerVcpu{"Firecracker", true, kFirecrackerCalls};
const CallFilter kCloudHypervisorVcpu{"Cloud Hypervisor", true, kCloudHypervisorCalls};

bool allows_ioctl(const CallFilter& filter, uint32_t request) {
  return std::ranges::any_of(filter.calls, [&](const SystemCall& call) {
    return call.number == SYS_ioctl && (call.argument < 0 || call.value == request);
  });
}

bool enter_filter(const CallFilter& filter, Findings& findings, unsigned rule) {
  std::vector<sock_filter> program = program_of(filter);
  return prepare(findings, rule) && put_on(program);
}

bool on_filtered_thread(const CallFilter& filter, Findings& findings, unsigned rule,
                        const std::function<void()>& body) {
  enum State : int { running, done, no_filter };
  static std::atomic<int> state;
  state = running;
  // the thread itself allocates nothing before: the first to do so is the code under test
  std::vector<sock_filter> program = program_of(filter);
  if (!prepare(findings, rule)) return false;
  std::thread([&] {
    if (!put_on(program)) {
      state = no_filter;
      return;
    }
    body();
    state = done;
    // it cannot end: that would be a system call
    while (true) __builtin_ia32_pause();
  }).detach();
  while (state == running) usleep(100);
  return state == done;
}

}  // namespace host_stub::validate
