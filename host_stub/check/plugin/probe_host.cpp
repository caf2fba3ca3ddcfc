// SPDX-License-Identifier: MIT
#include "check/plugin/probe_host.hpp"

#include <algorithm>
#include <cerrno>
#include <span>

#include "check/plugin/calls.hpp"
#include "kvm/msr_request.hpp"

namespace host_stub::validate {
namespace {

thread_local RunningCall* running = nullptr;

/// Most bytes of a log line that are looked at.
constexpr uint64_t kLongestLine = 1 << 20;

}  // namespace

// ---- RunningCall -------------------------------------------------------------------------------

RunningCall::RunningCall(Findings& findings, const char* the_function, ProbeHost* the_host,
                         Machine* the_vm, vmm_vcpu_handle the_vcpu)
    : function(the_function),
      host(the_host),
      vm(the_vm),
      vcpu(the_vcpu),
      findings_(findings),
      outer_(running) {
  running = this;
  findings_.enter(function);
}

RunningCall::~RunningCall() {
  running = outer_;
  findings_.enter(outer_ != nullptr ? outer_->function : "");
}

// ---- callbacks ---------------------------------------------------------------------------------

struct ProbeHost::Thunks {
  static ProbeHost& self(void* ctx) noexcept { return *static_cast<ProbeHost*>(ctx); }

  static int32_t register_hooks(void* ctx, const vmm_hooks* given, void* hooks_ctx) noexcept {
    ProbeHost& me = self(ctx);
    ++me.calls;
    ++me.register_calls;
    if (running == nullptr || running->host != &me || running->function != kCreate) {
      me.findings_.fail(10, "register_hooks called in {}, not in create",
                        running != nullptr ? running->function : "no function of the plugin");
      return -EALREADY;
    }
    if (me.register_result != 0) return me.register_result;
    if (given == nullptr) {
      me.findings_.fail(66, "register_hooks with NULL");
      return -EINVAL;
    }
    if (given->struct_size < host_kit::kHooksSizeV1_0) {
      me.findings_.fail(66, "register_hooks with a struct_size of {}, ABI 1.0 has {}",
                        given->struct_size, host_kit::kHooksSizeV1_0);
      return -EINVAL;
    }
    if (given->reserved != 0)
      me.findings_.fail(66, "vmm_hooks.reserved is {:#x}, not 0", given->reserved);
    if (me.registrations++ != 0) {
      me.findings_.fail(10, "register_hooks called again in one create");
      return -EALREADY;
    }
    me.hooks = host_kit::copy_struct(*given);
    me.hooks_ctx = hooks_ctx;
    return 0;
  }

  static int32_t vm_ioctl(void* ctx, vmm_vm_handle vm, uint32_t request, void* arg) {
    ProbeHost& me = self(ctx);
    ++me.ioctls;
    if (!me.may_call("vm_ioctl", true, false)) return -EINVAL;
    Handle* handle = me.check_vm("vm_ioctl", vm);
    return handle != nullptr ? me.answer({false, request, arg}, *handle) : -EBADF;
  }

  static int32_t vcpu_ioctl(void* ctx, vmm_vcpu_handle vcpu, uint32_t request, void* arg) {
    ProbeHost& me = self(ctx);
    ++me.ioctls;
    const uint32_t at = me.vcpu_ioctls++;
    if (at < me.vcpu_requests.size()) me.vcpu_requests[at] = request;
    if (!me.may_call("vcpu_ioctl", true, false)) return -EINVAL;
    Handle* handle = me.check_vcpu("vcpu_ioctl", vcpu);
    me.check_request({true, request, arg});
    return handle != nullptr ? me.answer({true, request, arg}, *handle) : -EBADF;
  }

  static void log(void* ctx, uint32_t level, const char* message, uint64_t length) noexcept {
    ProbeHost& me = self(ctx);
    ++me.log_lines;
    me.may_call("log", true, true);
    if (message == nullptr) return me.findings_.fail(23, "log with NULL");
    const std::string_view text(message,
                                std::find(message, message + std::min(length, kLongestLine), '\0'));
    if (level == 0) me.findings_.fail(23, "log level 0 of \"{}\"", text);
    if (text.size() != length)
      me.findings_.fail(23, "log says {} bytes, \"{}\" ends after {}", length, text, text.size());
    else if (message[length] != '\0')
      me.findings_.fail(23, "no NUL behind the {} bytes of \"{}\"", length, text);
    if (text.find('\n') != std::string_view::npos)
      me.findings_.fail(23, "a newline in \"{}\"", text);
    if (!is_utf8(text)) me.findings_.fail(23, "a log line that is no UTF-8");
  }

  static int32_t get_cpuid(void* ctx, vmm_vm_handle vm, vmm_vcpu_handle vcpu, uint32_t leaf,
                           uint32_t subleaf, uint32_t* registers) noexcept {
    ProbeHost& me = self(ctx);
    ++me.cpuid_calls;
    if (!me.may_call("get_cpuid", false, false)) return -ENOENT;
    if (me.check_vm("get_cpuid", vm) == nullptr) return -ENOENT;
    if (vcpu != nullptr && me.check_vcpu("get_cpuid", vcpu) == nullptr) return -ENOENT;
    if (!me.knows_cpuid || me.tell_cpuid(leaf, subleaf, registers) != 0) return -ENOENT;
    const std::lock_guard lock(me.hidden_mutex_);
    for (const auto& [hiding_vm, bits] : me.hidden_)
      if (hiding_vm == vm && bits.leaf == leaf && bits.subleaf == subleaf)
        registers[bits.reg] &= ~bits.mask;
    return 0;
  }

  static int32_t deny_msrs(void* ctx, vmm_vm_handle vm, const vmm_msr_range* ranges,
                           uint32_t count) noexcept {
    ProbeHost& me = self(ctx);
    ++me.deny_calls;
    if (!me.may_call("deny_msrs", false, false)) return -EINVAL;
    if (running->function != kVmCreated)
      me.findings_.fail(62, "deny_msrs called in {}", running->function);
    if (me.check_vm("deny_msrs", vm) == nullptr) return -EINVAL;
    if (ranges == nullptr || count == 0) {
      me.findings_.fail(62, "deny_msrs without a range");
      return -EINVAL;
    }
    for (const vmm_msr_range& range : std::span(ranges, count))
      if (range.count == 0 || uint64_t{range.base} + range.count > uint64_t{1} << 32)
        me.findings_.fail(62, "deny_msrs with the range {:#x}, {} MSRs", range.base, range.count);
    return 0;
  }

  static int32_t hide_cpuid(void* ctx, vmm_vm_handle vm, const vmm_cpuid_bits* bits,
                            uint32_t count) noexcept {
    ProbeHost& me = self(ctx);
    ++me.hide_calls;
    if (!me.may_call("hide_cpuid", false, false)) return -EINVAL;
    if (running->function != kVmCreated) {
      me.findings_.fail(76, "hide_cpuid called in {}", running->function);
      return -EINVAL;
    }
    if (me.check_vm("hide_cpuid", vm) == nullptr) return -EINVAL;
    if (bits == nullptr || count == 0) {
      me.findings_.fail(76, "hide_cpuid without a bit");
      return -EINVAL;
    }
    for (const vmm_cpuid_bits& one : std::span(bits, count)) {
      if (one.reg <= VMM_CPUID_EDX && one.mask != 0) continue;
      me.findings_.fail(76, "hide_cpuid of leaf {:#x} with reg {} and mask {:#x}", one.leaf,
                        one.reg, one.mask);
      return -EINVAL;
    }
    try {
      const std::lock_guard lock(me.hidden_mutex_);
      for (const vmm_cpuid_bits& one : std::span(bits, count)) me.hidden_.emplace_back(vm, one);
      return 0;
    } catch (const std::bad_alloc&) {
      return -ENOSPC;
    }
  }

  static int32_t get_supported_cpuid(void* ctx, vmm_vm_handle vm, uint32_t leaf, uint32_t subleaf,
                                     uint32_t* registers) noexcept {
    ProbeHost& me = self(ctx);
    if (!me.may_call("get_supported_cpuid", false, false)) return -ENOENT;
    if (me.check_vm("get_supported_cpuid", vm) == nullptr) return -ENOENT;
    return me.tell_cpuid(leaf, subleaf, registers);
  }

  static const void* get_extension(void* ctx, const char* id) noexcept {
    ProbeHost& me = self(ctx);
    me.may_call("get_extension", true, false);
    if (id == nullptr) me.findings_.fail(26, "get_extension of the host with NULL");
    return nullptr;
  }
};

int32_t ProbeHost::tell_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t* registers) const noexcept {
  if (!cpuid_) return -ENOENT;
  cpuid_->lookup(leaf, subleaf, std::span<uint32_t, 4>(registers, 4));
  return 0;
}

/// Whether now is a time for this callback; notes it if not.
bool ProbeHost::may_call(const char* callback, bool in_create, bool in_destroy) noexcept {
  ++calls;
  if (ended_) {
    findings_.fail(18, "{} called after destroy", callback);
    return false;
  }
  if (running == nullptr) {
    findings_.fail(39, "{} called while no function of the plugin runs on this thread", callback);
    return false;
  }
  if (running->host != this) {
    findings_.fail(17, "{} of one instance's host called in {} of another instance", callback,
                   running->function);
    return false;
  }
  if (!in_destroy && running->function == kDestroy) {
    findings_.fail(18, "{} called in destroy", callback);
    return false;
  }
  if (!in_create && running->function == kCreate) {
    findings_.fail(20, "{} called in create, where there is no handle", callback);
    return false;
  }
  return true;
}

ProbeHost::Handle* ProbeHost::find(const void* handle) noexcept {
  const auto at =
      reinterpret_cast<uintptr_t>(handle) - reinterpret_cast<uintptr_t>(handle_space_.data());
  return at < handles_.size() ? &handles_[at] : nullptr;
}

ProbeHost::Handle* ProbeHost::check_vm(const char* callback, vmm_vm_handle handle) noexcept {
  Handle* found = find(handle);
  if (found == nullptr || !found->valid) {
    findings_.fail(20, "{} in {} with a VM handle that is {}", callback, running->function,
                   found == nullptr ? "not the host's" : "not valid any more");
    return nullptr;
  }
  if (running->vm != nullptr && found->vm != running->vm)
    findings_.fail(29, "{} in {} of one VM with the handle of another", callback,
                   running->function);
  return found;
}

ProbeHost::Handle* ProbeHost::check_vcpu(const char* callback, vmm_vcpu_handle handle) noexcept {
  Handle* found = find(handle);
  if (found == nullptr || !found->valid) {
    findings_.fail(20, "{} in {} with a vCPU handle that is {}", callback, running->function,
                   found == nullptr ? "not the host's" : "not valid any more");
    return nullptr;
  }
  if (handle != running->vcpu)
    findings_.fail(37, "{} in {} of one vCPU with the handle of another", callback,
                   running->function);
  return found;
}

/// What the contract says of an MSR request of the plugin's own.
void ProbeHost::check_request(const Ioctl& call) noexcept {
  if (!is_msr_request(call.request)) return;
  for (const kvm_msr_entry& entry : msr_entries(call.arg))
    if (entry.reserved != 0)
      return findings_.fail(54, "an MSR request with {:#x} in the reserved field of MSR {:08x}",
                            entry.reserved, entry.index);
}

int32_t ProbeHost::answer(const Ioctl& call, Handle& handle) {
  if (script)
    if (const auto scripted = script(call)) return *scripted;
  if (kvm_ == nullptr)
    return is_msr_request(call.request) ? static_cast<int32_t>(msr_entries(call.arg).size()) : 0;
  return call.on_vcpu ? handle.kvm_vcpu->ioctl(call.request, call.arg)
                      : handle.kvm_vm->ioctl(call.request, call.arg);
}

// ---- ProbeHost ---------------------------------------------------------------------------------

ProbeHost::ProbeHost(Findings& findings, Kvm* kvm)
    : findings_(findings), kvm_(kvm), handle_space_(kHandles) {
  if (kvm_ != nullptr) take_cpuid_of(*kvm_);
  handle_space_.close();
  table.struct_size = sizeof table;
  table.abi_major = VMM_PLUGIN_ABI_MAJOR;
  table.abi_minor = VMM_PLUGIN_ABI_MINOR;
  table.host_ctx = this;
  table.name = "host_stub validate";
  table.register_hooks = Thunks::register_hooks;
  table.vm_ioctl = Thunks::vm_ioctl;
  table.vcpu_ioctl = Thunks::vcpu_ioctl;
  table.log = Thunks::log;
  table.get_cpuid = Thunks::get_cpuid;
  table.deny_msrs = Thunks::deny_msrs;
  table.get_extension = Thunks::get_extension;
  table.hide_cpuid = Thunks::hide_cpuid;
  table.get_supported_cpuid = Thunks::get_supported_cpuid;
}

ProbeHost::~ProbeHost() = default;

void ProbeHost::take_cpuid_of(Kvm& kvm) {
  auto cpuid = GuestCpuidTable::make(kvm, {});
  if (cpuid) cpuid_ = std::move(*cpuid);
}

const vmm_host* ProbeHost::lend(std::size_t size, std::byte beyond) {
  vmm_host given = table;
  given.struct_size = static_cast<uint32_t>(size);
  // a table that ends inside a member is lent with that member's room: it must not be read anyway
  constexpr std::size_t kAlign = alignof(vmm_host);
  lent_.push_back(
      std::make_unique<Guarded<vmm_host>>(given, (size + kAlign - 1) / kAlign * kAlign, beyond));
  return lent_.back()->get();
}

void ProbeHost::end() noexcept {
  ended_ = true;
  for (const auto& lent : lent_) lent->close();
}

void* ProbeHost::new_handle(const Machine& vm, Vm* kvm_vm, Vcpu* kvm_vcpu) {
  const uint32_t at = next_handle_++ % kHandles;
  Handle& handle = handles_[at];
  handle.vm = &vm;
  handle.kvm_vm = kvm_vm;
  handle.kvm_vcpu = kvm_vcpu;
  handle.valid = true;
  return handle_space_.data() + at;
}

std::unique_ptr<Machine> ProbeHost::make_vm(uint32_t max_vcpus) {
  if (handles_.empty()) handles_ = std::vector<Handle>(kHandles);
  auto vm = std::make_unique<Machine>();
  if (kvm_ != nullptr) {
    auto made = kvm_->create_vm();
    if (!made) return nullptr;
    vm->kvm = std::move(*made);
  }
  vm->max_vcpus = max_vcpus;
  vm->vcpus.resize(max_vcpus);
  vm->handle = static_cast<vmm_vm_handle>(new_handle(*vm, vm->kvm.get(), nullptr));
  return vm;
}

vmm_vcpu_handle ProbeHost::vcpu_handle(Machine& vm, uint32_t index) {
  if (kvm_ != nullptr && vm.vcpus[index] == nullptr) {
    auto made = vm.kvm->create_vcpu(index);
    if (!made || (cpuid_ && cpuid_->apply(**made) < 0)) return nullptr;
    vm.vcpus[index] = std::move(*made);
  }
  return static_cast<vmm_vcpu_handle>(new_handle(vm, vm.kvm.get(), vm.vcpus[index].get()));
}

void ProbeHost::drop(vmm_vm_handle handle) noexcept { find(handle)->valid = false; }
void ProbeHost::drop(vmm_vcpu_handle handle) noexcept { find(handle)->valid = false; }

bool is_utf8(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80                    ? 1
                               : lead >= 0xc2 && lead < 0xe0  ? 2
                               : (lead & 0xf0u) == 0xe0u      ? 3
                               : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                              : 0;
    if (length == 0 || text.size() - i < length) return false;
    for (std::size_t k = 1; k < length; ++k)
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0u) != 0x80u) return false;
    const unsigned second = length > 1 ? static_cast<unsigned char>(text[i + 1]) : 0u;
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
        (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
      return false;
    i += length;
  }
  return true;
}

}  // namespace host_stub::validate
