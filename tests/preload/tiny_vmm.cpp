// SPDX-License-Identifier: MIT
//
// A small VMM on the real /dev/kvm that plays a script, to be run under the preload library: each
// argument is one step, "verb" or "verb:argument:...". It knows nothing of plugins.
//
//   vm                 KVM_CREATE_VM, becomes the current VM; on an error prints it, and KVM's
//                      descriptors that are open all the same, and ends (3)
//   vcpu:I             KVM_CREATE_VCPU I of the current VM
//   cpuid:I            KVM_SET_CPUID2 with what KVM supports; prints 80000001 ECX
//   fullcpuid:I        the same with PerfCtrExtCore set, whatever KVM says; prints the bit as the
//                      VMM's table has it then
//   getcpuid:I         KVM_GET_CPUID2: prints the bit
//   sregs:I:WHERE      KVM_SET_SREGS; WHERE = reset, low (reset with base f0000), boot, guest
//   sregs2:I:WHERE     the same with KVM_SET_SREGS2; where KVM has none it says so and ends (77)
//   regs:I:WHERE       KVM_SET_REGS; reset, boot, guest (reads MSR c0010000), core (c0010200), late
//                      (halts once, then as core)
//   mp:I               KVM_SET_MP_STATE, runnable
//   msrs:I:WHAT        KVM_SET_MSRS; tsc (no PMU register), zero (a selector = 0), value (= 16)
//   badmsrs:I          KVM_SET_MSRS with a bad pointer: prints the errno
//   shortmsrs:I        KVM_SET_MSRS whose second entry KVM refuses, GLOBAL_CTL of a guest without
//                      PerfMonV2: prints the count
//   run:I              KVM_RUN until it halts; prints the exit and rbx
//   filter:N           KVM_X86_SET_MSR_FILTER with N ranges that allow; prints the result
//   exits              turns on exits for filtered MSRs; exits:N for the reasons N alone
//   irqchip            KVM_CREATE_IRQCHIP
//   pmucap:N           KVM_ENABLE_CAP(KVM_CAP_PMU_CAPABILITY, N); prints the result
//   dup:I              from here on uses a duplicate of the vCPU's descriptor
//   dupclose:I         the same, and closes the first one
//   dupvm              the same as dup for the VM
//   replacevm          dup2 of another file onto the VM's descriptor before dupvm
//   closevcpu:I, closevm, closerange   (closerange: close_range of all of them)
//   use:N              makes the N-th VM the current one
//   thread:STEP        the step on a thread of its own
//   storm:N            all vCPUs at once, each on its thread: N times reset and run
//   churn:N            N times a VM with two vCPUs, made and closed
//   fork               the rest in a child; forkclose, vforkclose: a child closes all and ends
//   hold               prints "holding" and waits for the end of standard input
//   sandbox            from here on any system call but ioctl, write, futex and exit kills
//   runs:N             N KVM_RUN that return at once, and N ioctls that are not KVM's
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kLowMemory = 1 << 20;
constexpr std::size_t kPage = 4096;
constexpr uint32_t kFaultVector = 13 * 4;
constexpr uint32_t kGuestCode = 0x1000;
constexpr uint32_t kCoreCode = 0x1800;
constexpr uint32_t kFaultHandler = 0x2000;
constexpr int kNotHere = 77;  ///< exit status: this KVM has no such call

[[noreturn]] void die(const std::string& what) {
  std::printf("%s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(2);
}

int check(int result, const char* what) {
  if (result < 0) die(what);
  return result;
}

struct Vcpu {
  int fd = -1;
  kvm_run* run = nullptr;
};

struct Vm {
  int fd = -1;
  int fd_before = -1;  ///< the one that fd is a duplicate of
  std::map<unsigned, Vcpu> vcpus;
};

struct Machine {
  int kvm = -1;
  std::vector<std::unique_ptr<Vm>> vms;
  Vm* vm = nullptr;
  bool cpu_model_follows = false;
};

void add_memory(int vm, uint32_t slot, uint64_t address, std::size_t size,
                const std::vector<uint8_t>& content) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) die("mmap");
  std::memset(memory, 0xf4, size);  // hlt
  std::copy(content.begin(), content.end(), static_cast<uint8_t*>(memory));
  kvm_userspace_memory_region region{slot, 0, address, size, reinterpret_cast<uintptr_t>(memory)};
  check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

/// Below 1 MiB: an interrupt table whose #GP entry leads to a handler that sets bx = 6b47, and code
/// that reads MSR c0010000, or c0010200, and then sets bx = 600d. Everything else halts.
std::vector<uint8_t> low_memory() {
  std::vector<uint8_t> memory(kLowMemory, 0xf4);
  const std::array<uint8_t, 4> vector{kFaultHandler & 0xff, kFaultHandler >> 8, 0, 0};
  const std::array<uint8_t, 12> code{0x66, 0xb9, 0x00, 0x00, 0x01, 0xc0,  // mov ecx, c0010000
                                     0x0f, 0x32,                          // rdmsr
                                     0xbb, 0x0d, 0x60, 0xf4};             // mov bx, 600d; hlt
  const std::array<uint8_t, 4> handler{0xbb, 0x47, 0x6b, 0xf4};           // mov bx, 6b47; hlt
  std::copy(vector.begin(), vector.end(), memory.begin() + kFaultVector);
  std::copy(code.begin(), code.end(), memory.begin() + kGuestCode);
  std::copy(code.begin(), code.end(), memory.begin() + kCoreCode);
  memory[kCoreCode + 3] = 0x02;  // c0010200
  std::copy(handler.begin(), handler.end(), memory.begin() + kFaultHandler);
  return memory;
}

struct Context {
  Machine& machine;
  std::vector<std::string> words;  // of the step

  Vcpu& vcpu() const { return machine.vm->vcpus.at(index()); }
  unsigned index() const { return static_cast<unsigned>(std::stoul(words.at(1))); }
  const std::string& where() const { return words.at(2); }
};

void tell_open_descriptors() {
  for (int fd = 3; fd < 64; ++fd) {
    std::array<char, 64> link{};
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    if (readlink(path.c_str(), link.data(), link.size() - 1) > 0 &&
        std::string(link.data()).starts_with("anon_inode:kvm"))
      std::printf("still open: %s\n", link.data());
  }
}

void make_vm(Context& context) {
  const int fd = ioctl(context.machine.kvm, KVM_CREATE_VM, 0);
  if (fd < 0) {
    std::printf("KVM_CREATE_VM: %d\n", errno);
    tell_open_descriptors();
    std::exit(3);
  }
  add_memory(fd, 0, 0, kLowMemory, low_memory());
  add_memory(fd, 1, 0xfffff000, kPage, {});
  context.machine.vms.push_back(std::make_unique<Vm>());
  context.machine.vm = context.machine.vms.back().get();
  context.machine.vm->fd = fd;
}

void make_vcpu(Context& context) {
  Vcpu vcpu;
  vcpu.fd = ioctl(context.machine.vm->fd, KVM_CREATE_VCPU, context.index());
  check(vcpu.fd, "KVM_CREATE_VCPU");
  void* run = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.fd, 0);
  if (run == MAP_FAILED) die("mmap of kvm_run");
  vcpu.run = static_cast<kvm_run*>(run);
  context.machine.vm->vcpus[context.index()] = vcpu;
}

void set_cpuid(Context& context) {
  struct {
    vmm_kvm_cpuid2_header header;
    std::array<kvm_cpuid_entry2, 256> entries;
  } cpuid{};
  cpuid.header.nent = 256;
  check(ioctl(context.machine.kvm, VMM_KVM_GET_SUPPORTED_CPUID, &cpuid), "GET_SUPPORTED_CPUID");
  for (uint32_t i = 0; i < cpuid.header.nent; ++i)
    if (cpuid.entries[i].function == 0x80000001)
      std::printf("cpuid ecx=%x\n", cpuid.entries[i].ecx);
  check(ioctl(context.vcpu().fd, VMM_KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
}

constexpr uint32_t kCoreBit = 1u << 23;  // of 80000001 ECX

struct CpuidRequest {
  vmm_kvm_cpuid2_header header{256, 0};
  std::array<kvm_cpuid_entry2, 256> entries{};

  kvm_cpuid_entry2& extended() {
    for (uint32_t i = 0; i < header.nent; ++i)
      if (entries[i].function == 0x80000001) return entries[i];
    std::printf("no leaf 80000001\n");
    std::exit(2);
  }
};

void set_full_cpuid(Context& context) {
  CpuidRequest cpuid;
  check(ioctl(context.machine.kvm, VMM_KVM_GET_SUPPORTED_CPUID, &cpuid), "GET_SUPPORTED_CPUID");
  cpuid.extended().ecx |= kCoreBit;
  const int result = ioctl(context.vcpu().fd, VMM_KVM_SET_CPUID2, &cpuid);
  std::printf("fullcpuid result=%d core=%d\n", result, (cpuid.extended().ecx & kCoreBit) != 0);
}

void get_cpuid(Context& context) {
  CpuidRequest cpuid;
  check(ioctl(context.vcpu().fd, VMM_KVM_GET_CPUID2, &cpuid), "KVM_GET_CPUID2");
  std::printf("getcpuid core=%d\n", (cpuid.extended().ecx & kCoreBit) != 0);
}

struct Place {
  const char* name;
  uint16_t selector;
  uint64_t base;
  uint64_t rip;
};
constexpr std::array<Place, 6> kPlaces{{{"reset", 0xf000, 0xffff0000, 0xfff0},
                                        {"low", 0xf000, 0xf0000, 0xfff0},
                                        {"boot", 0, 0, 0x3000},
                                        {"guest", 0, 0, kGuestCode},
                                        {"core", 0, 0, kCoreCode},

                                        {"late", 0, 0, kCoreCode - 1}}};

const Place& place(const std::string& name) {
  for (const Place& candidate : kPlaces)
    if (name == candidate.name) return candidate;
  std::printf("no place %s\n", name.c_str());
  std::exit(2);
}

kvm_sregs real_mode(int fd, const Place& where) {
  kvm_sregs sregs{};
  check(ioctl(fd, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.cr0 &= ~uint64_t{1};
  sregs.cs.selector = where.selector;
  sregs.cs.base = where.base;
  return sregs;
}

void set_sregs(Context& context) {
  kvm_sregs sregs = real_mode(context.vcpu().fd, place(context.where()));
  check(ioctl(context.vcpu().fd, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
}

void set_sregs2(Context& context) {
  if (ioctl(context.machine.kvm, KVM_CHECK_EXTENSION, KVM_CAP_SREGS2) <= 0) {
    std::printf("no KVM_CAP_SREGS2 (Linux 5.14)\n");
    std::exit(kNotHere);
  }
  kvm_sregs2 sregs{};
  check(ioctl(context.vcpu().fd, KVM_GET_SREGS2, &sregs), "KVM_GET_SREGS2");
  const Place& where = place(context.where());
  sregs.cr0 &= ~uint64_t{1};
  sregs.cs.selector = where.selector;
  sregs.cs.base = where.base;
  check(ioctl(context.vcpu().fd, KVM_SET_SREGS2, &sregs), "KVM_SET_SREGS2");
}

void set_regs(Context& context) {
  kvm_regs regs{};
  regs.rip = place(context.where()).rip;
  regs.rsp = 0x8000;
  regs.rflags = 2;
  check(ioctl(context.vcpu().fd, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

void set_mp_state(Context& context) {
  kvm_mp_state state{KVM_MP_STATE_RUNNABLE};
  check(ioctl(context.vcpu().fd, KVM_SET_MP_STATE, &state), "KVM_SET_MP_STATE");
}

struct TwoMsrs {
  vmm_kvm_msrs_header header;
  std::array<kvm_msr_entry, 2> entries;
};

void set_msrs(Context& context) {
  const bool pmu = context.where() != "tsc";
  const uint64_t value = context.where() == "value" ? 16 : 0;
  TwoMsrs msrs{{1, 0}, {{{pmu ? 0xc0010000u : 0x10u, 0, value}, {}}}};
  check(ioctl(context.vcpu().fd, VMM_KVM_SET_MSRS, &msrs), "KVM_SET_MSRS");
}

void set_bad_msrs(Context& context) {
  errno = 0;
  const int result = ioctl(context.vcpu().fd, VMM_KVM_SET_MSRS, reinterpret_cast<void*>(8));
  std::printf("badmsrs result=%d errno=%d\n", result, errno);
}

void set_short_msrs(Context& context) {
  TwoMsrs msrs{{2, 0}, {{{0x10, 0, 0}, {0xc0000301, 0, 1}}}};
  std::printf("shortmsrs result=%d\n", ioctl(context.vcpu().fd, VMM_KVM_SET_MSRS, &msrs));
}

void run_vcpu(Context& context) {
  Vcpu& vcpu = context.vcpu();
  const int result = ioctl(vcpu.fd, KVM_RUN, 0);
  kvm_regs regs{};
  const int code = result < 0 ? errno : 0;
  check(ioctl(vcpu.fd, KVM_GET_REGS, &regs), "KVM_GET_REGS");
  std::printf("run result=%d errno=%d exit=%u bx=%x ax=%x\n", result, code, vcpu.run->exit_reason,
              static_cast<unsigned>(regs.rbx & 0xffff), static_cast<unsigned>(regs.rax & 0xffff));
}

void set_filter(Context& context) {
  static std::array<uint8_t, 8> allow_all;
  allow_all.fill(0xff);
  kvm_msr_filter filter{};
  for (unsigned i = 0; i < context.index(); ++i)
    filter.ranges[i] = {KVM_MSR_FILTER_READ, 8, 0x1000 + 16 * i, allow_all.data()};
  errno = 0;
  const int result = ioctl(context.machine.vm->fd, KVM_X86_SET_MSR_FILTER, &filter);
  std::printf("filter result=%d errno=%d\n", result, errno);
}

void enable_exits(Context& context) {
  kvm_enable_cap cap{};
  cap.cap = KVM_CAP_X86_USER_SPACE_MSR;
  cap.args[0] = context.words.size() > 1 ? context.index() : KVM_MSR_EXIT_REASON_FILTER;
  check(ioctl(context.machine.vm->fd, KVM_ENABLE_CAP, &cap), "KVM_ENABLE_CAP");
}

void make_irqchip(Context& context) {
  check(ioctl(context.machine.vm->fd, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
}

void set_pmu_capability(Context& context) {
  kvm_enable_cap cap{};
  cap.cap = KVM_CAP_PMU_CAPABILITY;
  cap.args[0] = context.index();
  errno = 0;
  const int result = ioctl(context.machine.vm->fd, KVM_ENABLE_CAP, &cap);
  std::printf("pmucap result=%d errno=%d argument=%u\n", result, errno,
              static_cast<unsigned>(cap.args[0]));
}

void duplicate(Context& context) { context.vcpu().fd = check(dup(context.vcpu().fd), "dup"); }

void duplicate_and_close(Context& context) {
  const int first = context.vcpu().fd;
  duplicate(context);
  close(first);
}

void duplicate_vm(Context& context) {
  Vm& vm = *context.machine.vm;
  vm.fd_before = vm.fd;
  vm.fd = check(dup(vm.fd), "dup");
}

void replace_vm(Context& context) {
  const int other = check(open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
  check(dup2(other, context.machine.vm->fd_before), "dup2");
  close(other);
}

void close_vcpu(Context& context) {
  munmap(context.vcpu().run, kPage);
  close(context.vcpu().fd);
  context.machine.vm->vcpus.erase(context.index());
}

void close_vm(Context& context) { close(context.machine.vm->fd); }

void close_by_range(Context& context) {
  for (auto& [index, vcpu] : context.machine.vm->vcpus) munmap(vcpu.run, kPage);
  context.machine.vm->vcpus.clear();
  check(static_cast<int>(syscall(SYS_close_range, context.machine.vm->fd, 90, 0)), "close_range");
}

void use_vm(Context& context) {
  context.machine.vm = context.machine.vms.at(context.index()).get();
}

void reset_put(Context context, const std::string& index) {
  for (const char* step : {"sregs", "regs", "mp"}) {
    context.words = {step, index, "reset"};
    if (step[0] == 's') set_sregs(context);
    if (step[0] == 'r') set_regs(context);
    if (step[0] == 'm') set_mp_state(context);
  }
}

void storm(Context& context) {
  const unsigned rounds = context.index();
  std::vector<std::thread> threads;
  for (const auto& [index, vcpu] : context.machine.vm->vcpus)
    threads.emplace_back([&context, rounds, fd = vcpu.fd, name = std::to_string(index)] {
      check(ioctl(fd, KVM_RUN, 0), "KVM_RUN");
      for (unsigned i = 0; i < rounds; ++i) {
        reset_put(context, name);
        check(ioctl(fd, KVM_RUN, 0), "KVM_RUN");
      }
    });
  for (std::thread& thread : threads) thread.join();
}

void churn(Context& context) {
  for (unsigned i = 0, n = context.index(); i < n; ++i) {
    const int vm = check(ioctl(context.machine.kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    const int first = check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    const int second = check(ioctl(vm, KVM_CREATE_VCPU, 1), "KVM_CREATE_VCPU");
    close(i % 2 == 0 ? vm : second);  // a VM's descriptor may be closed before its vCPUs'
    close(first);
    close(i % 2 == 0 ? second : vm);
  }
}

void close_all_in_child(Context&) {
  const pid_t child = fork();
  if (child == 0) {
    for (int fd = 3; fd < 64; ++fd) close(fd);
    _exit(0);
  }
  waitpid(child, nullptr, 0);
}

// NOLINTBEGIN(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork): daemons do so
void close_all_in_vfork_child(Context&) {
  const pid_t child = vfork();
  if (child == 0) {
    for (int fd = 3; fd < 64; ++fd) close(fd);
    _exit(0);
  }
  waitpid(child, nullptr, 0);
}
// NOLINTEND(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork)

void fork_rest(Context&) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) return;
  int status = 0;
  waitpid(child, &status, 0);
  std::exit(WIFEXITED(status) ? WEXITSTATUS(status) : 4);
}

/// Narrower than any VMM's filter for its vCPU threads.
void enter_sandbox(Context&) {
  std::printf("in the sandbox\n");  // and its buffer is there
  constexpr std::array<uint32_t, 5> kAllowed{SYS_ioctl, SYS_write, SYS_futex, SYS_exit_group,
                                             SYS_exit};
  std::vector<sock_filter> program{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (std::size_t i = 0; i < kAllowed.size(); ++i)
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kAllowed[i],
                               static_cast<uint8_t>(kAllowed.size() - i), 0));
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
  check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), "PR_SET_SECCOMP");
}

void run_often(Context& context) {
  Vcpu& vcpu = context.machine.vm->vcpus.begin()->second;
  vcpu.run->immediate_exit = 1;  // KVM_RUN returns EINTR at once
  for (unsigned i = 0, rounds = context.index(); i < rounds; ++i) {
    ioctl(vcpu.fd, KVM_RUN, 0);
    ioctl(-1, FIONREAD, 0);
  }
}

void hold(Context&) {
  std::printf("holding\n");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
}

struct Step {
  const char* verb;
  void (*play)(Context&);
};
constexpr std::array<Step, 32> kSteps{{
    {"vm", make_vm},
    {"vcpu", make_vcpu},
    {"cpuid", set_cpuid},
    {"fullcpuid", set_full_cpuid},
    {"getcpuid", get_cpuid},
    {"sregs", set_sregs},
    {"sregs2", set_sregs2},
    {"regs", set_regs},
    {"mp", set_mp_state},
    {"msrs", set_msrs},
    {"badmsrs", set_bad_msrs},
    {"shortmsrs", set_short_msrs},
    {"run", run_vcpu},
    {"filter", set_filter},
    {"exits", enable_exits},
    {"irqchip", make_irqchip},
    {"pmucap", set_pmu_capability},
    {"dup", duplicate},
    {"dupclose", duplicate_and_close},
    {"dupvm", duplicate_vm},
    {"replacevm", replace_vm},
    {"closevcpu", close_vcpu},
    {"closevm", close_vm},
    {"closerange", close_by_range},
    {"use", use_vm},
    {"storm", storm},
    {"churn", churn},
    {"forkclose", close_all_in_child},
    {"vforkclose", close_all_in_vfork_child},
    {"sandbox", enter_sandbox},
    {"runs", run_often},
    {"hold", hold},
}};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (c == ':')
      words.emplace_back();
    else
      words.back() += c;
  }
  return words;
}

void play(Machine& machine, const std::string& text) {
  Context context{machine, split(text)};
  const std::string verb = context.words[0];
  if (verb == "-cpu" || machine.cpu_model_follows) {  // words of other VMMs, for the plugins
    machine.cpu_model_follows = verb == "-cpu";
    return;
  }
  if (verb == "fork") return fork_rest(context);
  if (verb == "thread") {
    std::thread([&] { play(machine, text.substr(7)); }).join();
    return;
  }
  for (const Step& step : kSteps)
    if (verb == step.verb) return step.play(context);
  std::printf("no step %s\n", verb.c_str());
  std::exit(2);
}

}  // namespace

#ifdef TINY_VMM_IS_A_PLUGIN_HOST
extern "C" __attribute__((visibility("default"))) const int vmm_plugin_host_v1 = 1;
#endif

int main(int argc, char** argv) {
  Machine machine;
  machine.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  check(machine.kvm, "/dev/kvm");
  check(ioctl(machine.kvm, KVM_GET_API_VERSION, 0), "KVM_GET_API_VERSION");
  for (int i = 1; i < argc; ++i) play(machine, argv[i]);
  return 0;
}
