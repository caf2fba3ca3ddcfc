// SPDX-License-Identifier: MIT
#include "host_preload/interposer.hpp"

#include <dlfcn.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vmm/kvm_uapi.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "host_preload/real_calls.hpp"
#include "host_preload/vcpu_state.hpp"

#ifndef KVM_SET_SREGS2 /* Linux 5.14; begins as struct kvm_sregs does, and is 320 bytes long */
#define KVM_SET_SREGS2 0x4140aecd
#endif

namespace host_preload {
namespace {

constexpr uint32_t number_of(unsigned long request) { return static_cast<uint32_t>(request); }

// as numbers, so that a switch over uint32_t takes them
constexpr uint32_t kRun = number_of(KVM_RUN);
constexpr uint32_t kCreateVm = number_of(KVM_CREATE_VM);
constexpr uint32_t kCreateVcpu = number_of(KVM_CREATE_VCPU);
constexpr uint32_t kSetMsrFilter = number_of(KVM_X86_SET_MSR_FILTER);
constexpr uint32_t kSetSregs = number_of(KVM_SET_SREGS);
constexpr uint32_t kSetSregs2 = number_of(KVM_SET_SREGS2);
constexpr uint32_t kSetRegs = number_of(KVM_SET_REGS);
constexpr uint32_t kSetMpState = number_of(KVM_SET_MP_STATE);

/// Requests below this one are those of /dev/kvm itself: the first that a VMM makes.
constexpr uint32_t kFirstVmRequest = 0x10;

/// Depth of our own work on this thread: what a plugin or the loader calls meanwhile is not the
/// VMM's. Initial-exec, so that reading it allocates nothing.
__attribute__((tls_model("initial-exec"))) constinit thread_local int inside = 0;

class Inside {
 public:
  Inside() noexcept { ++inside; }
  ~Inside() { --inside; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
};

/// A call that is failed on purpose. EINTR would make VMMs try again without end.
int fail(int32_t code) noexcept {
  errno = code == -EINTR ? EIO : -code;
  return -1;
}

/// KVM_CAP_MAX_VCPU_ID, the bound of KVM_CREATE_VCPU's argument; older or other answers: see
/// Documentation/virt/kvm/api.rst 4.7.
uint32_t max_vcpus(int kvm_fd, int vm_fd) noexcept {
  struct Question {
    int fd;
    unsigned long capability;
  };
  const std::array<Question, 4> questions{{{vm_fd, KVM_CAP_MAX_VCPU_ID},
                                           {kvm_fd, KVM_CAP_MAX_VCPU_ID},
                                           {kvm_fd, KVM_CAP_MAX_VCPUS},
                                           {kvm_fd, KVM_CAP_NR_VCPUS}}};
  for (const Question& question : questions) {
    const int answer = real_ioctl_result(question.fd, KVM_CHECK_EXTENSION,
                                         reinterpret_cast<void*>(question.capability));
    if (answer > 0) return static_cast<uint32_t>(answer);
  }
  return 4;
}

/// What a successful vCPU ioctl of the VMM's means to the reset detector.
std::optional<VcpuEvent> event_of(uint32_t number, int result, const void* arg) noexcept {
  switch (number) {
    case kSetSregs:
    case kSetSregs2:
      return sregs_event(*static_cast<const kvm_sregs*>(arg));
    case kSetRegs:
      return regs_event(*static_cast<const kvm_regs*>(arg));
    case kSetMpState:
      return VcpuEvent::mp_state;
    case VMM_KVM_SET_MSRS: {
      // KVM says how many it took
      const auto* entries = reinterpret_cast<const kvm_msr_entry*>(static_cast<const char*>(arg) +
                                                                   sizeof(vmm_kvm_msrs_header));
      return msrs_event({entries, static_cast<std::size_t>(result)});
    }
    default:
      return std::nullopt;
  }
}

void remember_cpuid(Vcpu& vcpu, const void* arg) noexcept {
  vmm_kvm_cpuid2_header header;
  std::memcpy(&header, arg, sizeof header);
  const auto* entries =
      reinterpret_cast<const kvm_cpuid_entry2*>(static_cast<const char*>(arg) + sizeof header);
  const std::lock_guard lock(vcpu.vm->mutex);
  vcpu.cpuid.assign({entries, header.nent});
}

}  // namespace

Interposer::Interposer(std::string library_folder) : library_folder_(std::move(library_folder)) {}

// ---- loading -----------------------------------------------------------------------------------

/// Loads the plugins when the process first talks to /dev/kvm: late enough that a daemon has forked
/// and a helper that only inherited LD_PRELOAD never gets here, early enough that no VMM has locked
/// itself into a sandbox.
void Interposer::ensure_loaded() noexcept {
  Mode mode = mode_.load(std::memory_order_acquire);
  if (mode == Mode::waiting &&
      mode_.compare_exchange_strong(mode, Mode::loading, std::memory_order_acq_rel)) {
    const Inside guard;
    const KeepErrno keep;
    mode_.store(load(), std::memory_order_release);
    mode_.notify_all();
    return;
  }
  mode_.wait(Mode::loading, std::memory_order_acquire);
}

Interposer::Mode Interposer::load() noexcept try {
  process_.store(getpid());
  log_.set_process();
  const Environment environment = read_environment();
  log_result_ = log_.open(environment.log);
  if (dlsym(RTLD_DEFAULT, VMM_PLUGIN_HOST_MARKER_NAME) != nullptr) {
    log_.event(VMM_LOG_INFO, "inert reason=\"the VMM calls the hooks itself\"");
    return Mode::inert;
  }
  const auto config = parse_config(environment);
  if (!config) {
    plugins_.add_problem({-EINVAL, config.error()});
    return Mode::active;
  }
  config_ = *config;
  plugins_.load(config_.plugins, plugin_folders(library_folder_));
  for (const auto& instance : plugins_.instances())
    log_.event(VMM_LOG_INFO, "plugin_loaded plugin=%s", instance->name());
  return Mode::active;
} catch (const std::bad_alloc&) {
  plugins_.add_problem({-ENOMEM, "out of memory"});
  return Mode::active;
} catch (const std::exception& exception) {
  log_.event(VMM_LOG_ERROR, "load_failed reason=\"%s\"", exception.what());
  plugins_.add_problem({-EIO, exception.what()});
  return Mode::active;
}

/// The child of a fork begins anew: KVM refuses it the parent's VMs (EIO).
void Interposer::ensure_process() {
  const pid_t self = getpid();
  if (process_.load() == self) return;
  log_.set_process();
  registry_.forget_all();
  plugins_.renew();
  process_.store(self);
}

// ---- KVM_CREATE_VM -----------------------------------------------------------------------------

int Interposer::create_vm(int fd, unsigned long request, void* arg) noexcept {
  const int vm_fd = real_ioctl(fd, request, arg);
  if (vm_fd < 0) return vm_fd;
  const Inside guard;
  const int saved = errno;
  int32_t result = 0;
  try {
    ensure_process();
    registry_.forget_fd(vm_fd);  // a number whose close was missed
    result = start_vm(fd, vm_fd);
  } catch (const std::bad_alloc&) {
    log_.event(VMM_LOG_ERROR, "vm_refused vm=%d errno=%d reason=\"out of memory\"", vm_fd, ENOMEM);
    result = -ENOMEM;
  }
  if (result < 0) {
    real_close(vm_fd);
    return fail(result);
  }
  errno = saved;
  return vm_fd;
}

/// What could not be loaded: the VM is refused, or runs without it if the operator said so.
int32_t Interposer::refuse_by_problems(int fd) noexcept {
  const char* event = config_.continue_on_error ? "plugin_left_out" : "vm_refused";
  int32_t result = 0;
  for (const host_kit::Problem& problem : plugins_.problems()) {
    log_.event(VMM_LOG_ERROR, "%s vm=%d errno=%d reason=\"%s\"", event, fd, -problem.code,
               problem.text.c_str());
    if (result == 0) result = problem.code;
  }
  return config_.continue_on_error ? 0 : result;
}

int32_t Interposer::start_vm(int kvm_fd, int fd) {
  if (const int code = std::exchange(log_result_, 0); code < 0)
    log_.event(VMM_LOG_WARNING,
               "log_failed errno=%d reason=\"%s cannot be written; errors and "
               "warnings go to standard error\"",
               -code, kLogVariable);
  if (const int32_t result = refuse_by_problems(fd); result < 0) return result;
  if (plugins_.instances().empty() && plugins_.problems().empty())
    log_.event(VMM_LOG_WARNING, "no_plugin vm=%d reason=\"%s names none: nothing is fixed\"", fd,
               kPluginsVariable);
  const uint32_t bound = max_vcpus(kvm_fd, fd);
  Use<Vm> vm(registry_, registry_.make_vm(fd));  // ends it, if this throws or returns an error
  for (const auto& instance : plugins_.instances()) {
    auto view = host_kit::PluginVm::created(*instance, vm->handle(), bound);
    if (!view) {
      const int32_t code = view.error().code;
      log_.event(VMM_LOG_ERROR, "vm_refused vm=%d plugin=%s errno=%d reason=\"%s\"", fd,
                 instance->name(), -code, view.error().text.c_str());
      return code;
    }
    vm->plugins.push_back({instance.get(), std::move(*view)});
    log_.event(VMM_LOG_INFO, "vm_created vm=%d plugin=%s result=0", fd, instance->name());
  }
  registry_.publish(*vm);
  return 0;
}

// ---- KVM_CREATE_VCPU ---------------------------------------------------------------------------

int Interposer::create_vcpu(int fd, unsigned long request, void* arg) noexcept {
  const int vcpu_fd = real_ioctl(fd, request, arg);
  if (vcpu_fd < 0) return vcpu_fd;
  const Inside guard;
  const int saved = errno;
  const auto index = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(arg));
  const auto refuse = [&](int code, const char* why) {
    log_.event(VMM_LOG_ERROR, "vcpu_refused fd=%d vcpu=%u errno=%d reason=\"%s\"", vcpu_fd, index,
               code, why);
    real_close(vcpu_fd);
    return fail(-code);
  };
  const Use<Vm> vm = registry_.vm(fd);
  registry_.forget_fd(vcpu_fd);
  if (vm) {
    void* run = nullptr;
    const auto unmap_and_refuse = [&](int code, const char* why) {
      if (run != nullptr) munmap(run, sizeof(kvm_run));  // it would keep the VM alive
      return refuse(code, why);
    };
    if (!vm->denied.empty()) {
      run = mmap(nullptr, sizeof(kvm_run), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
      if (run == MAP_FAILED)
        return refuse(errno, "kvm_run cannot be mapped to answer exits for denied MSRs");
    }
    try {
      if (registry_.add_vcpu(*vm, vcpu_fd, index, static_cast<kvm_run*>(run)) == nullptr)
        return unmap_and_refuse(EMFILE, "the descriptor's number is too high");
    } catch (const std::bad_alloc&) {
      return unmap_and_refuse(ENOMEM, "out of memory");
    }
    log_.event(VMM_LOG_DEBUG, "vcpu_created vm=%d vcpu=%u fd=%d", vm->number, index, vcpu_fd);
  }
  errno = saved;
  return vcpu_fd;
}

// ---- vCPU state and resets ---------------------------------------------------------------------

int Interposer::vcpu_state(int fd, uint32_t number, unsigned long request, void* arg) noexcept {
  const int result = real_ioctl(fd, request, arg);
  if (result < 0) return result;
  const KeepErrno keep;
  const Use<Vcpu> vcpu = registry_.vcpu(fd);
  if (!vcpu) return result;
  if (number == VMM_KVM_SET_CPUID2)
    remember_cpuid(*vcpu, arg);
  else if (const auto event = event_of(number, result, arg))
    observe(*vcpu, fd, *event);
  return result;
}

void Interposer::observe(Vcpu& vcpu, int fd, VcpuEvent event) noexcept {
  const ResetAction action = vcpu.detector.on(event, config_.rule);
  if (action == ResetAction::none) return;
  if (action == ResetAction::yield)
    log_.event(VMM_LOG_INFO,
               "vcpu_reset_left vm=%d vcpu=%u reason=\"the VMM wrote PMU registers "
               "itself\"",
               vcpu.vm->number, vcpu.index);
  else
    reset(vcpu, fd, action);
}

void Interposer::reset(Vcpu& vcpu, int fd, ResetAction action) noexcept {
  const Inside guard;
  const KeepErrno keep;
  const std::lock_guard lock(vcpu.hook_mutex);
  vcpu.hook_fd = fd;
  for (const PluginView& plugin : vcpu.vm->plugins) {
    if (plugin.instance->hooks().vcpu_reset == nullptr) continue;
    const int32_t result = plugin.vm->vcpu_reset(vcpu.index, vcpu.handle(), nullptr);
    log_.event(result < 0 ? VMM_LOG_ERROR : VMM_LOG_INFO,
               "vcpu_reset vm=%d vcpu=%u plugin=%s result=%d rule=%s", vcpu.vm->number, vcpu.index,
               plugin.instance->name(), result, reset_action_name(action));
  }
}

// ---- KVM_RUN -----------------------------------------------------------------------------------

int Interposer::run(int fd, unsigned long request, void* arg) noexcept {
  KvmObject* object = registry_.peek(fd);
  if (object == nullptr && registry_.any_vm()) {
    static_cast<void>(registry_.vcpu(fd));  // once: the answer is kept in the table
    object = registry_.peek(fd);
  }
  if (object == nullptr || object->kind != KvmObject::Kind::vcpu)
    return real_ioctl(fd, request, arg);
  Vcpu& peeked = static_cast<Vcpu&>(*object);
  if (peeked.detector.quiet() && peeked.run.load(std::memory_order_relaxed) == nullptr)
    return real_ioctl(fd, request, arg);

  const Use<Vcpu> vcpu = registry_.vcpu(fd);
  if (!vcpu) return real_ioctl(fd, request, arg);
  if (!vcpu->detector.quiet()) observe(*vcpu, fd, VcpuEvent::run);
  kvm_run* const run = vcpu->run.load();
  int result = real_ioctl(fd, request, arg);
  while (result == 0 && run != nullptr && answer_msr_exit(*vcpu, *run))
    result = real_ioctl(fd, request, arg);
  return result;
}

/// An exit for an MSR that a plugin denies is answered with #GP; the VMM, which may know no such
/// exit, does not see it. True: the guest is to go on.
bool Interposer::answer_msr_exit(Vcpu& vcpu, kvm_run& run) noexcept {
  if (run.exit_reason != KVM_EXIT_X86_RDMSR && run.exit_reason != KVM_EXIT_X86_WRMSR) return false;
  if (run.msr.reason != KVM_MSR_EXIT_REASON_FILTER || !vcpu.vm->denied.denies(run.msr.index))
    return false;
  run.msr.error = 1;
  if (!vcpu.vm->answered_an_exit.exchange(true))
    log_.event(VMM_LOG_INFO,
               "msr_exit_answered vm=%d vcpu=%u msr=%x reason=\"further ones are not "
               "logged\"",
               vcpu.vm->number, vcpu.index, run.msr.index);
  return true;
}

// ---- the MSR filter ----------------------------------------------------------------------------

int32_t Interposer::install_filter(const Vm& vm, int fd, const kvm_msr_filter& vmm_filter,
                                   const DenyList& denied) noexcept {
  auto merged = host_kit::merge_msr_filter(vmm_filter, denied);
  if (!merged) {
    log_.event(VMM_LOG_ERROR, "msr_filter_full vm=%d ranges=%u reason=\"KVM's filter has %d\"",
               vm.number, merged.error(), KVM_MSR_FILTER_MAX_RANGES);
    return -ENOSPC;
  }
  return real_ioctl_result(fd, KVM_X86_SET_MSR_FILTER, &*merged);
}

int32_t Interposer::deny_msrs(vmm_vm_handle handle, std::span<const vmm_msr_range> ranges) noexcept
    try {
  Vm& vm = Vm::of(handle);
  if (!vm.creating.load()) return -EINVAL;  // during vm_created only
  if (vm_ioctl(handle, KVM_CHECK_EXTENSION, reinterpret_cast<void*>(KVM_CAP_X86_MSR_FILTER)) <= 0)
    return -EOPNOTSUPP;
  DenyList denied = vm.denied;
  if (const int32_t result = denied.add(ranges); result < 0) return result;
  if (const int32_t result = install_filter(vm, vm.fd.load(), kvm_msr_filter{}, denied); result < 0)
    return result;
  vm.denied = std::move(denied);
  return 0;
} catch (const std::bad_alloc&) {
  return -ENOMEM;
}

int Interposer::set_msr_filter(int fd, unsigned long request, void* arg) noexcept {
  const Use<Vm> vm = registry_.vm(fd);
  if (!vm || vm->denied.empty() || arg == nullptr) return real_ioctl(fd, request, arg);
  const Inside guard;
  // by the VMM's own descriptor: the one that the VM is known by may have been closed unseen
  const int32_t result =
      install_filter(*vm, fd, *static_cast<const kvm_msr_filter*>(arg), vm->denied);
  if (result >= 0) log_.event(VMM_LOG_INFO, "msr_filter_merged vm=%d", vm->number);
  return result < 0 ? fail(result) : result;
}

// ---- the host's callbacks ----------------------------------------------------------------------

const char* Interposer::name() const noexcept { return "vmm_preload " SVM_PMU_VERSION; }

int32_t Interposer::vm_ioctl(vmm_vm_handle vm, uint32_t request, void* arg) noexcept {
  return real_ioctl_result(Vm::of(vm).fd.load(), request, arg);
}

int32_t Interposer::vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) noexcept {
  return real_ioctl_result(Vcpu::of(vcpu).hook_fd, request, arg);
}

void Interposer::log(uint32_t level, std::string_view source, std::string_view message) noexcept {
  log_.plugin(level, source, message);
}

int32_t Interposer::get_cpuid(vmm_vm_handle handle, vmm_vcpu_handle vcpu_handle, uint32_t leaf,
                              uint32_t subleaf, std::span<uint32_t, 4> registers) noexcept {
  Vm& vm = Vm::of(handle);
  const std::lock_guard lock(vm.mutex);
  const Vcpu* asked = vcpu_handle != nullptr ? &Vcpu::of(vcpu_handle) : nullptr;
  for (const Vcpu* vcpu : vm.vcpus) {
    if ((asked != nullptr && vcpu != asked) || !vcpu->cpuid.known()) continue;
    vcpu->cpuid.lookup(leaf, subleaf, registers);
    return 0;
  }
  return -ENOENT;
}

// ---- entry -------------------------------------------------------------------------------------

void Interposer::closing(int fd) noexcept {
  const KeepErrno keep;
  // a child between fork or vfork and exec closes its copies, not the VM's
  if (inside == 0 && process_.load(std::memory_order_relaxed) == getpid()) {
    const Inside guard;
    registry_.forget_fd(fd);
  }
}

int Interposer::kvm_ioctl(int fd, uint32_t number, unsigned long request, void* arg) noexcept {
  if (inside != 0) return real_ioctl(fd, request, arg);
  const Mode mode = mode_.load(std::memory_order_acquire);
  if (number == kRun && mode == Mode::active) return run(fd, request, arg);
  if (mode == Mode::waiting || mode == Mode::loading) {
    if ((number & 0xff) >= kFirstVmRequest) return real_ioctl(fd, request, arg);
    ensure_loaded();
  }
  if (mode_.load(std::memory_order_acquire) == Mode::inert) return real_ioctl(fd, request, arg);
  switch (number) {
    case kCreateVm:
      return create_vm(fd, request, arg);
    case kCreateVcpu:
      return create_vcpu(fd, request, arg);
    case kSetMsrFilter:
      return set_msr_filter(fd, request, arg);
    case kSetSregs:
    case kSetSregs2:
    case kSetRegs:
    case kSetMpState:
    case VMM_KVM_SET_MSRS:
    case VMM_KVM_SET_CPUID2:
      return vcpu_state(fd, number, request, arg);
    default:
      return real_ioctl(fd, request, arg);
  }
}

}  // namespace host_preload
