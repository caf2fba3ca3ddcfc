// SPDX-License-Identifier: MIT
//
// A hostile host against the plugin: its table, its structs of odd sizes, its order of calls, and
// what its callbacks return, on a model KVM that refuses, stops short, is interrupted or lies. What
// is demanded: no crash and nothing read or written outside what was lent (each struct lies in
// memory of exactly its size); results of 0 or less; and a reset that returned 0 has left the
// model's registers as RESET does, unless KVM swore that they are not there.
#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "input.hpp"
#include "model_kvm.hpp"
#include "require.hpp"
#include "support/refusals.hpp"
#include "target.hpp"

namespace {

using namespace fuzz;

// ---- structs of any size -----------------------------------------------------------------------

/// A struct of the ABI in memory of exactly the size that it says: shorter, or longer than ours,
/// what follows being filled with ones.
template <typename T>
class Sized {
 public:
  Sized(T value, uint32_t size) : size_(size), memory_(new std::byte[std::max<uint32_t>(size, 4)]) {
    value.struct_size = size;
    std::fill_n(memory_.get(), std::max<uint32_t>(size, 4), std::byte{0xff});
    std::memcpy(memory_.get(), &value,
                std::min<std::size_t>(std::max<uint32_t>(size, 4), sizeof value));
  }
  T* get() { return reinterpret_cast<T*>(memory_.get()); }
  /// All of ABI 1.0 is there.
  bool whole() const { return size_ >= sizeof(T); }

 private:
  uint32_t size_;
  std::unique_ptr<std::byte[]> memory_;
};

/// Mostly the right size, else a smaller, a larger or no size at all.
template <typename T>
uint32_t any_size(Input& in) {
  const uint8_t choice = in.byte();
  if (choice < 200) return sizeof(T);
  if (choice < 240) return static_cast<uint32_t>(choice * sizeof(T) / 240);
  return static_cast<uint32_t>(sizeof(T) + choice - 240u);
}

/// An error buffer of some capacity, or none; checks what was written.
class ErrorBuffer {
 public:
  explicit ErrorBuffer(Input& in)
      : capacity_(1 + in.byte() * 3u),
        none_(in.byte() > 240),
        text_(capacity_ + 1, '\x5a'),
        error_({0, capacity_, (text_[0] = '\0', text_.data())}, any_size<vmm_error>(in)) {}
  vmm_error* get() { return none_ ? nullptr : error_.get(); }

  void check(int32_t result) const {
    FUZZ_REQUIRE(result <= 0, std::to_string(result));
    FUZZ_REQUIRE(text_.back() == '\x5a', "written behind the buffer");
    const std::string said(text_, 0, text_.find('\0'));
    FUZZ_REQUIRE(said.size() < capacity_, "the text does not end in the buffer");
    FUZZ_REQUIRE(is_line_of_utf8(said), said);
    const bool usable = !none_ && error_.whole();
    FUZZ_REQUIRE(said.empty() || (usable && result < 0), said);
    FUZZ_REQUIRE(!said.empty() || !usable || result == 0 || capacity_ == 1,
                 "an error without text");
  }

 private:
  uint32_t capacity_;
  bool none_;
  std::string text_;
  Sized<vmm_error> error_;
};

// ---- the host ----------------------------------------------------------------------------------

/// One VM of the model, and what is known of it from outside.
struct Machine {
  std::vector<std::unique_ptr<ModelVcpu>> vcpus;
  void* vm_ctx = nullptr;
  bool off = false;       ///< KVM_PMU_CAP_DISABLE was accepted
  bool filtered = false;  ///< the guest's accesses are denied
  Refusals refusals;
};

constexpr int32_t kErrors[] = {-EBADF, -EIO,   -EINVAL, -EFAULT, -ENOTTY,
                               -E2BIG, -EPERM, -ENOMEM, -1000,   INT32_MIN};

/// One instance of the plugin, its host and the host's VMs.
struct World {
  explicit World(Input& input) : in(input) {
    kernel.pmu_capability = static_cast<int32_t>(in.below(2));
    kernel.disable_quirks2 = static_cast<int32_t>(in.below(3));
    kernel.msr_filter = static_cast<int32_t>(in.below(2));
    kernel.pmu_enabled = kernel.pmu_capability != 0 || kernel.disable_quirks2 == 0;
    kernel.serves_all = in.below(4) == 3;
    kernel.leaf_limits = in.flag();
    kernel.zero_waiver = in.flag();
    kernel.swallows_k7 = in.byte() < 224;
    guest = any_guest();
    make_options();
    make_table();
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  void run() {
    while (!in.empty()) step();
    while (!machines.empty()) destroy_vm(0);
    destroy();
  }

  enum class Cpuid : uint8_t { right, unknown, wrong };
  struct Wishes {
    bool off = false, strict = false, verify = false;
    uint32_t log_level = VMM_LOG_WARNING;
  };

  GuestPmu any_guest() {
    GuestPmu pmu;
    const uint8_t bits = in.byte();
    pmu.amd = (bits & 0xf0) != 0xf0;
    pmu.core = (bits & 1) == 0;
    pmu.v2 = (bits & 2) != 0;
    pmu.n = std::min<uint32_t>(bits >> 2 & 7, pmu.counters());
    return pmu;
  }

  void make_options() {
    const uint8_t bits = in.byte();
    static constexpr const char* kMethods[] = {"auto", "cap", "msr-filter"};
    static constexpr const char* kLevels[] = {"error", "warning", "info", "debug"};
    static constexpr uint32_t kLevelValues[] = {VMM_LOG_ERROR, VMM_LOG_WARNING, VMM_LOG_INFO,
                                                VMM_LOG_DEBUG};
    const uint32_t level = bits >> 3 & 3;
    wishes = {(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, kLevelValues[level]};
    options = std::string("pmu-cap-disabled=") + (wishes.off ? "on" : "off") +
              ",pmu-off-method=" + in.one_of(kMethods) + ",strict=" + (wishes.strict ? "1" : "0") +
              ",verify=" + (wishes.verify ? "yes" : "no") + ",log-level=" + kLevels[level];
  }

  void make_table() {
    vmm_host table{};
    table.abi_major = in.byte() > 250 ? 2 : VMM_PLUGIN_ABI_MAJOR;
    table.abi_minor = in.byte();
    table.host_ctx = this;
    table.name = "fuzz";
    table.register_hooks = register_hooks;
    table.vm_ioctl = vm_ioctl;
    table.vcpu_ioctl = vcpu_ioctl;
    table.log = log;
    table.get_cpuid = in.flag() ? nullptr : get_cpuid;
    table.deny_msrs = in.flag() ? deny_msrs : nullptr;
    const uint8_t hole = in.byte();
    if (hole == 251) table.name = nullptr;
    if (hole == 252) table.register_hooks = nullptr;
    if (hole == 253) table.vm_ioctl = nullptr;
    if (hole == 254) table.vcpu_ioctl = nullptr;
    if (hole == 255) table.log = nullptr;
    const uint32_t size = any_size<vmm_host>(in);
    table_fits = table.abi_major == VMM_PLUGIN_ABI_MAJOR && hole < 251 &&
                 size >= offsetof(vmm_host, get_cpuid);
    // a callback counts only if all of its pointer is inside
    const auto holds = [&](std::size_t offset) { return size >= offset + sizeof(void*); };
    has_cpuid = table.get_cpuid != nullptr && holds(offsetof(vmm_host, get_cpuid));
    has_filter = table.deny_msrs != nullptr && holds(offsetof(vmm_host, deny_msrs));
    host_table = std::make_unique<Sized<vmm_host>>(table, size);
  }

  // ---- calls of the plugin, each with the world open to it

  template <typename Call>
  auto inside_plugin(Call call) {
    kvm_lied = false;
    warnings = vm_ioctls = msr_writes = 0;
    inside = true;
    const auto result = call();
    inside = false;
    return result;
  }

  void create() {
    if (created) return;
    ErrorBuffer error(in);
    int untouched = 0;
    void* ctx = &untouched;
    hooks = {};
    registered = 0;
    const uint8_t how = in.byte();
    const bool no_table = how == 255, no_ctx = how == 254;
    const char* text = how == 253 ? nullptr : how == 252 ? "verify=perhaps" : options.c_str();
    now = how == 253 ? Wishes{} : wishes;
    in_create = true;
    const int32_t result = inside_plugin([&] {
      return vmm_plugin_v1()->create(no_table ? nullptr : host_table->get(), text,
                                     no_ctx ? nullptr : &ctx, error.get());
    });
    in_create = false;
    error.check(result);
    const bool fit = table_fits && !no_table && !no_ctx && how != 252 && registration == 0;
    FUZZ_REQUIRE((result == 0) == fit, std::to_string(result));
    if (result != 0) {
      FUZZ_REQUIRE(ctx == &untouched, "create failed and wrote *ctx");
      FUZZ_REQUIRE(registered == 0 || registration != 0, "registered and failed");
      if (registered != 0)
        FUZZ_REQUIRE(result == (registration < 0 ? registration : -EPROTO), std::to_string(result));
      return;
    }
    FUZZ_REQUIRE(registered == 1 && ctx == plugin_ctx, "");
    created = true;
  }

  void destroy() {
    if (!created || !machines.empty()) return;
    inside = true;
    vmm_plugin_v1()->destroy(plugin_ctx);
    inside = false;
    created = false;
  }

  void create_vm() {
    if (!created || machines.size() >= 3) return;
    auto machine = std::make_unique<Machine>();
    const uint32_t vcpus = 1 + in.below(4);
    vmm_vm vm{0, vcpus, reinterpret_cast<vmm_vm_handle>(machine.get())};
    const uint8_t how = in.byte();
    if (how == 255) vm.handle = nullptr;
    if (how == 254) vm.max_vcpus = 0;
    if (how == 253) vm.max_vcpus = UINT32_MAX;
    Sized<vmm_vm> sized(vm, any_size<vmm_vm>(in));
    ErrorBuffer error(in);
    void* vm_ctx = nullptr;
    current = machine.get();
    const int32_t result = inside_plugin([&] {
      return hooks.vm_created(plugin_ctx, how == 252 ? nullptr : sized.get(),
                              how == 251 ? nullptr : &vm_ctx, error.get());
    });
    error.check(result);
    if (how >= 251 || !sized.whole()) FUZZ_REQUIRE(result == -EINVAL, std::to_string(result));
    if (!now.off) FUZZ_REQUIRE(vm_ioctls == 0, "an ioctl without a wish");
    if (result != 0) {
      FUZZ_REQUIRE(vm_ctx == nullptr, "vm_created failed and wrote *vm_ctx");
      return;
    }
    FUZZ_REQUIRE(vm_ctx != nullptr, "");
    if (now.off && !kvm_lied) {
      const bool gone = machine->off || machine->filtered || !kernel.pmu_enabled;
      FUZZ_REQUIRE(gone || !now.strict, "strict, and the guest keeps its vPMU");
      FUZZ_REQUIRE(gone || warnings > 0 || now.log_level < VMM_LOG_WARNING,
                   "not off, and not said");
    }
    if (machine->off) FUZZ_REQUIRE(now.off, "off without a wish");
    machine->vm_ctx = vm_ctx;
    for (uint32_t i = 0; i < vcpus; ++i) {
      // vCPUs that differ are told apart by their CPUID alone
      const GuestPmu own =
          cpuid == Cpuid::right && has_cpuid && in.byte() > 200 ? any_guest() : guest;
      machine->vcpus.push_back(std::make_unique<ModelVcpu>(kernel, own, machine->off));
      uniform = uniform && own == guest;
    }
    machines.push_back(std::move(machine));
  }

  void destroy_vm(std::size_t which) {
    inside = true;
    hooks.vm_destroyed(plugin_ctx, machines[which]->vm_ctx);
    inside = false;
    machines.erase(machines.begin() + static_cast<std::ptrdiff_t>(which));
  }

  // ---- vcpu_reset

  struct Batch {
    int32_t answer = 0;
    std::vector<vmm_msr> entries;
    int calls = 0;
  };
  static int32_t batch_add(void* self, const vmm_msr* msrs, uint32_t count) {
    auto& batch = *static_cast<Batch*>(self);
    ++batch.calls;
    FUZZ_REQUIRE(msrs != nullptr && count > 0, "an empty add");
    for (uint32_t i = 0; i < count; ++i) FUZZ_REQUIRE(msrs[i].flags == 0, "flags in a reset batch");
    if (batch.answer == 0) batch.entries.insert(batch.entries.end(), msrs, msrs + count);
    return batch.answer;
  }

  void reset() {
    if (machines.empty()) return;
    Machine& machine = *machines[in.below(static_cast<uint32_t>(machines.size()))];
    current = &machine;
    const uint32_t index = in.below(static_cast<uint32_t>(machine.vcpus.size()));
    ModelVcpu& vcpu = *machine.vcpus[index];
    if (in.flag()) vcpu.dirty();

    Batch batch;
    vmm_msr_sink sink{0, 0, &batch, batch_add};
    const uint8_t lent = in.byte();  // up to 127: no batch
    static constexpr int32_t kAddErrors[] = {-ENOSPC, -EINVAL, -EEXIST, 7, INT32_MIN};
    if (lent > 220) batch.answer = in.one_of(kAddErrors);
    if (lent == 220) sink.add = nullptr;
    Sized<vmm_msr_sink> sized_sink(sink, any_size<vmm_msr_sink>(in));

    vmm_vcpu call{0,
                  index,
                  0,
                  0,
                  reinterpret_cast<vmm_vcpu_handle>(&vcpu),
                  lent > 127 ? sized_sink.get() : nullptr};
    const uint8_t how = in.byte();
    if (how == 255) call.index = static_cast<uint32_t>(machine.vcpus.size()) + in.byte();
    if (how == 254) call.handle = nullptr;
    if (how == 251) call.index = UINT32_MAX;
    Sized<vmm_vcpu> sized(call, any_size<vmm_vcpu>(in));
    const int32_t result = inside_plugin([&] {
      return hooks.vcpu_reset(plugin_ctx, how == 252 ? nullptr : machine.vm_ctx,
                              how == 253 ? nullptr : sized.get());
    });
    FUZZ_REQUIRE(result <= 0, std::to_string(result));
    if (how >= 251 || !sized.whole()) {
      FUZZ_REQUIRE(result == -EINVAL && msr_writes == 0 && batch.calls == 0,
                   std::to_string(result));
      return;
    }
    check_reset(machine, vcpu, batch, result);
  }

  void check_reset(Machine& machine, ModelVcpu& vcpu, const Batch& batch, int32_t result) const {
    if (!batch.entries.empty()) {
      FUZZ_REQUIRE(result == 0 && msr_writes == 0, "in the batch, and yet by itself");
      for (const vmm_msr& entry : batch.entries) vcpu.write(entry.index, entry.value);
    }
    if (result == 0 && batch.calls > 0 && batch.answer != 0 && vcpu.has_counter(0))
      FUZZ_REQUIRE(msr_writes > 0 || !machine.refusals.sworn().empty(), "nothing was done");
    machine.refusals.end_of_reset();
    if (result != 0 || cpuid == Cpuid::wrong || was_wrong) return;
    // a host that calls a guest of AMD's another's, or knows no CPUID of a mixed VM, is not served
    std::array<bool, 6> ignored{};
    for (const uint32_t msr : machine.refusals.sworn())
      if (const auto number = ModelVcpu::counter_of(msr)) ignored[*number] = true;
    if (kvm_lied) {
      FUZZ_REQUIRE(!now.verify || !vcpu.any_enabled(ignored), "verified, and yet enabled");
      return;
    }
    const char* wrong = vcpu.not_reset(ignored, machine.refusals.sworn().contains(ModelVcpu::kCtl),
                                       machine.refusals.sworn().contains(ModelVcpu::kStatus));
    FUZZ_REQUIRE(*wrong == '\0', wrong);
  }

  // ---- msr_list_build

  struct List {
    int32_t answer = 0;
    std::vector<vmm_msr> entries;
  };
  static int32_t list_add(void* self, const vmm_msr* msrs, uint32_t count) {
    auto& list = *static_cast<List*>(self);
    FUZZ_REQUIRE(msrs != nullptr && count > 0, "an empty add");
    if (list.answer == 0) list.entries.insert(list.entries.end(), msrs, msrs + count);
    return list.answer;
  }

  void build_list() {
    if (machines.empty()) return;
    Machine& machine = *machines[in.below(static_cast<uint32_t>(machines.size()))];
    current = &machine;
    List list;
    vmm_msr_sink sink{0, 0, &list, list_add};
    const uint8_t how = in.byte();
    static constexpr int32_t kAddErrors[] = {-ENOSPC, -EEXIST, 3};
    if (how > 200) list.answer = in.one_of(kAddErrors);
    if (how == 200) sink.add = nullptr;
    Sized<vmm_msr_sink> sized(sink, any_size<vmm_msr_sink>(in));
    const vmm_vm vm{sizeof(vmm_vm), static_cast<uint32_t>(machine.vcpus.size()),
                    reinterpret_cast<vmm_vm_handle>(&machine)};
    ErrorBuffer error(in);
    const bool no_ctx = how == 199, no_sink = how == 198;
    const int32_t result = inside_plugin([&] {
      return hooks.msr_list_build(plugin_ctx, no_ctx ? nullptr : machine.vm_ctx, &vm,
                                  no_sink ? nullptr : sized.get(), error.get());
    });
    error.check(result);
    if (no_ctx || no_sink || how == 200 || !sized.whole()) {
      FUZZ_REQUIRE(result == -EINVAL && list.entries.empty(), std::to_string(result));
      return;
    }
    FUZZ_REQUIRE(result == 0 || list.answer != 0, std::to_string(result));
    if (result != 0) return;
    check_list(machine, list.entries);
  }

  void check_list(const Machine& machine, const std::vector<vmm_msr>& list) const {
    std::set<uint32_t> saved;
    for (const vmm_msr& entry : list) {
      FUZZ_REQUIRE((entry.flags & ~(VMM_MSR_SAVED | VMM_MSR_REQUIRED)) == 0, "unknown flags");
      FUZZ_REQUIRE((entry.flags & VMM_MSR_SAVED) != 0 || entry.flags == 0, "REQUIRED alone");
      if ((entry.flags & VMM_MSR_SAVED) == 0) continue;
      FUZZ_REQUIRE(saved.insert(entry.index).second, "saved twice");
      FUZZ_REQUIRE(((entry.flags & VMM_MSR_REQUIRED) != 0) == now.strict, "REQUIRED");
    }
    if (machine.off || cpuid == Cpuid::wrong || !uniform) return;
    const ModelVcpu& vcpu = *machine.vcpus.front();
    for (uint32_t i = 0; i < vcpu.guest().counters(); ++i) {
      if (!vcpu.has_counter(i)) continue;
      const bool k7 = i < 4 && saved.contains(0xc0010000 + i) && saved.contains(0xc0010004 + i);
      const bool f15h = saved.contains(0xc0010200 + 2 * i) && saved.contains(0xc0010201 + 2 * i);
      FUZZ_REQUIRE(k7 || f15h, "a live counter is not saved");
    }
    if (vcpu.has_global())
      FUZZ_REQUIRE(saved.contains(ModelVcpu::kCtl) && saved.contains(ModelVcpu::kStatus), "global");
  }

  void step() {
    switch (in.below(8)) {
      case 0:
      case 1:
        return reset();
      case 2:
        return create_vm();
      case 3:
        return build_list();
      case 4:
        if (!machines.empty()) destroy_vm(in.below(static_cast<uint32_t>(machines.size())));
        return;
      case 5:
        return create();
      case 6:
        return destroy();
      default: {
        static constexpr Cpuid kCpuid[] = {Cpuid::right, Cpuid::unknown, Cpuid::right,
                                           Cpuid::wrong};
        // a host may learn a CPUID; it does not forget one of a VM whose vCPUs differ
        const Cpuid next = in.one_of(kCpuid);
        if (next == Cpuid::unknown && !uniform) return;
        cpuid = next;
        was_wrong = was_wrong || next == Cpuid::wrong;
      }
    }
  }

  // ---- the host's callbacks

  static World& self(void* ctx) {
    World& world = *static_cast<World*>(ctx);
    FUZZ_REQUIRE(world.inside, "a callback outside of any call");
    return world;
  }

  static int32_t register_hooks(void* ctx, const vmm_hooks* given, void* plugin_ctx) {
    World& me = self(ctx);
    FUZZ_REQUIRE(me.in_create, "register_hooks outside of create");
    FUZZ_REQUIRE(given != nullptr && given->struct_size == sizeof *given && given->reserved == 0,
                 "");
    ++me.registered;
    me.registration = me.in.byte();
    me.registration = me.registration < 240 ? 0 : me.registration == 255 ? 5 : -EALREADY;
    if (me.registration == 0) {
      me.hooks = *given;
      me.plugin_ctx = plugin_ctx;
    }
    return me.registration;
  }

  /// A failure instead of the answer, as the input has it.
  std::optional<int32_t> failure() {
    if (storm > 0) {
      --storm;
      return -EINTR;
    }
    const uint8_t fault = in.byte();
    if (fault < 208) return std::nullopt;
    if (fault == 255) storm = 2000;
    if (fault >= 240) return -EINTR;
    return in.one_of(kErrors);
  }

  static int32_t vm_ioctl(void* ctx, vmm_vm_handle vm, uint32_t request, void* arg) {
    World& me = self(ctx);
    FUZZ_REQUIRE(reinterpret_cast<Machine*>(vm) == me.current, "another VM's handle");
    ++me.vm_ioctls;
    if (const auto failed = me.failure()) return *failed;
    Machine& machine = *me.current;
    switch (request) {
      case KVM_CHECK_EXTENSION: {
        if (me.in.byte() > 250) {
          me.kvm_lied = true;
          return static_cast<int32_t>(me.in.word() & 0x7fffffff);
        }
        const auto capability = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(arg));
        if (capability == KVM_CAP_PMU_CAPABILITY) return me.kernel.pmu_capability;
        if (capability == KVM_CAP_DISABLE_QUIRKS2) return me.kernel.disable_quirks2;
        if (capability == KVM_CAP_X86_MSR_FILTER) return me.kernel.msr_filter;
        return 0;
      }
      case KVM_ENABLE_CAP: {
        const auto& cap = *static_cast<const kvm_enable_cap*>(arg);
        FUZZ_REQUIRE(cap.cap == KVM_CAP_PMU_CAPABILITY && cap.args[0] == KVM_PMU_CAP_DISABLE, "");
        if (me.kernel.pmu_capability == 0) return -EINVAL;
        machine.off = true;
        return 0;
      }
      case KVM_X86_SET_MSR_FILTER: {
        FUZZ_REQUIRE(!me.has_filter, "a filter of its own behind the host's back");
        const auto& filter = *static_cast<const kvm_msr_filter*>(arg);
        FUZZ_REQUIRE(filter.flags == KVM_MSR_FILTER_DEFAULT_ALLOW, "");
        if (me.kernel.msr_filter == 0) return -ENOTTY;
        std::set<uint32_t> denied;
        for (const kvm_msr_filter_range& range : filter.ranges)
          for (uint32_t i = 0; i < range.nmsrs; ++i)
            if ((range.bitmap[i / 8] >> i % 8 & 1) == 0) denied.insert(range.base + i);
        check_denied(denied);
        machine.filtered = true;
        return 0;
      }
      default:
        FUZZ_REQUIRE(false, "an ioctl that it has no use for");
        return -ENOTTY;
    }
  }

  static int32_t deny_msrs(void* ctx, vmm_vm_handle vm, const vmm_msr_range* ranges,
                           uint32_t count) {
    World& me = self(ctx);
    FUZZ_REQUIRE(reinterpret_cast<Machine*>(vm) == me.current, "another VM's handle");
    ++me.vm_ioctls;
    const uint8_t fault = me.in.byte();
    if (fault > 240) return fault == 255 ? 4 : fault == 254 ? INT32_MIN : -ENOSPC;
    if (me.kernel.msr_filter == 0) return -EOPNOTSUPP;
    std::set<uint32_t> denied;
    for (uint32_t i = 0; i < count; ++i)
      for (uint32_t k = 0; k < ranges[i].count; ++k) denied.insert(ranges[i].base + k);
    check_denied(denied);
    me.current->filtered = true;
    return 0;
  }

  static void check_denied(const std::set<uint32_t>& denied) {
    std::set<uint32_t> pmu;
    for (uint32_t i = 0; i < 8; ++i) pmu.insert(0xc0010000 + i);
    for (uint32_t i = 0; i < 12; ++i) pmu.insert(0xc0010200 + i);
    for (uint32_t i = 0; i < 4; ++i) pmu.insert(0xc0000300 + i);
    FUZZ_REQUIRE(denied == pmu, "the filter denies something else than the PMU");
  }

  static int32_t vcpu_ioctl(void* ctx, vmm_vcpu_handle handle, uint32_t request, void* arg) {
    World& me = self(ctx);
    ModelVcpu* vcpu = nullptr;
    for (const auto& own : me.current->vcpus)
      if (own.get() == reinterpret_cast<ModelVcpu*>(handle)) vcpu = own.get();
    FUZZ_REQUIRE(vcpu != nullptr, "another VM's vCPU");
    const bool write = request == VMM_KVM_SET_MSRS;
    FUZZ_REQUIRE(write || request == VMM_KVM_GET_MSRS, "an ioctl that it has no use for");
    auto* header = static_cast<vmm_kvm_msrs_header*>(arg);
    auto* entries = reinterpret_cast<kvm_msr_entry*>(header + 1);
    // a look at a counter, which a VM's first reset may make, is no write of a reset
    const bool look = header->nmsrs == 1 && entries[0].index == 0xc0010004 && entries[0].data == 1;
    me.msr_writes += write && !look ? 1 : 0;
    if (const auto failed = me.failure()) return *failed;

    const uint32_t count = header->nmsrs;
    FUZZ_REQUIRE(count > 0 && count <= VMM_KVM_MAX_MSRS && header->pad == 0, "");
    uint32_t stop_at = count;
    bool swallow = false;
    int32_t too_much = 0;
    switch (const uint8_t fault = me.in.byte(); fault >> 4) {
      case 12:
      case 13:
        stop_at = fault % 16 % count;
        break;
      case 14:
        too_much = 1 + (fault & 15);
        break;
      case 15:
        swallow = write && fault > 250;
        break;
      default:
        break;
    }
    me.kvm_lied = me.kvm_lied || swallow;
    const auto answer = [&](int32_t result) {
      me.current->refusals.saw(write, {entries, count}, result);
      return result;
    };
    for (uint32_t i = 0; i < count; ++i) {
      FUZZ_REQUIRE(entries[i].reserved == 0, "");
      bool taken = i != stop_at;
      if (taken && write && !swallow) taken = vcpu->write(entries[i].index, entries[i].data);
      if (taken && !write) {
        const auto value = vcpu->read(entries[i].index);
        taken = value.has_value();
        if (taken) entries[i].data = *value;
      }
      if (!taken) return answer(static_cast<int32_t>(i));
    }
    return answer(static_cast<int32_t>(count) + too_much);
  }

  static void log(void* ctx, uint32_t level, const char* message, uint64_t length) {
    World& me = self(ctx);
    FUZZ_REQUIRE(message != nullptr && std::strlen(message) == length, "the length of a line");
    FUZZ_REQUIRE(length > 0 && is_line_of_utf8(message), message);
    FUZZ_REQUIRE(level >= VMM_LOG_ERROR && level <= me.now.log_level && level % 100 == 0, message);
    me.warnings += level == VMM_LOG_WARNING ? 1 : 0;
  }

  static int32_t get_cpuid(void* ctx, vmm_vm_handle, vmm_vcpu_handle vcpu, uint32_t leaf,
                           uint32_t subleaf, uint32_t registers[4]) {
    World& me = self(ctx);
    FUZZ_REQUIRE(subleaf == 0 && registers != nullptr, "");
    std::fill_n(registers, 4, 0u);
    if (me.cpuid == Cpuid::unknown) return -ENOENT;
    if (me.cpuid == Cpuid::wrong) {
      for (int i = 0; i < 4; ++i) registers[i] = me.in.word();
      return me.in.byte() > 200 ? static_cast<int32_t>(me.in.word()) : 0;
    }
    const GuestPmu& pmu = vcpu != nullptr ? reinterpret_cast<ModelVcpu*>(vcpu)->guest() : me.guest;
    if (leaf == 0) {
      std::array<char, 13> vendor{};
      std::memcpy(vendor.data(), pmu.amd ? "AuthenticAMD" : "GenuineIntel", 13);
      std::memcpy(&registers[1], &vendor[0], 4);
      std::memcpy(&registers[3], &vendor[4], 4);
      std::memcpy(&registers[2], &vendor[8], 4);
    } else if (leaf == 0x80000001) {
      registers[2] = pmu.core ? 1u << 23 : 0;
    } else if (leaf == 0x80000022) {
      registers[0] = pmu.v2 ? 1 : 0;
      registers[1] = pmu.v2 ? pmu.n : 0;
    }
    return 0;
  }

  Input& in;
  Kernel kernel;
  GuestPmu guest;
  std::string options;
  Wishes wishes;  ///< those of `options`
  Wishes now;     ///< those of the instance
  std::unique_ptr<Sized<vmm_host>> host_table;
  bool table_fits = false, has_cpuid = false, has_filter = false;

  bool created = false, inside = false, in_create = false;
  int registered = 0;
  int32_t registration = 0;
  vmm_hooks hooks{};
  void* plugin_ctx = nullptr;
  std::vector<std::unique_ptr<Machine>> machines;
  Machine* current = nullptr;
  Cpuid cpuid = Cpuid::right;
  bool was_wrong = false;  ///< for good: a plugin may keep what it was told of a vCPU
  bool uniform = true;     ///< all vCPUs have `guest` for their CPUID

  // of the call under way
  bool kvm_lied = false;
  int warnings = 0, vm_ioctls = 0, msr_writes = 0;
  int storm = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  Input in(data, size);
  World world(in);
  world.run();
  return 0;
}
