// SPDX-License-Identifier: MIT
#include "bench_machine.hpp"

#include <cstring>
#include <stdexcept>

#include "sim/backend.hpp"
#include "support/need.hpp"

namespace bench {
namespace {

using host_stub::GuestCpuidTable;
using host_stub::need;

/// A vCPU of no KVM: takes every MSR.
struct NoVcpu final : host_stub::Vcpu {
  int32_t ioctl(uint32_t, void* arg) override {
    return static_cast<int32_t>(static_cast<const vmm_kvm_msrs_header*>(arg)->nmsrs);
  }
  tl::expected<uint64_t, host_stub::GuestFault> guest_rdmsr(uint32_t) override { return 0; }
  tl::expected<void, host_stub::GuestFault> guest_wrmsr(uint32_t, uint64_t) override { return {}; }
  tl::expected<uint64_t, host_stub::GuestFault> guest_rdpmc(uint32_t) override { return 0; }
  host_stub::GuestRun guest_run(uint64_t cycles) override { return {.cycles = cycles}; }
  void guest_write_lvtpc(uint32_t) override {}
};

}  // namespace

// ---- BenchHost ---------------------------------------------------------------------------------

BenchHost::BenchHost(const vmm_plugin& plugin, const char* options, const GuestCpuidTable& cpuid)
    : plugin_(plugin), cpuid_(cpuid) {
  table_.struct_size = sizeof table_;
  table_.abi_major = VMM_PLUGIN_ABI_MAJOR;
  table_.abi_minor = VMM_PLUGIN_ABI_MINOR;
  table_.host_ctx = this;
  table_.name = "bench";
  table_.register_hooks = register_hooks;
  table_.vm_ioctl = vm_ioctl;
  table_.vcpu_ioctl = vcpu_ioctl;
  table_.log = [](void*, uint32_t, const char*, uint64_t) {};
  table_.get_cpuid = get_cpuid;
  char text[256] = "";
  vmm_error error{sizeof(vmm_error), sizeof text, text};
  if (plugin_.create(&table_, options, &ctx_, &error) != 0)
    throw std::runtime_error(std::string("create: ") + text);
}

BenchHost::~BenchHost() { plugin_.destroy(ctx_); }

int32_t BenchHost::register_hooks(void* host_ctx, const vmm_hooks* hooks, void* ctx) {
  self(host_ctx).hooks_ = *hooks;
  self(host_ctx).ctx_ = ctx;
  return 0;
}

int32_t BenchHost::vm_ioctl(void* host_ctx, vmm_vm_handle vm, uint32_t request, void* arg) {
  ++self(host_ctx).vm_ioctls;
  return reinterpret_cast<host_stub::Vm*>(vm)->ioctl(request, arg);
}

int32_t BenchHost::vcpu_ioctl(void* host_ctx, vmm_vcpu_handle vcpu, uint32_t request, void* arg) {
  if (self(host_ctx).keep_written && request == VMM_KVM_SET_MSRS) {
    const auto entries = host_stub::msr_entries(arg);
    self(host_ctx).written.assign(entries.begin(), entries.end());
  }
  return reinterpret_cast<host_stub::Vcpu*>(vcpu)->ioctl(request, arg);
}

int32_t BenchHost::get_cpuid(void* host_ctx, vmm_vm_handle, vmm_vcpu_handle, uint32_t leaf,
                             uint32_t subleaf, uint32_t registers[4]) {
  self(host_ctx).cpuid_.lookup(leaf, subleaf, std::span<uint32_t, 4>(registers, 4));
  return 0;
}

// ---- BenchMachine ------------------------------------------------------------------------------

BenchMachine::BenchMachine(const vmm_plugin& plugin, const MachineSpec& spec)
    : kvm_(
          need(host_stub::open_kvm(spec.kvm == kNoKvm ? "sim:linux-6.12,host-perfmonv2" : spec.kvm),
               "KVM")) {
  cpuid_ = need(
      GuestCpuidTable::make(*kvm_, need(host_stub::CpuidModel::parse(spec.cpuid), "guest CPUID")),
      "guest CPUID");
  host_ = std::make_unique<BenchHost>(plugin, spec.options.c_str(), *cpuid_);
  vm_ = need(kvm_->create_vm(), "KVM_CREATE_VM");
  const vmm_vm vm{sizeof(vmm_vm), spec.vcpus, reinterpret_cast<vmm_vm_handle>(vm_.get())};
  void* vm_ctx = nullptr;
  if (host_->hooks().vm_created(host_->ctx(), &vm, &vm_ctx, nullptr) != 0)
    throw std::runtime_error("vm_created");
  vm_ctx_ = {vm_ctx, EndVm{host_.get()}};
  if (spec.kvm == kNoKvm) {  // nothing in it to tell one from another
    vcpus_.push_back(std::make_unique<NoVcpu>());
    handles_.assign(spec.vcpus, reinterpret_cast<vmm_vcpu_handle>(vcpus_.front().get()));
  }
  for (auto id = static_cast<uint32_t>(handles_.size()); id < spec.vcpus; ++id) {
    vcpus_.push_back(need(vm_->create_vcpu(id), "KVM_CREATE_VCPU " + std::to_string(id)));
    if (cpuid_->apply(*vcpus_.back()) < 0) throw std::runtime_error("KVM_SET_CPUID2");
    handles_.push_back(reinterpret_cast<vmm_vcpu_handle>(vcpus_.back().get()));
  }
  for (uint32_t id = 0; id < spec.vcpus; ++id) reset_once(id);
  host_->keep_written = true;
  reset_once(0);
  host_->keep_written = false;
  for (uint32_t id = 1; id < spec.vcpus; ++id) reset_once(id);
  for (const kvm_msr_entry& entry : host_->written) {
    written_.add(entry);
    single_.emplace_back().add(entry);
  }
}

void BenchMachine::reset_once(uint32_t vcpu) const {
  if (const int32_t result = reset(vcpu); result != 0)
    throw std::runtime_error("vcpu_reset " + std::to_string(vcpu) + ": " + std::strerror(-result));
}

int32_t BenchMachine::write_one_by_one(uint32_t vcpu) {
  int32_t taken = 0;
  for (host_stub::MsrRequest& one : single_)
    taken += vcpu_at(vcpu).ioctl(VMM_KVM_SET_MSRS, one.arg());
  return taken;
}

}  // namespace bench
