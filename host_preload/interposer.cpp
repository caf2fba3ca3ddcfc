// SPDX-License-Identifier: MIT
#include "host_preload/interposer.hpp"

#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>
#include <new>
#include <utility>

#include "host_preload/denied_msrs.hpp"
#include "host_preload/inside.hpp"
#include "host_preload/kept_caps.hpp"
#include "host_preload/real_calls.hpp"
#include "host_preload/vcpu_state.hpp"

namespace host_preload {
namespace {

constexpr uint32_t kRun = number_of(KVM_RUN);

/// Requests below this one are those of /dev/kvm itself: the first that a VMM makes.
constexpr uint32_t kFirstVmRequest = 0x10;

}  // namespace

/// An ioctl that is looked at. nullptr: nothing to do there.
struct Interposer::Row {
  uint32_t number;
  bool (Interposer::*before)(KvmCall& call) noexcept;
  void (Interposer::*after)(KvmCall& call) noexcept;
  void (Interposer::*failed)(KvmCall& call) noexcept = nullptr;
};

const Interposer::Row* Interposer::row_of(uint32_t number) noexcept {
  using I = Interposer;
  static constexpr std::array kRows{
      Row{number_of(KVM_CREATE_VM), nullptr, &I::vm_made},
      Row{number_of(KVM_CREATE_VCPU), nullptr, &I::vcpu_made, &I::vcpu_not_made},
      Row{number_of(KVM_ENABLE_CAP), &I::keep_cap, &I::cap_enabled},
      Row{number_of(KVM_X86_SET_MSR_FILTER), &I::merge_filter, &I::filter_set},
      Row{VMM_KVM_GET_SUPPORTED_CPUID, nullptr, &I::supported_cpuid_got},
      Row{VMM_KVM_SET_CPUID2, &I::hide_cpuid, &I::cpuid_set},
      Row{VMM_KVM_SET_MSRS, nullptr, &I::state_set},
      Row{number_of(KVM_SET_SREGS), nullptr, &I::state_set},
      Row{kSetSregs2, nullptr, &I::state_set},
      Row{number_of(KVM_SET_REGS), nullptr, &I::state_set},
      Row{number_of(KVM_SET_MP_STATE), nullptr, &I::state_set},
  };
  const auto* row = std::find_if(kRows.begin(), kRows.end(),
                                 [number](const Row& each) { return each.number == number; });
  return row == kRows.end() ? nullptr : row;
}

Interposer::Interposer(std::string library_folder)
    : loading_(std::move(library_folder), plugin_calls_, log_) {}

int Interposer::kvm_ioctl(int fd, uint32_t number, unsigned long request, void* arg) noexcept {
  using Mode = Loading::Mode;
  if (Inside::now()) return real_ioctl(fd, request, arg);
  Mode mode = loading_.mode();
  if (number == kRun && mode == Mode::active) return run(fd, request, arg);
  if (mode == Mode::waiting || mode == Mode::loading) {
    if ((number & 0xff) >= kFirstVmRequest) return real_ioctl(fd, request, arg);
    loading_.ensure_loaded();
    mode = loading_.mode();
  }
  const Row* row = mode == Mode::inert ? nullptr : row_of(number);
  return row == nullptr ? real_ioctl(fd, request, arg)
                        : intercept(*row, {fd, number, request, arg, arg, 0, 0, {}});
}

/// Before, call, after. errno is what the real call left, or why the call was failed.
int Interposer::intercept(const Row& row, KvmCall call) noexcept {
  const int errno_of_vmm = errno;
  bool wanted = true;
  if (row.before != nullptr) {
    const Inside guard;
    wanted = (this->*row.before)(call);
    errno = errno_of_vmm;
  }
  if (wanted) {
    call.result = real_ioctl(call.fd, call.request, call.arg);
    call.error = errno;
    const auto handler = call.result >= 0 ? row.after : row.failed;
    if (handler != nullptr) {
      const Inside guard;
      (this->*handler)(call);
    }
  }
  errno = call.error;
  return call.result;
}

// ---- before and after --------------------------------------------------------------------------

bool Interposer::merge_filter(KvmCall& call) noexcept {
  const Use<Vm> vm = registry_.vm(call.fd);
  if (!vm || vm->denied.empty() || call.arg == nullptr) return true;
  const auto merged = filter_with_denied(vm->number, *static_cast<const kvm_msr_filter*>(call.arg),
                                         vm->denied, log_);
  if (!merged) {
    call.fail(merged.error());
    return false;
  }
  call.use_copy(*merged);
  return true;
}

void Interposer::filter_set(KvmCall& call) noexcept {
  if (!call.copied()) return;
  if (const Use<Vm> vm = registry_.vm(call.fd))
    log_.event(VMM_LOG_INFO, "msr_filter_merged vm=%d", vm->number);
}

bool Interposer::keep_cap(KvmCall& call) noexcept {
  const Use<Vm> vm = registry_.vm(call.fd);
  if (!vm || call.arg == nullptr || !(vm->pmu_disabled || vm->exits_for_denied)) return true;
  if (const auto kept = with_kept_bits(*vm, *static_cast<const kvm_enable_cap*>(call.arg), log_))
    call.use_copy(*kept);
  return true;
}

void Interposer::cap_enabled(KvmCall& call) noexcept {
  if (const Use<Vm> vm = registry_.vm(call.fd))
    note_vmms_cap(*vm, *static_cast<const kvm_enable_cap*>(call.vmm_arg));
}

bool Interposer::hide_cpuid(KvmCall& call) noexcept try {
  const Use<Vcpu> vcpu = registry_.vcpu(call.fd);
  if (!vcpu || vcpu->vm->hidden.empty() || call.arg == nullptr) return true;
  const auto table = cpuid_entries(call.arg);
  if (table.size() > CpuidTable::kMaxEntries) return true;  // KVM refuses it
  CpuidCopy& copy = call.use_copy(CpuidCopy(table));
  vcpu->vm->hidden.clear_in(copy.all());
  return true;
} catch (const std::bad_alloc&) {
  call.fail(-ENOMEM);
  return false;
}

/// KVM is asked on /dev/kvm, where no VM is named: hidden is what every VM of the process hides.
void Interposer::supported_cpuid_got(KvmCall& call) noexcept try {
  if (registry_.any_vm()) registry_.hidden_from_all().clear_in(cpuid_entries(call.arg));
} catch (const std::bad_alloc&) {
  // the VMM learns of bits that KVM_SET_CPUID2 will hide in any case
}

void Interposer::cpuid_set(KvmCall& call) noexcept {
  const Use<Vcpu> vcpu = registry_.vcpu(call.fd);
  if (!vcpu) return;
  {
    const std::lock_guard lock(vcpu->vm->mutex);
    vcpu->cpuid.assign(cpuid_entries(call.arg));
  }
  resets_.observe(*vcpu, call.fd, VcpuEvent::cpuid, loading_.reset_rule());
}

void Interposer::state_set(KvmCall& call) noexcept {
  const Use<Vcpu> vcpu = registry_.vcpu(call.fd);
  if (!vcpu) return;
  if (const auto event = vcpu_event(call))
    resets_.observe(*vcpu, call.fd, *event, loading_.reset_rule());
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
  if (!vcpu->detector.quiet()) resets_.observe(*vcpu, fd, VcpuEvent::run, loading_.reset_rule());
  kvm_run* const run = vcpu->run.load();
  int result = real_ioctl(fd, request, arg);
  while (result == 0 && run != nullptr && answer_msr_exit(*vcpu, *run, log_))
    result = real_ioctl(fd, request, arg);
  return result;
}

// ---- close -------------------------------------------------------------------------------------

void Interposer::closing(int fd) noexcept {
  const KeepErrno keep;
  // a child between fork or vfork and exec closes its copies, not the VM's
  if (Inside::now() || !loading_.in_own_process()) return;
  const Inside guard;
  registry_.forget_fd(fd);
}

}  // namespace host_preload
