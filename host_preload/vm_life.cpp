// SPDX-License-Identifier: MIT
#include "host_preload/vm_life.hpp"

#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "host_preload/real_calls.hpp"
#include "host_preload/vcpu_state.hpp"
#include "host_preload/vm_status.hpp"

namespace host_preload {
namespace {

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

/// What KVM supports; the table stays empty if KVM does not say. May throw bad_alloc.
void read_supported_cpuid(int kvm_fd, CpuidTable& table) {
  CpuidCopy request{std::vector<kvm_cpuid_entry2>(CpuidTable::kMaxEntries)};
  if (real_ioctl_result(kvm_fd, VMM_KVM_GET_SUPPORTED_CPUID, request.data()) < 0) return;
  table.assign(cpuid_entries(request.data()));
}

/// A vCPU's kvm_run, mapped a second time. Undone unless it is handed on: it would keep the VM
/// alive.
class RunMapping {
 public:
  RunMapping() noexcept = default;
  RunMapping(const RunMapping&) = delete;
  RunMapping& operator=(const RunMapping&) = delete;
  ~RunMapping() {
    if (run_ != nullptr) munmap(run_, sizeof(kvm_run));
  }

  /// False: errno says why.
  bool map(int vcpu_fd) noexcept {
    void* mapped = mmap(nullptr, sizeof(kvm_run), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
    if (mapped == MAP_FAILED) return false;
    run_ = static_cast<kvm_run*>(mapped);
    return true;
  }
  kvm_run* get() const noexcept { return run_; }
  void hand_on() noexcept { run_ = nullptr; }

 private:
  kvm_run* run_ = nullptr;
};

}  // namespace

void VmLife::vm_made(KvmCall& call) noexcept {
  int32_t result = 0;
  try {
    if (loading_.renew_after_fork()) registry_.forget_all();
    registry_.forget_fd(call.result);  // a number whose close was missed
    result = start_vm(call.fd, call.result);
  } catch (const std::bad_alloc&) {
    log_.event(VMM_LOG_ERROR, "vm_refused vm=%d errno=%d reason=\"out of memory\"", call.result,
               ENOMEM);
    result = -ENOMEM;
  }
  if (result == 0) return;
  real_close(call.result);
  call.fail(result);
}

int32_t VmLife::start_vm(int kvm_fd, int vm_fd) {
  if (const int32_t result = loading_.admit_vm(vm_fd); result < 0) return result;
  const uint32_t bound = max_vcpus(kvm_fd, vm_fd);
  const Use<Vm> vm(registry_, registry_.make_vm(vm_fd));  // ends it, unless it is published
  vm->guest_pmu = loading_.guest_pmu();
  read_supported_cpuid(kvm_fd, vm->supported);
  for (const auto& instance : loading_.plugins().instances()) {
    auto view = host_kit::PluginVm::created(*instance, vm->handle(), bound);
    if (!view) {
      const int32_t code = view.error().code;
      log_.event(VMM_LOG_ERROR, "vm_refused vm=%d plugin=%s errno=%d reason=\"%s\"", vm_fd,
                 instance->name(), -code, view.error().text.c_str());
      return code;
    }
    vm->plugins.push_back({instance.get(), std::move(*view), nullptr});
    log_.event(VMM_LOG_INFO, "vm_created vm=%d plugin=%s result=0", vm_fd, instance->name());
  }
  say_ready(*vm);
  vm->status = loading_.status().add_vm(vm_fd);
  say_states(*vm);
  registry_.publish(*vm);
  return 0;
}

/// The one line that an operator gets when all is well.
void VmLife::say_ready(const Vm& vm) {
  if (vm.plugins.empty()) return;
  std::string plugins;
  for (const PluginView& plugin : vm.plugins) {
    plugins += (plugins.empty() ? "" : ", ") + std::string(plugin.instance->name()) + " " +
               plugin.instance->version();
    if (const std::string state = plugin.vm->state(); !state.empty()) plugins += ": " + state;
  }
  log_.event(kLogNotice, R"(vm_ready vm=%d name="%s" plugins="%s")", vm.number,
             loading_.vm_name().c_str(), plugins.c_str());
}

void VmLife::vcpu_made(KvmCall& call) noexcept {
  const int vcpu_fd = call.result;
  const auto index = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(call.arg));
  const Use<Vm> vm = registry_.vm(call.fd);
  registry_.forget_fd(vcpu_fd);
  if (!vm) return;
  const auto refusal = follow_vcpu(*vm, vcpu_fd, index);
  if (!refusal) {
    log_.event(VMM_LOG_DEBUG, "vcpu_created vm=%d vcpu=%u fd=%d", vm->number, index, vcpu_fd);
    return;
  }
  log_.event(VMM_LOG_ERROR, "vcpu_refused fd=%d vcpu=%u errno=%d reason=\"%s\"", vcpu_fd, index,
             refusal->error, refusal->reason);
  real_close(vcpu_fd);
  call.fail(-refusal->error);
}

/// EBUSY: perf_create_mediated_pmu() found perf events that count while a guest runs (Linux 6.19
/// and later with kvm_amd.enable_mediated_pmu).
void VmLife::vcpu_not_made(const KvmCall& call) noexcept {
  if (call.error != EBUSY) return;
  const Use<Vm> vm = registry_.vm(call.fd);
  if (!vm || vm->said_busy.exchange(true)) return;
  log_.event(VMM_LOG_ERROR,
             "vcpu_busy vm=%d vcpu=%u errno=%d reason=\"this host mediates the vPMU, and its "
             "nmi_watchdog or a system-wide perf holds the PMU: end perf, turn the watchdog off "
             "(sysctl kernel.nmi_watchdog=0), or give the VM no vPMU (pmu-cap-disabled=on)\"",
             vm->number, static_cast<uint32_t>(reinterpret_cast<uintptr_t>(call.arg)), call.error);
}

std::optional<VmLife::Refusal> VmLife::follow_vcpu(Vm& vm, int vcpu_fd, uint32_t index) noexcept
    try {
  RunMapping run;
  if (!vm.denied.empty() && !run.map(vcpu_fd))
    return Refusal{errno, "kvm_run cannot be mapped, which answering exits for denied MSRs needs"};
  if (registry_.add_vcpu(vm, vcpu_fd, index, run.get()) == nullptr)
    return Refusal{EMFILE, "the descriptor's number is too high"};
  run.hand_on();
  return std::nullopt;
} catch (const std::bad_alloc&) {
  return Refusal{ENOMEM, "out of memory"};
}

}  // namespace host_preload
