// SPDX-License-Identifier: MIT
#include "plugin_fixture.hpp"

#include <fmt/format.h>
#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>
#include <utility>

#include "host_kit/one_msr.hpp"
#include "host_kit/plugin_library.hpp"
#include "kvm/faults.hpp"
#include "sim/pmu_msrs.hpp"
#include "sim/sim_kvm.hpp"
#include "support/need.hpp"

namespace host_stub {
namespace {

/// The simulated vCPU that this thread made last, below all decorators.
thread_local SimVcpu* newest = nullptr;

class TappedVm final : public Vm {
 public:
  explicit TappedVm(std::unique_ptr<Vm> inner) : inner_(std::move(inner)) {}
  int32_t ioctl(uint32_t request, void* arg) override { return inner_->ioctl(request, arg); }
  tl::expected<std::unique_ptr<Vcpu>, int32_t> create_vcpu(uint32_t id) override {
    auto vcpu = inner_->create_vcpu(id);
    if (vcpu) newest = sim_vcpu(vcpu->get());
    return vcpu;
  }

 private:
  std::unique_ptr<Vm> inner_;
};

class TappedKvm final : public Kvm {
 public:
  explicit TappedKvm(std::unique_ptr<Kvm> inner) : inner_(std::move(inner)) {}
  int32_t ioctl(uint32_t request, void* arg) override { return inner_->ioctl(request, arg); }
  tl::expected<std::unique_ptr<Vm>, int32_t> create_vm() override {
    auto vm = inner_->create_vm();
    if (!vm) return vm;
    return std::make_unique<TappedVm>(std::move(*vm));
  }
  HostInfo host_info() const override { return inner_->host_info(); }
  std::string name() const override { return inner_->name(); }

 private:
  std::unique_ptr<Kvm> inner_;
};

constexpr auto kPmuMsrs = []() {
  std::array<uint32_t, 2 * kLegacyCounters + 2 * kMaxCounters + 2> all{};
  std::size_t n = 0;
  for (uint32_t i = 0; i < 2 * kLegacyCounters; ++i) all[n++] = kMsrLegacyCtl0 + i;
  for (uint32_t i = 0; i < 2 * kMaxCounters; ++i) all[n++] = kMsrCtl0 + i;
  all[n++] = kMsrGlobalStatus;
  all[n++] = kMsrGlobalCtl;
  return all;
}();

}  // namespace

const vmm_plugin& plugin_descriptor() {
  static const host_kit::PluginLibrary library =
      need(host_kit::PluginLibrary::open(kPluginPath), "the plugin cannot be loaded");
  return library.descriptor();
}

std::unique_ptr<Kvm> open_tapped_sim(const std::string& spec) {
  auto sim = open_sim(spec);
  if (!sim) return nullptr;
  return std::make_unique<TappedKvm>(std::move(*sim));
}

SimVcpu* newest_sim() { return newest; }

// ---- PluginHost --------------------------------------------------------------------------------

PluginHost::PluginHost(const HostSpec& spec)
    : hide_result_(spec.hide_result),
      own_filter_(spec.own_filter),
      irqchip_(spec.irqchip),
      kvm_(std::make_unique<TappedKvm>(need(open_sim(spec.kvm), "no such simulated KVM"))) {
  const CpuidModel model = need(CpuidModel::parse(spec.cpuid), "no such guest CPUID");
  cpuid_ = need(GuestCpuidTable::make(*kvm_, model), "no CPUID from the simulated KVM");
  if (!spec.faults.empty())
    kvm_ = with_faults(std::move(kvm_), need(parse_faults(spec.faults), "bad fault script"));
  if (spec.record)
    kvm_ = with_recorder(std::move(kvm_), [this](const IoctlEvent& event) {
      const std::lock_guard lock(mutex_);
      ioctls_.push_back(event);
    });
}

std::vector<LogLine> PluginHost::log_lines() const {
  const std::lock_guard lock(mutex_);
  return log_;
}

std::size_t PluginHost::logged(uint32_t level,
                               std::initializer_list<std::string_view> parts) const {
  const std::lock_guard lock(mutex_);
  const auto count = std::ranges::count_if(log_, [&](const LogLine& line) {
    return (level == 0 || line.level == level) &&
           std::ranges::all_of(parts, [&](std::string_view part) { return says(line.text, part); });
  });
  return static_cast<std::size_t>(count);
}

std::vector<IoctlEvent> PluginHost::ioctls(std::string_view wanted) const {
  const std::lock_guard lock(mutex_);
  std::vector<IoctlEvent> found;
  std::ranges::copy_if(ioctls_, std::back_inserter(found), [&](const IoctlEvent& event) {
    return wanted.empty() || event.name == wanted;
  });
  return found;
}

void PluginHost::forget() {
  const std::lock_guard lock(mutex_);
  log_.clear();
  ioctls_.clear();
}

int32_t PluginHost::vm_ioctl(vmm_vm_handle vm, uint32_t request, void* arg) noexcept {
  return reinterpret_cast<Vm*>(vm)->ioctl(request, arg);
}

int32_t PluginHost::vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) noexcept {
  if (vcpu_answer)
    if (const std::optional<int32_t> answer = vcpu_answer(request, arg)) return *answer;
  return reinterpret_cast<Vcpu*>(vcpu)->ioctl(request, arg);
}

void PluginHost::log(uint32_t level, std::string_view, std::string_view message) noexcept {
  if (!keep_log) return;
  const std::lock_guard lock(mutex_);
  log_.push_back({level, std::string(message)});
}

int32_t PluginHost::get_cpuid(vmm_vm_handle, vmm_vcpu_handle vcpu, uint32_t leaf, uint32_t subleaf,
                              std::span<uint32_t, 4> registers) noexcept {
  if (!cpuid_known || leaf == unknown_leaf) return -ENOENT;
  const auto own = vcpu_cpuid.find(vcpu);
  const auto& leaves = own != vcpu_cpuid.end() ? own->second : other_cpuid;
  const auto other = leaves.find(leaf);
  if (other == leaves.end())
    cpuid_->lookup(leaf, subleaf, registers);
  else
    std::ranges::copy(
        std::array{other->second.eax, other->second.ebx, other->second.ecx, other->second.edx},
        registers.begin());
  return 0;
}

int32_t PluginHost::hide_cpuid(vmm_vm_handle, std::span<const vmm_cpuid_bits> bits) noexcept {
  if (*hide_result_ == 0) hidden.assign(bits.begin(), bits.end());
  return *hide_result_;
}

int32_t PluginHost::deny_msrs(vmm_vm_handle, std::span<const vmm_msr_range> ranges) noexcept {
  return deny ? deny(ranges) : -EOPNOTSUPP;
}

std::unique_ptr<host_kit::PluginInstance> make_plugin(PluginHost& host, const char* options,
                                                      const vmm_plugin& descriptor) {
  auto plugin = host_kit::PluginInstance::create(descriptor, host, options);
  if (!plugin) throw std::runtime_error(plugin.error().text);
  return std::move(*plugin);
}

// ---- Machine -----------------------------------------------------------------------------------

Machine::Machine(PluginHost& host, host_kit::PluginInstance& plugin, uint32_t vcpus)
    : vm_(need(host.kvm().create_vm(), "KVM_CREATE_VM")) {
  auto hooks =
      host_kit::PluginVm::created(plugin, reinterpret_cast<vmm_vm_handle>(vm_.get()), vcpus);
  if (!hooks) throw std::runtime_error(hooks.error().text);
  hooks_ = std::move(*hooks);
  if (host.irqchip() && vm_->ioctl(KVM_CREATE_IRQCHIP, nullptr) < 0)
    throw std::runtime_error("KVM_CREATE_IRQCHIP");
  for (uint32_t id = 0; id < vcpus; ++id) {
    vcpus_.push_back(need(vm_->create_vcpu(id), "KVM_CREATE_VCPU"));
    sims_.push_back(newest);
    if (host.cpuid().apply(*newest) < 0) throw std::runtime_error("KVM_SET_CPUID2");
  }
}

vmm_vcpu_handle Machine::handle(uint32_t vcpu) const {
  return reinterpret_cast<vmm_vcpu_handle>(vcpus_[vcpu].get());
}

int32_t Machine::reset(uint32_t vcpu, const vmm_msr_sink* batch) {
  return hooks_->vcpu_reset(vcpu, handle(vcpu), batch);
}

std::optional<uint64_t> Machine::read(uint32_t vcpu, uint32_t msr) const {
  return host_kit::get_msr(*sims_[vcpu], msr);
}

bool Machine::write(uint32_t vcpu, uint32_t msr, uint64_t value) const {
  return host_kit::set_msr(*sims_[vcpu], msr, value);
}

void Machine::dirty(uint32_t vcpu, uint32_t counters) const {
  for (const uint32_t msr : kPmuMsrs) {
    const bool global = pmu_msr(msr)->bank == PmuBank::global;
    if (!global && pmu_msr(msr)->index >= counters) continue;
    write(vcpu, msr, global ? 1 : is_selector(msr) ? kStaleSelector : 0x1000 + (msr & 0xfff));
  }
}

std::string Machine::stale(uint32_t vcpu) const {
  const Pmu& pmu = sims_[vcpu]->pmu();
  const uint64_t global_ctl = pmu.version() > 1 ? (uint64_t{1} << pmu.counters()) - 1 : 0;
  std::string text;
  for (const uint32_t msr : kPmuMsrs) {
    const std::optional<uint64_t> value = read(vcpu, msr);
    if (!value || *value == (msr == kMsrGlobalCtl ? global_ctl : 0)) continue;
    text += fmt::format("{}{:08x}={:x}", text.empty() ? "" : " ", msr, *value);
  }
  return text;
}

// ---- RawHost -----------------------------------------------------------------------------------

RawHost::RawHost() {
  table.struct_size = sizeof table;
  table.abi_major = VMM_PLUGIN_ABI_MAJOR;
  table.abi_minor = VMM_PLUGIN_ABI_MINOR;
  table.host_ctx = this;
  table.name = "raw host";
  table.register_hooks = [](void* self, const vmm_hooks* given, void* given_ctx) -> int32_t {
    auto& me = *static_cast<RawHost*>(self);
    me.hooks = *given;
    me.ctx = given_ctx;
    return me.answer;
  };
  table.vm_ioctl = [](void*, vmm_vm_handle, uint32_t, void*) -> int32_t { return -EBADF; };
  table.vcpu_ioctl = [](void*, vmm_vcpu_handle, uint32_t, void*) -> int32_t { return -EBADF; };
  table.log = [](void* self, uint32_t, const char* text, uint64_t length) {
    auto& line = static_cast<RawHost*>(self)->last_line;
    line[std::string_view(text, static_cast<std::size_t>(length)).copy(line, sizeof line - 1)] = 0;
  };
}

// ---- plans and texts ---------------------------------------------------------------------------

std::span<const uint32_t> pmu_msrs() { return kPmuMsrs; }

bool is_selector(uint32_t msr) {
  const auto known = pmu_msr(msr);
  return known && known->bank != PmuBank::global && known->selector;
}

std::vector<vmm_msr> writes_of(const Plan& plan) {
  // counters 4 and 5 have extended addresses alone, and are written there for a legacy guest, too
  const bool old = plan.bank == Plan::legacy;
  const uint32_t counters = old ? 6 : plan.counters;
  std::vector<vmm_msr> writes;
  const auto add = [&](uint32_t msr, uint64_t value) { writes.push_back({msr, 0, value}); };
  if (plan.global) add(kMsrGlobalCtl, 0);
  for (uint32_t i = 0; i < counters; ++i)
    add(old && i < 4 ? kMsrLegacyCtl0 + i : kMsrCtl0 + 2 * i, 0);
  for (uint32_t i = 0; i < counters; ++i)
    add(old && i < 4 ? kMsrLegacyCtr0 + i : kMsrCtr0 + 2 * i, 0);
  if (plan.global) add(kMsrGlobalStatus, 0);
  if (plan.global) add(kMsrGlobalCtl, plan.global_ctl);
  return writes;
}

std::string text_of(std::span<const vmm_msr> entries) {
  std::string text;
  for (const vmm_msr& entry : entries)
    text += fmt::format("{}{:08x}={:x}", text.empty() ? "" : " ", entry.index, entry.value);
  return text;
}

std::string text_of(const IoctlEvent& event) {
  const std::size_t at = event.detail.find(": ");
  return at == std::string::npos ? "" : event.detail.substr(at + 2);
}

}  // namespace host_stub
