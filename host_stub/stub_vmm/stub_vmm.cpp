// SPDX-License-Identifier: MIT
#include "stub_vmm/stub_vmm.hpp"

#include <fmt/format.h>
#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "host_kit/msr_io.hpp"

namespace host_stub {
namespace {

/// Room of the batch that is lent to plugins, as many as one KVM_SET_MSRS takes.
constexpr std::size_t kBatchCapacity = VMM_KVM_MAX_MSRS;

/// What a VMM with a filter of its own denies on its own account here: LS_CFG, an MSR that no guest
/// of ours touches.
constexpr vmm_msr_range kOwnDeniedRange{0xc0011020, 1};

tl::unexpected<VmmError> failed(int32_t code, std::string text) {
  return tl::unexpected(VmmError{code, std::move(text)});
}

tl::unexpected<VmmError> ioctl_failed(const char* name, int32_t code, const char* hint = "") {
  return failed(code, fmt::format("{} failed: {}{}", name, std::strerror(-code), hint));
}

/// The registers that QEMU 11 writes (target/i386/kvm/kvm.c, AMD), by the guest's CPUID: 4 or 6
/// counters, or as many as PerfMonV2 says. None where the host's vendor is another.
std::vector<uint32_t> qemu_11_pmu_msrs(const GuestCpuidTable& guest,
                                       const GuestCpuidTable& supported) {
  constexpr uint32_t kAuth = 0x68747541, kCoreBit = 1u << 23, kMostCounters = 18;
  if (guest.lookup(0, 0).ebx != kAuth || supported.lookup(0, 0).ebx != kAuth) return {};
  const bool core = (guest.lookup(0x80000001, 0).ecx & kCoreBit) != 0;
  const CpuidResult perfmon = guest.lookup(0x80000022, 0);
  const bool v2 = core && (perfmon.eax & 1) != 0;
  const uint32_t claimed = v2 ? perfmon.ebx & 0xf : core ? 6 : 4;
  const uint32_t counter0 = core ? 0xc0010201 : 0xc0010004;
  const uint32_t selector0 = core ? 0xc0010200 : 0xc0010000, stride = core ? 2 : 1;
  std::vector<uint32_t> msrs;
  for (uint32_t i = 0; i < std::min(claimed, kMostCounters); ++i)
    msrs.insert(msrs.end(), {counter0 + stride * i, selector0 + stride * i});
  if (v2) msrs.insert(msrs.end(), {0xc0000300, 0xc0000302, 0xc0000301});
  return msrs;
}

constexpr const char* kBusyHint =
    ": with a mediated vPMU KVM needs the host's PMU for the guest, and this host has system-wide "
    "perf events, such as its NMI watchdog. Turn those off (sysctl kernel.nmi_watchdog=0; end "
    "'perf ... -a'), or make the VM without vPMU (pmu-cap-disabled=on)";

}  // namespace

struct StubVmm::VcpuRecord {
  uint32_t index = 0;
  std::unique_ptr<Vcpu> vcpu;
  VcpuState reset_state;
};

StubVmm::StubVmm(Kvm& kvm, const VmmConfig& config, EventSink events)
    : kvm_(kvm), config_(config), events_(std::move(events)) {}

StubVmm::~StubVmm() {
  guest_.reset();
  plugin_vms_.clear();  // vm_destroyed, while the VM is still there
  vcpus_.clear();
  vm_.reset();
  plugins_.clear();  // destroy
  libraries_.clear();
}

VmmResult<std::unique_ptr<StubVmm>> StubVmm::create(Kvm& kvm, const VmmConfig& config,
                                                    EventSink events) {
  std::unique_ptr<StubVmm> me(new StubVmm(kvm, config, std::move(events)));
  if (auto done = me->make_cpuid(); !done) return tl::unexpected(done.error());
  if (auto done = me->load_plugins(); !done) return tl::unexpected(done.error());
  if (auto done = me->create_vm(); !done) return tl::unexpected(done.error());
  for (uint32_t index = 0; index < config.vcpus; ++index)
    if (auto done = me->create_vcpu(index); !done) return tl::unexpected(done.error());
  if (auto done = me->build_msr_list(); !done) return tl::unexpected(done.error());
  if (auto done = me->reset(); !done) return tl::unexpected(done.error());

  std::vector<Vcpu*> vcpus;
  for (const auto& record : me->vcpus_) vcpus.push_back(record->vcpu.get());
  me->guest_ = std::make_unique<LinuxGuest>(
      std::move(vcpus), config.guest_kernel,
      [raw = me.get()](uint32_t leaf, uint32_t subleaf) {
        return raw->cpuid_->lookup(leaf, subleaf);
      },
      [raw = me.get()](const std::string& line) {
        raw->emit({Event::Kind::guest, "guest", line, 0, 0});
      });
  return me;
}

VmmResult<void> StubVmm::make_cpuid() {
  auto supported = GuestCpuidTable::make(kvm_, {});
  if (!supported) return failed(-EIO, supported.error());
  supported_ = std::make_unique<GuestCpuidTable>(std::move(*supported));
  if (config_.guest_cpuid) {
    cpuid_ = std::make_unique<GuestCpuidTable>(*config_.guest_cpuid);
    return {};
  }
  auto cpuid = GuestCpuidTable::make(kvm_, config_.cpuid);
  if (!cpuid) return failed(-EIO, cpuid.error());
  cpuid_ = std::make_unique<GuestCpuidTable>(std::move(*cpuid));
  return {};
}

VmmResult<void> StubVmm::load_plugins() {
  // instances refer to their library's descriptor, so these must not move any more
  libraries_.reserve(config_.plugins.size());
  for (const PluginSpec& spec : config_.plugins) {
    auto library = host_kit::PluginLibrary::open(spec.path);
    if (!library) return failed(-ENOEXEC, library.error());
    libraries_.push_back(std::move(*library));
    auto instance = host_kit::PluginInstance::create(libraries_.back().descriptor(), *this,
                                                     spec.options.c_str());
    if (!instance) return failed(instance.error().code, instance.error().text);
    hook_event("create", spec.options, 0);
    plugins_.push_back(std::move(*instance));
  }
  return {};
}

VmmResult<void> StubVmm::create_vm() {
  auto vm = kvm_.create_vm();
  if (!vm) return ioctl_failed("KVM_CREATE_VM", vm.error());
  vm_ = std::move(*vm);
  if (config_.msr_filter) {
    denied_.push_back(kOwnDeniedRange);
    if (const int32_t result = set_filter(); result < 0)
      return ioctl_failed("KVM_X86_SET_MSR_FILTER", result);
  }
  for (const auto& plugin : plugins_) {
    auto created = host_kit::PluginVm::created(*plugin, reinterpret_cast<vmm_vm_handle>(vm_.get()),
                                               config_.vcpus);
    if (!created) {
      hook_event("vm_created", created.error().text, created.error().code);
      return failed(created.error().code, created.error().text);
    }
    hook_event("vm_created", "", 0);
    plugin_vms_.push_back(std::move(*created));
  }
  if (auto done = set_pmu_capability(); !done) return done;
  if (!config_.irqchip) return {};
  if (const int32_t result = vm_->ioctl(KVM_CREATE_IRQCHIP, nullptr); result < 0)
    return ioctl_failed("KVM_CREATE_IRQCHIP", result);
  return {};
}

/// What the VMM itself makes of KVM_CAP_PMU_CAPABILITY, before its first vCPU and after the
/// plugins.
VmmResult<void> StubVmm::set_pmu_capability() {
  const bool off = config_.kind == VmmKind::qemu_11 && config_.guest_pmu == VMM_GUEST_PMU_OFF;
  if (!off && config_.kind != VmmKind::enables_pmu) return {};
  void* capability = reinterpret_cast<void*>(uintptr_t{KVM_CAP_PMU_CAPABILITY});
  if (vm_->ioctl(KVM_CHECK_EXTENSION, capability) <= 0) return {};  // and says so to nobody
  kvm_enable_cap request{};
  request.cap = KVM_CAP_PMU_CAPABILITY;
  request.args[0] = off ? KVM_PMU_CAP_DISABLE : 0;
  if (const int32_t result = vm_->ioctl(KVM_ENABLE_CAP, &request); result < 0)
    return ioctl_failed("KVM_ENABLE_CAP(KVM_CAP_PMU_CAPABILITY)", result);
  return {};
}

VmmResult<void> StubVmm::create_vcpu(uint32_t index) {
  auto record = std::make_unique<VcpuRecord>();
  record->index = index;
  auto vcpu = vm_->create_vcpu(index);
  if (!vcpu)
    return ioctl_failed("KVM_CREATE_VCPU", vcpu.error(), vcpu.error() == -EBUSY ? kBusyHint : "");
  record->vcpu = std::move(*vcpu);
  if (const int32_t result = cpuid_->apply(*record->vcpu); result < 0)
    return ioctl_failed("KVM_SET_CPUID2", result);
  // KVM makes a vCPU in its reset state: that is what later resets put back
  auto state = get_state(*record->vcpu);
  if (!state) return tl::unexpected(state.error());
  record->reset_state = *state;
  vcpus_.push_back(std::move(record));
  return {};
}

VmmResult<StubVmm::VcpuState> StubVmm::get_state(Vcpu& vcpu) const {
  VcpuState state;
  if (const int32_t result = vcpu.ioctl(KVM_GET_REGS, &state.regs); result < 0)
    return ioctl_failed("KVM_GET_REGS", result);
  if (const int32_t result = vcpu.ioctl(KVM_GET_SREGS, &state.sregs); result < 0)
    return ioctl_failed("KVM_GET_SREGS", result);
  if (const int32_t result = vcpu.ioctl(KVM_GET_MP_STATE, &state.mp_state); result < 0)
    return ioctl_failed("KVM_GET_MP_STATE", result);
  if (!config_.irqchip) return state;
  state.lapic.emplace();
  if (const int32_t result = vcpu.ioctl(KVM_GET_LAPIC, &*state.lapic); result < 0)
    return ioctl_failed("KVM_GET_LAPIC", result);
  return state;
}

/// KVM takes the structs as they are and changes none of them.
VmmResult<void> StubVmm::set_state(Vcpu& vcpu, const VcpuState& state) {
  VcpuState copy = state;
  if (const int32_t result = vcpu.ioctl(KVM_SET_SREGS, &copy.sregs); result < 0)
    return ioctl_failed("KVM_SET_SREGS", result);
  if (const int32_t result = vcpu.ioctl(KVM_SET_REGS, &copy.regs); result < 0)
    return ioctl_failed("KVM_SET_REGS", result);
  if (copy.lapic)
    if (const int32_t result = vcpu.ioctl(KVM_SET_LAPIC, &*copy.lapic); result < 0)
      return ioctl_failed("KVM_SET_LAPIC", result);
  if (const int32_t result = vcpu.ioctl(KVM_SET_MP_STATE, &copy.mp_state); result < 0)
    return ioctl_failed("KVM_SET_MP_STATE", result);
  return {};
}

VmmResult<void> StubVmm::build_msr_list() {
  for (const auto& plugin : plugin_vms_) {
    auto list = plugin->msr_list();
    if (!list) {
      hook_event("msr_list_build", list.error().text, list.error().code);
      return failed(list.error().code, list.error().text);
    }
    hook_event("msr_list_build", fmt::format("{} entries", list->size()), 0);
    msr_list_.insert(msr_list_.end(), list->begin(), list->end());
  }
  return {};
}

VmmResult<void> StubVmm::reset() {
  if (!config_.parallel_reset) {
    for (const auto& record : vcpus_)
      if (auto done = reset_vcpu(*record); !done) return done;
    return {};
  }
  std::vector<VmmResult<void>> results(vcpus_.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < vcpus_.size(); ++i)
    threads.emplace_back([&, i] { results[i] = reset_vcpu(*vcpus_[i]); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results)
    if (!result) return result;
  return {};
}

VmmResult<void> StubVmm::reset_vcpu(VcpuRecord& record) {
  if (auto done = set_state(*record.vcpu, record.reset_state); !done) return done;
  if (auto done = call_vcpu_reset(record); !done) return done;
  const bool writes = config_.kind == VmmKind::qemu_11 && config_.guest_pmu != VMM_GUEST_PMU_OFF;
  return writes ? write_pmu_as_qemu_11(record) : VmmResult<void>{};
}

/// QEMU 11's kvm_put_msrs() at a reset: all zeroes, and an abort if KVM does not take all of them.
VmmResult<void> StubVmm::write_pmu_as_qemu_11(VcpuRecord& record) {
  std::vector<vmm_msr> writes;
  for (const uint32_t msr : qemu_11_pmu_msrs(*cpuid_, *supported_)) writes.push_back({msr, 0, 0});
  if (writes.empty()) return {};
  const auto refused =
      host_kit::write_msrs(*this, reinterpret_cast<vmm_vcpu_handle>(record.vcpu.get()), writes);
  if (!refused) return failed(refused.error().code, refused.error().text);
  if (refused->empty()) return {};
  return failed(-EIO, fmt::format("QEMU 11 aborts: error: failed to set MSR 0x{:x} to 0x0",
                                  refused->front().index));
}

VmmResult<void> StubVmm::call_vcpu_reset(VcpuRecord& record) {
  const auto handle = reinterpret_cast<vmm_vcpu_handle>(record.vcpu.get());
  host_kit::MsrBatch batch(kBatchCapacity);
  for (const auto& plugin : plugin_vms_) {
    const std::size_t before = batch.entries().size();
    const int32_t result =
        plugin->vcpu_reset(record.index, handle, config_.batch ? batch.sink() : nullptr);
    hook_event("vcpu_reset", fmt::format("vCPU {}", record.index), result);
    if (result == 0) continue;
    batch.truncate(before);
    return failed(result, fmt::format("vcpu_reset of vCPU {} failed: {}", record.index,
                                      std::strerror(-result)));
  }
  if (batch.entries().empty()) return {};
  const auto refused = batch.flush(*this, handle);
  if (!refused) return failed(refused.error().code, refused.error().text);
  log_refused(record.index, *refused);
  return {};
}

/// Once a VM: KVM answers the same for each vCPU and at each reset.
void StubVmm::log_refused(uint32_t vcpu, const std::vector<vmm_msr>& refused) {
  for (const vmm_msr& entry : refused) {
    {
      const std::lock_guard lock(refused_mutex_);
      if (!refused_.insert(entry.index).second) continue;
    }
    log(VMM_LOG_WARNING, "host_stub",
        fmt::format(
            "vCPU {}: KVM refuses {:08x} = {:x} of the reset batch, skipped; not said again", vcpu,
            entry.index, entry.value));
  }
}

VmmResult<StubVmm::VmState> StubVmm::save() {
  VmState state;
  for (const auto& record : vcpus_) {
    auto saved = host_kit::save_msrs(*this, reinterpret_cast<vmm_vcpu_handle>(record->vcpu.get()),
                                     msr_list_);
    if (!saved) return failed(saved.error().code, saved.error().text);
    state.push_back(std::move(*saved));
  }
  return state;
}

VmmResult<void> StubVmm::restore(const VmState& state) {
  std::string dropped;
  if (state.size() != vcpus_.size())
    return failed(-EINVAL, fmt::format("the state has {} vCPUs, this VM has {}", state.size(),
                                       vcpus_.size()));
  for (std::size_t i = 0; i < vcpus_.size(); ++i) {
    const auto report = host_kit::restore_msrs(
        *this, reinterpret_cast<vmm_vcpu_handle>(vcpus_[i]->vcpu.get()), msr_list_, state[i]);
    if (!report)
      return failed(report.error().code, fmt::format("vCPU {}: {}", i, report.error().text));
    for (const host_kit::SavedMsr& msr : report->dropped)
      dropped += fmt::format("; vCPU {} {:08x}={:x}", i, msr.index, msr.value);
  }
  if (!dropped.empty())
    log(VMM_LOG_WARNING, "host_stub",
        "restore: this host lacks registers of the saved state, dropped" + dropped);
  return {};
}

VmmResult<StubVmm::MachineState> StubVmm::save_machine() {
  auto msrs = save();
  if (!msrs) return tl::unexpected(msrs.error());
  MachineState state{std::move(*msrs), {}, guest_->memory()};
  for (const auto& record : vcpus_) {
    auto vcpu = get_state(*record->vcpu);
    if (!vcpu) return tl::unexpected(vcpu.error());
    state.vcpus.push_back(*vcpu);
  }
  return state;
}

VmmResult<void> StubVmm::load_machine(const MachineState& state) {
  if (auto done = restore(state.msrs); !done) return done;
  for (std::size_t i = 0; i < vcpus_.size(); ++i)
    if (auto done = set_state(*vcpus_[i]->vcpu, state.vcpus[i]); !done) return done;
  guest_->resume(state.memory);
  return {};
}

VmmResult<void> StubVmm::replug() {
  if (vcpus_.size() < 2)
    return failed(-EINVAL, "a VM with a single vCPU has none to unplug (--vcpus 2)");
  if (auto done = reset_vcpu(*vcpus_.back()); !done) return done;
  guest_->plug_cpu(vcpus_.size() - 1);
  return {};
}

Vcpu& StubVmm::vcpu(uint32_t index) { return *vcpus_[index]->vcpu; }

// ---- host_kit::Host ----------------------------------------------------------------------------

const char* StubVmm::name() const noexcept { return "host_stub " SVM_PMU_VERSION; }

int32_t StubVmm::vm_ioctl(vmm_vm_handle vm, uint32_t request, void* arg) noexcept {
  return reinterpret_cast<Vm*>(vm)->ioctl(request, arg);
}

int32_t StubVmm::vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) noexcept {
  return reinterpret_cast<Vcpu*>(vcpu)->ioctl(request, arg);
}

void StubVmm::log(uint32_t level, std::string_view source, std::string_view message) noexcept {
  emit({Event::Kind::log, std::string(source), std::string(message), 0, level});
}

int32_t StubVmm::get_cpuid(vmm_vm_handle, vmm_vcpu_handle, uint32_t leaf, uint32_t subleaf,
                           std::span<uint32_t, 4> registers) noexcept {
  cpuid_->lookup(leaf, subleaf, registers);
  return 0;
}

int32_t StubVmm::get_supported_cpuid(vmm_vm_handle, uint32_t leaf, uint32_t subleaf,
                                     std::span<uint32_t, 4> registers) noexcept {
  supported_->lookup(leaf, subleaf, registers);
  return 0;
}

/// The guest's CPUID was made of what KVM supports before the VM was: what is cleared in it, the
/// VMM's code does not see either.
int32_t StubVmm::hide_cpuid(vmm_vm_handle, std::span<const vmm_cpuid_bits> bits) noexcept {
  return cpuid_->hide(bits);
}

int32_t StubVmm::deny_msrs(vmm_vm_handle, std::span<const vmm_msr_range> ranges) noexcept {
  if (denied_.size() + ranges.size() > KVM_MSR_FILTER_MAX_RANGES) return -ENOSPC;
  const std::size_t before = denied_.size();
  denied_.insert(denied_.end(), ranges.begin(), ranges.end());
  const int32_t result = set_filter();
  if (result < 0) denied_.resize(before);
  return result;
}

/// The VM's one filter, made anew of all that is denied.
int32_t StubVmm::set_filter() noexcept {
  static uint64_t deny_all[4] = {};  // bits of up to 256 MSRs a range; KVM only reads it
  kvm_msr_filter filter{};
  filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
  for (std::size_t i = 0; i < denied_.size(); ++i) {
    if (denied_[i].count > 8 * sizeof deny_all) return -EINVAL;
    filter.ranges[i] = {KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, denied_[i].count,
                        denied_[i].base, reinterpret_cast<uint8_t*>(deny_all)};
  }
  return vm_->ioctl(KVM_X86_SET_MSR_FILTER, &filter);
}

void StubVmm::emit(const Event& event) noexcept {
  if (!events_) return;
  const std::lock_guard lock(events_mutex_);
  events_(event);
}

void StubVmm::hook_event(const char* name, std::string text, int32_t result) noexcept {
  emit({Event::Kind::hook, name, std::move(text), result, 0});
}

}  // namespace host_stub
