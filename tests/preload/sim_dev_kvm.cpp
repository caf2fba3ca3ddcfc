// SPDX-License-Identifier: MIT
//
// /dev/kvm without a KVM: a library beneath the preload host that answers open, ioctl and what
// belongs to them from the simulated KVM, so that the preload host is tested on any machine.
//
//   LD_PRELOAD="libvmm_preload.so libsim_dev_kvm.so" SIM_DEV_KVM=sim:linux-6.12 VMM...
//
// Without SIM_DEV_KVM every call goes to the C library as it is.
//
// Descriptors are real ones: /dev/kvm is an open /dev/null, a VM and a vCPU are memory files, whose
// names readlink turns into those of KVM's own ("anon_inode:kvm-vcpu:0"). So numbers, duplicates,
// kcmp(2), close and the mapping of kvm_run are the kernel's. A duplicate made by dup or dup2 is
// known, one that came by fcntl or a socket is not.
//
// KVM_RUN executes real-mode code as far as the tests' VMMs have it (Guest, below).
//
// Objects are never freed: a VMM's life is a test's. Threads: as KVM, one thread a vCPU.
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdarg>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "sim/sim_vm.hpp"
#include "support/kvm_interposer.hpp"
#include "vmm/kvm_uapi.h"

namespace {

using kvm_interposer::die;
using kvm_interposer::next;
using kvm_interposer::real_ioctl;
using kvm_interposer::reported;

const kvm_interposer::Simulation& simulation() { return kvm_interposer::simulation("SIM_DEV_KVM"); }

// ---- what stands behind a file descriptor -------------------------------------------------------

struct Vcpu;

/// The open /dev/kvm (neither), a VM or a vCPU.
struct File {
  struct Vm* vm = nullptr;
  Vcpu* vcpu = nullptr;
};

struct Vm : File {
  std::unique_ptr<host_stub::Vm> sim;
  std::atomic<bool> filter_exits{false};  ///< KVM_CAP_X86_USER_SPACE_MSR with its FILTER reason
  std::mutex mutex;                       ///< of the next line
  std::vector<kvm_userspace_memory_region> memory;
};

struct Vcpu : File {
  Vm* of = nullptr;
  std::unique_ptr<host_stub::Vcpu> sim;
  kvm_run* run = nullptr;    ///< a mapping of our own
  bool msr_pending = false;  ///< the last exit was for an MSR and waits for its answer
};

kvm_interposer::DescriptorTable<File> files;

/// The process that opened /dev/kvm: the child of a vfork, which shares the table, closes nothing
/// of it.
std::atomic<pid_t> owner{0};

/// Keeps an object reachable to the end of the process.
template <typename T>
T* keep(T* object) {
  static std::mutex mutex;
  static auto* const all = new std::vector<T*>;
  const std::lock_guard lock(mutex);
  all->push_back(object);
  return object;
}

int memory_file(const std::string& name, size_t size) {
  const int fd = memfd_create(name.c_str(), MFD_CLOEXEC);
  if (fd >= 0 && ftruncate(fd, static_cast<off_t>(size)) < 0) die("ftruncate of ", name.c_str());
  return fd;
}

// ---- the guest ----------------------------------------------------------------------------------

/// Real-mode code, of which these instructions are there: mov ecx, imm32; mov bx, imm16; rdmsr;
/// wrmsr; hlt. Memory is reached at CS.base + RIP; of an exception only the jump to its handler is
/// carried out, nothing is pushed. Anything else is KVM_EXIT_INTERNAL_ERROR.
class Guest {
 public:
  explicit Guest(Vcpu& vcpu) : vcpu_(vcpu), run_(*vcpu.run) {
    vcpu_.sim->ioctl(KVM_GET_REGS, &regs_);
    vcpu_.sim->ioctl(KVM_GET_SREGS, &sregs_);
  }
  ~Guest() {
    vcpu_.sim->ioctl(KVM_SET_REGS, &regs_);
    vcpu_.sim->ioctl(KVM_SET_SREGS, &sregs_);
  }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  /// Until an exit, of which kvm_run tells.
  void run() {
    if (vcpu_.msr_pending) complete_msr_exit();
    while (step()) continue;
  }

 private:
  static constexpr uint32_t kGeneralProtection = 13;

  bool step() {
    std::array<uint8_t, 6> code{};
    for (size_t i = 0; i < code.size(); ++i) code[i] = byte(sregs_.cs.base + regs_.rip + i);
    if (code[0] == 0xf4) return halt();
    if (code[0] == 0x0f && code[1] == 0x32) return access_msr(false);
    if (code[0] == 0x0f && code[1] == 0x30) return access_msr(true);
    if (code[0] == 0x66 && code[1] == 0xb9) return move_to_ecx(&code[2]);
    if (code[0] == 0xbb) return move_to_bx(&code[1]);
    return leave(KVM_EXIT_INTERNAL_ERROR);
  }

  bool leave(uint32_t reason) {
    run_.exit_reason = reason;
    return false;
  }

  bool halt() {
    regs_.rip += 1;
    return leave(KVM_EXIT_HLT);
  }

  bool move_to_ecx(const uint8_t* value) {
    uint32_t word = 0;
    std::memcpy(&word, value, sizeof word);
    regs_.rcx = word;
    regs_.rip += 6;
    return true;
  }

  bool move_to_bx(const uint8_t* value) {
    uint16_t word = 0;
    std::memcpy(&word, value, sizeof word);
    regs_.rbx = (regs_.rbx & ~uint64_t{0xffff}) | word;
    regs_.rip += 3;
    return true;
  }

  uint64_t written() const { return regs_.rdx << 32 | (regs_.rax & 0xffffffff); }

  bool access_msr(bool write) {
    const auto msr = static_cast<uint32_t>(regs_.rcx);
    const auto filter = dynamic_cast<host_stub::SimVm&>(*vcpu_.of->sim).msr_filter();
    const bool denied = !(write ? filter->allows_write(msr) : filter->allows_read(msr));
    if (denied && vcpu_.of->filter_exits) {
      run_.msr = {};
      run_.msr.reason = KVM_MSR_EXIT_REASON_FILTER;
      run_.msr.index = msr;
      run_.msr.data = write ? written() : 0;
      vcpu_.msr_pending = true;
      return leave(write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR);
    }
    if (write) return finish_msr(vcpu_.sim->guest_wrmsr(msr, written()).has_value());
    const auto value = vcpu_.sim->guest_rdmsr(msr);
    if (value) set_read(*value);
    return finish_msr(value.has_value());
  }

  void set_read(uint64_t value) {
    regs_.rax = value & 0xffffffff;
    regs_.rdx = value >> 32;
  }

  bool finish_msr(bool good) {
    if (good)
      regs_.rip += 2;
    else
      raise(kGeneralProtection);
    return true;
  }

  void complete_msr_exit() {
    vcpu_.msr_pending = false;
    if (run_.msr.error == 0 && run_.exit_reason == KVM_EXIT_X86_RDMSR) set_read(run_.msr.data);
    finish_msr(run_.msr.error == 0);
  }

  void raise(uint32_t vector) {
    const auto word = [this](uint64_t at) {
      return static_cast<uint16_t>(byte(at) | byte(at + 1) << 8);
    };
    regs_.rip = word(uint64_t{vector} * 4);
    sregs_.cs.selector = word(uint64_t{vector} * 4 + 2);
    sregs_.cs.base = uint64_t{sregs_.cs.selector} << 4;
  }

  /// Memory that is not there reads as ff, as on a PC.
  uint8_t byte(uint64_t address) const {
    const std::lock_guard lock(vcpu_.of->mutex);
    for (const kvm_userspace_memory_region& region : vcpu_.of->memory)
      if (address >= region.guest_phys_addr &&
          address - region.guest_phys_addr < region.memory_size)
        return reinterpret_cast<const uint8_t*>(
            region.userspace_addr)[address - region.guest_phys_addr];
    return 0xff;
  }

  Vcpu& vcpu_;
  kvm_run& run_;
  kvm_regs regs_{};
  kvm_sregs sregs_{};
};

int32_t run_vcpu(Vcpu& vcpu) {
  if (vcpu.run->immediate_exit != 0) return -EINTR;
  vcpu.sim->guest_run(0);
  Guest(vcpu).run();
  return 0;
}

// ---- ioctls -------------------------------------------------------------------------------------

int create_vm() {
  auto sim = simulation().kvm->create_vm();
  if (!sim) return reported(sim.error());
  const int fd = memory_file("kvm-vm", 0);
  if (fd < 0) return fd;
  Vm* vm = keep(new Vm);
  vm->vm = vm;
  vm->sim = std::move(*sim);
  files.put(fd, vm);
  return fd;
}

int create_vcpu(Vm& vm, void* arg) {
  const auto id = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(arg));
  auto sim = vm.sim->create_vcpu(id);
  if (!sim) return reported(sim.error());
  constexpr size_t kRunSize = 3 * 4096;  // KVM_GET_VCPU_MMAP_SIZE
  const int fd = memory_file("kvm-vcpu:" + std::to_string(id), kRunSize);
  if (fd < 0) return fd;
  void* run = mmap(nullptr, kRunSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (run == MAP_FAILED) die("mmap of kvm_run: ", std::strerror(errno));
  Vcpu* vcpu = keep(new Vcpu);
  vcpu->vcpu = vcpu;
  vcpu->of = &vm;
  vcpu->sim = std::move(*sim);
  vcpu->run = static_cast<kvm_run*>(run);
  files.put(fd, vcpu);
  return fd;
}

int32_t add_memory(Vm& vm, const kvm_userspace_memory_region& region) {
  const std::lock_guard lock(vm.mutex);
  std::erase_if(vm.memory, [&](const auto& each) { return each.slot == region.slot; });
  if (region.memory_size != 0) vm.memory.push_back(region);
  return 0;
}

int32_t enable_cap(Vm& vm, kvm_enable_cap& cap) {
  const int32_t result = vm.sim->ioctl(KVM_ENABLE_CAP, &cap);
  if (result == 0 && cap.cap == KVM_CAP_X86_USER_SPACE_MSR)
    vm.filter_exits = (cap.args[0] & KVM_MSR_EXIT_REASON_FILTER) != 0;
  return result;
}

int vm_ioctl(Vm& vm, uint32_t request, void* arg) {
  switch (request) {
    case KVM_CREATE_VCPU:
      return create_vcpu(vm, arg);
    case KVM_ENABLE_CAP:
      return reported(enable_cap(vm, *static_cast<kvm_enable_cap*>(arg)));
    case KVM_SET_USER_MEMORY_REGION:
      return reported(add_memory(vm, *static_cast<kvm_userspace_memory_region*>(arg)));
    default:
      return reported(vm.sim->ioctl(request, arg));
  }
}

/// What the kernel finds when it copies a request's argument.
bool bad_pointer(uint32_t request, const void* arg) {
  constexpr uintptr_t kFirstPage = 4096;
  return _IOC_SIZE(request) != 0 && reinterpret_cast<uintptr_t>(arg) < kFirstPage;
}

int file_ioctl(File& file, uint32_t request, void* arg) {
  if (bad_pointer(request, arg)) return reported(-EFAULT);
  if (file.vm != nullptr) return vm_ioctl(*file.vm, request, arg);
  if (file.vcpu != nullptr)
    return reported(request == KVM_RUN ? run_vcpu(*file.vcpu)
                                       : file.vcpu->sim->ioctl(request, arg));
  return request == KVM_CREATE_VM ? create_vm() : reported(simulation().kvm->ioctl(request, arg));
}

// ---- descriptors --------------------------------------------------------------------------------

int open_kvm(int flags) {
  static File kvm;
  static auto* const real = next<int(const char*, int, ...)>("open");
  const int fd = real("/dev/null", flags, 0);
  if (fd < 0) return fd;
  owner = getpid();
  files.put(fd, &kvm);
  return fd;
}

bool is_kvm(const char* path) {
  static const bool wanted = std::getenv("SIM_DEV_KVM") != nullptr;
  return wanted && path != nullptr && std::string_view(path) == "/dev/kvm";
}

/// The mode, of a call that may make a file.
mode_t mode_of(int flags, va_list list) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : mode_t{0};
}

}  // namespace

// NOLINTBEGIN(bugprone-easily-swappable-parameters): they are the C library's
#define INTERPOSED extern "C" __attribute__((visibility("default")))

INTERPOSED int open(const char* path, int flags, ...) {
  if (is_kvm(path)) return open_kvm(flags);
  static auto* const real = next<int(const char*, int, ...)>("open");
  va_list list;
  va_start(list, flags);
  const mode_t mode = mode_of(flags, list);
  va_end(list);
  return real(path, flags, mode);
}

INTERPOSED int open64(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const mode_t mode = mode_of(flags, list);
  va_end(list);
  return open(path, flags, mode);
}

INTERPOSED int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list list;
  va_start(list, request);
  void* const arg = va_arg(list, void*);
  va_end(list);
  const auto number = static_cast<uint32_t>(request);
  if (_IOC_TYPE(number) == KVMIO)
    if (File* file = files.get(fd)) return file_ioctl(*file, number, arg);
  return real_ioctl(fd, number, arg);
}

INTERPOSED int close(int fd) {
  static auto* const real = next<int(int)>("close");
  if (files.get(fd) != nullptr && owner == getpid()) files.put(fd, nullptr);
  return real(fd);
}

INTERPOSED int dup(int fd) noexcept {
  static auto* const real = next<int(int)>("dup");
  const int copy = real(fd);
  if (copy >= 0) files.put(copy, files.get(fd));
  return copy;
}

INTERPOSED int dup2(int fd, int onto) noexcept {
  static auto* const real = next<int(int, int)>("dup2");
  const int copy = real(fd, onto);
  if (copy >= 0) files.put(copy, files.get(fd));
  return copy;
}

INTERPOSED ssize_t readlink(const char* path, char* buffer, size_t size) noexcept {
  static auto* const real = next<ssize_t(const char*, char*, size_t)>("readlink");
  const ssize_t length = real(path, buffer, size);
  if (length <= 0) return length;
  const std::string link(buffer, static_cast<size_t>(length));
  constexpr std::string_view kOurs = "/memfd:kvm-", kEnd = " (deleted)";
  if (!link.starts_with(kOurs) || !link.ends_with(kEnd)) return length;
  const std::string name = "anon_inode:" + link.substr(7, link.size() - 7 - kEnd.size());
  return static_cast<ssize_t>(name.copy(buffer, size));
}
// NOLINTEND(bugprone-easily-swappable-parameters)
