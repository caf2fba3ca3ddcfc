// SPDX-License-Identifier: MIT
#include "host_kit/plugin_instance.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "host_kit/abi_struct.hpp"

namespace host_kit {
namespace {

constexpr std::size_t kErrorCapacity = 1024;

/// A text buffer to lend to a plugin, with a canary after it.
class ErrorBuffer {
 public:
  ErrorBuffer() noexcept { storage_.back() = kCanary; }
  vmm_error* get() noexcept { return &error_; }
  bool overrun() const noexcept { return storage_.back() != kCanary; }
  std::string text() const {
    const auto* end = std::find(storage_.begin(), storage_.end() - 1, '\0');
    return {storage_.begin(), end};
  }
  bool terminated() const noexcept {
    return std::find(storage_.begin(), storage_.end() - 1, '\0') != storage_.end() - 1;
  }

 private:
  static constexpr char kCanary = 0x5a;
  std::array<char, kErrorCapacity + 1> storage_{};
  vmm_error error_{sizeof(vmm_error), kErrorCapacity, storage_.data()};
};

PluginError make_error(const char* name, const char* function, int32_t code,
                       const ErrorBuffer& buffer) {
  std::string text = buffer.text();
  if (text.empty()) text = std::string(function) + " failed: " + std::strerror(-code);
  return {code, std::string(name) + ": " + text};
}

/// The plugin's vmm_vm_state; nullptr if it has none.
const vmm_vm_state* state_extension(const vmm_plugin& descriptor) noexcept {
  if (descriptor.get_extension == nullptr) return nullptr;
  const auto* state = static_cast<const vmm_vm_state*>(descriptor.get_extension(VMM_VM_STATE_ID));
  constexpr uint32_t kLeast = offsetof(vmm_vm_state, state) + sizeof(vmm_vm_state::state);
  return state != nullptr && state->struct_size >= kLeast && state->state != nullptr ? state
                                                                                     : nullptr;
}

}  // namespace

/// The C side of Host. host_ctx is the PluginInstance.
struct PluginInstance::Thunks {
  static PluginInstance& self(void* ctx) noexcept { return *static_cast<PluginInstance*>(ctx); }

  static int32_t register_hooks(void* ctx, const vmm_hooks* hooks, void* plugin_ctx) noexcept {
    PluginInstance& me = self(ctx);
    if (hooks == nullptr || hooks->struct_size < kHooksSizeV1_0) return -EINVAL;
    if (me.registered_) return -EALREADY;
    if (!me.creating_) {
      me.breach("register_hooks was called outside of create");
      return -EALREADY;
    }
    me.hooks_ = copy_struct(*hooks);
    me.hooks_.struct_size = sizeof me.hooks_;
    me.ctx_ = plugin_ctx;
    me.registered_ = true;
    return 0;
  }
  static int32_t vm_ioctl(void* ctx, vmm_vm_handle vm, uint32_t request, void* arg) noexcept {
    return self(ctx).host_.vm_ioctl(vm, request, arg);
  }
  static int32_t vcpu_ioctl(void* ctx, vmm_vcpu_handle vcpu, uint32_t request, void* arg) noexcept {
    return self(ctx).host_.vcpu_ioctl(vcpu, request, arg);
  }
  static void log(void* ctx, uint32_t level, const char* message, uint64_t length) noexcept {
    if (message == nullptr) return;
    const PluginInstance& me = self(ctx);
    me.host_.log(level, me.name(), {message, static_cast<std::size_t>(length)});
  }
  static int32_t get_cpuid(void* ctx, vmm_vm_handle vm, vmm_vcpu_handle vcpu, uint32_t leaf,
                           uint32_t subleaf, uint32_t* registers) noexcept {
    if (registers == nullptr) return -EINVAL;
    return self(ctx).host_.get_cpuid(vm, vcpu, leaf, subleaf, std::span<uint32_t, 4>(registers, 4));
  }
  static int32_t deny_msrs(void* ctx, vmm_vm_handle vm, const vmm_msr_range* ranges,
                           uint32_t count) noexcept {
    if (ranges == nullptr || count == 0) return -EINVAL;
    return self(ctx).host_.deny_msrs(vm, {ranges, count});
  }
  static int32_t hide_cpuid(void* ctx, vmm_vm_handle vm, const vmm_cpuid_bits* bits,
                            uint32_t count) noexcept {
    if (bits == nullptr || count == 0) return -EINVAL;
    const std::span<const vmm_cpuid_bits> all(bits, count);
    const bool valid = std::all_of(all.begin(), all.end(), [](const vmm_cpuid_bits& one) {
      return one.reg <= VMM_CPUID_EDX && one.mask != 0;
    });
    if (!valid) return -EINVAL;
    return folded(self(ctx).host_.hide_cpuid(vm, all));
  }
  static int32_t get_supported_cpuid(void* ctx, vmm_vm_handle vm, uint32_t leaf, uint32_t subleaf,
                                     uint32_t* out) noexcept {
    if (out == nullptr) return -EINVAL;
    return folded(
        self(ctx).host_.get_supported_cpuid(vm, leaf, subleaf, std::span<uint32_t, 4>(out, 4)));
  }
  static const void* get_extension(void*, const char* id) noexcept {
    if (id == nullptr || std::strcmp(id, VMM_GUEST_PMU_ID) != 0) return nullptr;
    static constexpr vmm_guest_pmu kGuestPmu{sizeof(vmm_guest_pmu), 0, guest_pmu_wanted};
    return &kGuestPmu;
  }
  static uint32_t guest_pmu_wanted(void* ctx, vmm_vm_handle vm) noexcept {
    const uint32_t wanted = self(ctx).host_.guest_pmu_wanted(vm);
    return wanted <= VMM_GUEST_PMU_ON ? wanted : VMM_GUEST_PMU_UNSAID;
  }

  /// What a plugin may get from a function that returns 0 or a negated errno.
  static int32_t folded(int32_t result) noexcept {
    return result <= 0 && result >= -kMaxErrno ? result : -EPROTO;
  }
};

PluginInstance::PluginInstance(const vmm_plugin& descriptor, Host& host, const char* options)
    : descriptor_(descriptor), host_(host), options_(options != nullptr ? options : "") {
  table_.struct_size = sizeof table_;
  table_.abi_major = VMM_PLUGIN_ABI_MAJOR;
  table_.abi_minor = VMM_PLUGIN_ABI_MINOR;
  table_.host_ctx = this;
  table_.name = host.name();
  table_.register_hooks = Thunks::register_hooks;
  table_.vm_ioctl = Thunks::vm_ioctl;
  table_.vcpu_ioctl = Thunks::vcpu_ioctl;
  table_.log = Thunks::log;
  table_.get_cpuid = Thunks::get_cpuid;
  table_.deny_msrs = host.has_msr_filter() ? Thunks::deny_msrs : nullptr;
  table_.get_extension = Thunks::get_extension;
  table_.hide_cpuid = host.has_cpuid_hiding() ? Thunks::hide_cpuid : nullptr;
  table_.get_supported_cpuid = Thunks::get_supported_cpuid;
}

void PluginInstance::breach(std::string_view what) const noexcept {
  std::array<char, 256> line{};
  constexpr std::string_view kPrefix = "breach of the plugin contract: ";
  std::size_t n = kPrefix.copy(line.data(), line.size());
  n += what.copy(line.data() + n, line.size() - n);
  host_.log(VMM_LOG_ERROR, name(), {line.data(), n});
}

int32_t PluginInstance::checked(const char* function, int32_t result) const noexcept {
  if (result <= 0 && result >= -kMaxErrno) return result;
  std::array<char, 128> what{};
  const std::string_view name = function;
  const std::string_view rest =
      result > 0 ? " returned a positive value" : " returned a value that is not an errno";
  std::size_t n = name.substr(0, 64).copy(what.data(), 64);
  n += rest.copy(what.data() + n, rest.size());
  breach({what.data(), n});
  return -EPROTO;
}

tl::expected<std::unique_ptr<PluginInstance>, PluginError> PluginInstance::create(
    const vmm_plugin& descriptor, Host& host, const char* options) {
  std::unique_ptr<PluginInstance> me(new PluginInstance(descriptor, host, options));
  ErrorBuffer error;
  void* ctx = nullptr;
  me->creating_ = true;
  const int32_t result = me->checked(
      "create", descriptor.create(&me->table_, me->options_.c_str(), &ctx, error.get()));
  me->creating_ = false;
  if (error.overrun() || !error.terminated()) me->breach("create overran the error buffer");
  if (result < 0) return tl::unexpected(make_error(me->name(), "create", result, error));
  me->created_ = true;  // from here on destroy is due
  if (!me->registered_) {
    me->breach("create returned 0 without register_hooks");
    me->ctx_ = ctx;  // for destroy
    return tl::unexpected(PluginError{
        -EPROTO, std::string(me->name()) + ": create returned 0 without registering hooks"});
  }
  if (ctx != me->ctx_) me->breach("create and register_hooks disagree on ctx");
  me->state_ = state_extension(descriptor);
  return me;
}

PluginInstance::~PluginInstance() {
  if (created_) descriptor_.destroy(ctx_);
}

PluginVm::PluginVm(PluginInstance& instance, vmm_vm_handle vm, uint32_t max_vcpus)
    : instance_(instance), vm_{sizeof(vmm_vm), max_vcpus, vm} {}

tl::expected<std::unique_ptr<PluginVm>, PluginError> PluginVm::created(PluginInstance& instance,
                                                                       vmm_vm_handle vm,
                                                                       uint32_t max_vcpus) {
  std::unique_ptr<PluginVm> me(new PluginVm(instance, vm, max_vcpus));
  if (instance.hooks_.vm_created == nullptr) return me;
  ErrorBuffer error;
  void* vm_ctx = nullptr;
  const int32_t result = instance.checked(
      "vm_created", instance.hooks_.vm_created(instance.ctx_, &me->vm_, &vm_ctx, error.get()));
  if (error.overrun() || !error.terminated())
    instance.breach("vm_created overran the error buffer");
  if (result == 0) {
    me->vm_ctx_ = vm_ctx;
    return me;
  }
  PluginError why = make_error(instance.name(), "vm_created", result, error);
  me->vm_.handle = nullptr;  // no vm_destroyed for what never was
  return tl::unexpected(std::move(why));
}

PluginVm::~PluginVm() {
  if (vm_.handle != nullptr && instance_.hooks_.vm_destroyed != nullptr)
    instance_.hooks_.vm_destroyed(instance_.ctx_, vm_ctx_);
}

namespace {

/// What collects a list and checks it against the rules of VMM_MSR_*.
struct ListSink {
  std::vector<vmm_msr> list;

  static constexpr std::size_t kMaxEntries = 4096;

  bool saved(uint32_t index) const {
    return std::any_of(list.begin(), list.end(), [&](const vmm_msr& entry) {
      return entry.index == index && (entry.flags & VMM_MSR_SAVED) != 0;
    });
  }

  int32_t add(std::span<const vmm_msr> entries) {
    if (list.size() + entries.size() > kMaxEntries) return -ENOSPC;
    const std::size_t before = list.size();
    for (const vmm_msr& entry : entries) {
      const bool is_saved = (entry.flags & VMM_MSR_SAVED) != 0;
      int32_t wrong = 0;
      if ((entry.flags & ~(VMM_MSR_SAVED | VMM_MSR_REQUIRED)) != 0 ||
          (entry.flags == VMM_MSR_REQUIRED))
        wrong = -EINVAL;
      else if (is_saved && saved(entry.index))
        wrong = -EEXIST;
      if (wrong != 0) {
        list.resize(before);
        return wrong;
      }
      list.push_back(entry);
    }
    return 0;
  }

  static int32_t thunk(void* self, const vmm_msr* msrs, uint32_t count) noexcept {
    if (msrs == nullptr || count == 0) return -EINVAL;
    try {
      return static_cast<ListSink*>(self)->add({msrs, count});
    } catch (const std::bad_alloc&) {
      return -ENOMEM;
    }
  }
};

}  // namespace

tl::expected<std::vector<vmm_msr>, PluginError> PluginVm::msr_list() const {
  const vmm_hooks& hooks = instance_.hooks_;
  if (hooks.msr_list_build == nullptr) return {};
  ListSink collected;
  const vmm_msr_sink sink{sizeof(vmm_msr_sink), 0, &collected, ListSink::thunk};
  ErrorBuffer error;
  const int32_t result = instance_.checked(
      "msr_list_build", hooks.msr_list_build(instance_.ctx_, vm_ctx_, &vm_, &sink, error.get()));
  if (error.overrun() || !error.terminated())
    instance_.breach("msr_list_build overran the error buffer");
  if (result < 0)
    return tl::unexpected(make_error(instance_.name(), "msr_list_build", result, error));
  return std::move(collected.list);
}

int32_t PluginVm::vcpu_reset(uint32_t index, vmm_vcpu_handle vcpu,
                             const vmm_msr_sink* batch) const noexcept {
  const vmm_hooks& hooks = instance_.hooks_;
  if (hooks.vcpu_reset == nullptr) return 0;
  const vmm_vcpu context{sizeof(vmm_vcpu), index, 0, 0, vcpu, batch};
  return instance_.checked("vcpu_reset", hooks.vcpu_reset(instance_.ctx_, vm_ctx_, &context));
}

const char* PluginVm::state() const noexcept {
  if (instance_.state_ == nullptr) return "";
  const char* word = instance_.state_->state(instance_.ctx_, vm_ctx_);
  return word != nullptr ? word : "";
}

}  // namespace host_kit
