// SPDX-License-Identifier: MIT
//
// The C face of host_kit: vmm/host.h. Exceptions end here.
#include <dlfcn.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <vmm/host.h>
#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "host_kit/abi_struct.hpp"
#include "host_kit/cpuid_table.hpp"
#include "host_kit/hidden_cpuid.hpp"
#include "host_kit/host.hpp"
#include "host_kit/msr_filter.hpp"
#include "host_kit/msr_state.hpp"
#include "host_kit/plugin_set.hpp"
#include "host_kit/state_buffer.hpp"

namespace {

using namespace host_kit;

constexpr uint32_t kMaxVcpus = uint32_t{1} << 20;
constexpr uint32_t kKnownFlags = VMM_HOST_MERGES_MSR_FILTER | VMM_HOST_EDITS_CPUID |
                                 VMM_HOST_ENDS_AT_EXIT | VMM_HOST_REQUIRES_STATE;

int32_t system_ioctl(void*, int32_t fd, uint32_t request, void* arg) {
  const int result = ::ioctl(fd, static_cast<unsigned long>(request), arg);
  return result < 0 ? -errno : result;
}

void print_log(void*, uint32_t level, const char* source, const char* message) {
  if (level < VMM_LOG_INFO)
    std::fprintf(stderr, "%s: %s: %s\n", source, log_level_name(level).data(), message);
}

/// One line into the caller's buffer, cut between UTF-8 characters; returns `code`.
int32_t report(vmm_error* out, int32_t code, std::string_view text) noexcept {
  if (out == nullptr || out->struct_size < sizeof(vmm_error) || out->message == nullptr ||
      out->capacity == 0)
    return code;
  std::size_t size = std::min<std::size_t>(text.size(), out->capacity - 1);
  const auto continues = [&](std::size_t at) {
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0u) == 0x80u;
  };
  while (size > 0 && continues(size)) --size;
  out->message[text.copy(out->message, size)] = '\0';
  return code;
}

/// Calls a body that may throw.
template <typename Body>
int32_t guarded(vmm_error* error, Body body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return report(error, -ENOMEM, "out of memory");
  } catch (const std::exception& exception) {
    return report(error, -EIO, exception.what());
  }
}

/// Plugins lie in vmm/plugins beside this library, wherever it was moved to, or where it was
/// configured for. Linked into a program there is no file of the library's: the name that the
/// loader has for a program is whatever its caller said.
std::vector<std::string> plugin_folders() {
  std::vector<std::string> folders;
#ifdef VMM_HOST_SHARED
  static const char here = 0;
  Dl_info info{};
  std::array<char, PATH_MAX> path{};
  if (dladdr(&here, &info) != 0 && realpath(info.dli_fname, path.data()) != nullptr) {
    const std::string file = path.data();
    folders.push_back(file.substr(0, file.find_last_of('/')) + "/vmm/plugins");
  }
#endif
  folders.emplace_back(VMM_PLUGIN_FOLDER);
  return folders;
}

}  // namespace

struct vmm_host_plugins final : host_kit::Host {
  explicit vmm_host_plugins(const vmm_host_config& config)
      : name_(config.name),
        flags_(config.flags),
        ctx_(config.ctx),
        log_(config.log != nullptr ? config.log : print_log),
        ioctl_(config.ioctl != nullptr ? config.ioctl : system_ioctl) {}

  const char* name() const noexcept override { return name_.c_str(); }
  int32_t vm_ioctl(vmm_vm_handle vm, uint32_t request, void* arg) noexcept override;
  int32_t vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) noexcept override;
  void log(uint32_t level, std::string_view source, std::string_view message) noexcept override;
  int32_t get_cpuid(vmm_vm_handle handle, vmm_vcpu_handle vcpu, uint32_t leaf, uint32_t subleaf,
                    std::span<uint32_t, 4> registers) noexcept override;
  bool has_msr_filter() const noexcept override {
    return (flags_ & VMM_HOST_MERGES_MSR_FILTER) != 0;
  }
  int32_t deny_msrs(vmm_vm_handle handle, std::span<const vmm_msr_range> ranges) noexcept override;
  bool has_cpuid_hiding() const noexcept override { return (flags_ & VMM_HOST_EDITS_CPUID) != 0; }
  int32_t hide_cpuid(vmm_vm_handle handle, std::span<const vmm_cpuid_bits> bits) noexcept override;
  int32_t get_supported_cpuid(vmm_vm_handle handle, uint32_t leaf, uint32_t subleaf,
                              std::span<uint32_t, 4> registers) noexcept override;
  uint32_t guest_pmu_wanted(vmm_vm_handle handle) noexcept override;

  int32_t ioctl(int32_t fd, uint32_t request, void* arg) noexcept {
    return ioctl_(ctx_, fd, request, arg);
  }

  bool ends_at_exit() const noexcept { return (flags_ & VMM_HOST_ENDS_AT_EXIT) != 0; }
  bool requires_state() const noexcept { return (flags_ & VMM_HOST_REQUIRES_STATE) != 0; }

 private:
  const std::string name_;
  const uint32_t flags_;
  void* const ctx_;
  void (*const log_)(void*, uint32_t, const char*, const char*);
  int32_t (*const ioctl_)(void*, int32_t, uint32_t, void*);

 public:
  PluginSet set{*this};  ///< last: plugins may use all of the host until their destroy returns
};

/// A VM, and its plugins' views of it in the order of the list.
struct vmm_host_vm {
  vmm_host_vm(vmm_host_plugins& owner, const vmm_host_vm_config& config)
      : plugins(owner),
        kvm_fd(config.kvm_fd),
        vm_fd(config.vm_fd),
        max_vcpus(config.max_vcpus),
        // a value of a later header's says nothing here (vmm/guest_pmu.h)
        guest_pmu(config.guest_pmu <= VMM_GUEST_PMU_ON ? config.guest_pmu : VMM_GUEST_PMU_UNSAID) {}
  ~vmm_host_vm() {
    while (!views.empty()) views.pop_back();  // the last that was told of it is the first to end
  }
  vmm_host_vm(const vmm_host_vm&) = delete;
  vmm_host_vm& operator=(const vmm_host_vm&) = delete;

  vmm_vm_handle handle() noexcept { return reinterpret_cast<vmm_vm_handle>(this); }
  static vmm_host_vm& of(vmm_vm_handle handle) noexcept {
    return *reinterpret_cast<vmm_host_vm*>(handle);
  }

  vmm_host_plugins& plugins;
  const int32_t kvm_fd, vm_fd;
  const uint32_t max_vcpus, guest_pmu;
  bool creating = true;  ///< in vm_created: plugins may deny and hide
  DenyList denied;
  HiddenCpuid hidden;
  CpuidTable supported;

  std::mutex list_mutex;  ///< one msr_list_build of a VM at a time: vCPUs are saved in parallel

  std::mutex cpuid_mutex;
  std::map<uint32_t, CpuidTable> cpuid;  ///< by vCPU index; guarded

  std::vector<std::unique_ptr<PluginVm>> views;  ///< last: vm_destroyed may use all of the others
};

namespace {

/// What ends with the process (VMM_HOST_ENDS_AT_EXIT), unless the VMM ends it. Never destroyed:
/// nothing says in which order exit(3) calls this and destructors.
struct AtExit {
  std::mutex mutex;
  std::vector<vmm_host_vm*> vms;
  std::vector<vmm_host_plugins*> plugins;

  static AtExit& all() {
    static AtExit& all = make();
    return all;
  }
  void keep(vmm_host_vm* vm) {
    const std::lock_guard lock(mutex);
    vms.push_back(vm);
  }
  void keep(vmm_host_plugins* opened) {
    const std::lock_guard lock(mutex);
    plugins.push_back(opened);
  }
  void forget(vmm_host_vm* vm) noexcept {
    const std::lock_guard lock(mutex);
    std::erase(vms, vm);
  }
  void forget(vmm_host_plugins* opened) noexcept {
    const std::lock_guard lock(mutex);
    std::erase(plugins, opened);
  }

 private:
  static AtExit& make() {
    auto made = std::make_unique<AtExit>();
    if (std::atexit([] { all().end(); }) != 0) throw std::bad_alloc();
    return *made.release();
  }
  void end() {
    while (!vms.empty()) vmm_host_vm_destroyed(vms.back());
    while (!plugins.empty()) vmm_host_close(plugins.back());
  }
};

/// What a vCPU's handle leads to, for the length of a call.
struct VcpuCall {
  vmm_host_vm& vm;
  uint32_t index;
  int32_t fd;

  vmm_vcpu_handle handle() noexcept { return reinterpret_cast<vmm_vcpu_handle>(this); }
  static VcpuCall& of(vmm_vcpu_handle handle) noexcept {
    return *reinterpret_cast<VcpuCall*>(handle);
  }
};

/// KVM_GET_SUPPORTED_CPUID; an empty table where KVM refuses.
void ask_supported(vmm_host_plugins& plugins, int32_t kvm_fd, CpuidTable& table) {
  table.read_supported(
      [&](uint32_t request, void* arg) { return plugins.ioctl(kvm_fd, request, arg); });
}

/// All registers that the plugins name, one list in their order.
tl::expected<std::vector<vmm_msr>, PluginError> whole_list(vmm_host_vm& vm) {
  const std::lock_guard lock(vm.list_mutex);
  std::vector<vmm_msr> all;
  for (const auto& view : vm.views) {
    auto list = view->msr_list();
    if (!list) return tl::unexpected(list.error());
    all.insert(all.end(), list->begin(), list->end());
  }
  return all;
}

/// Copies a struct of the VMM's, of this version or an older or newer one. `least`: its first size.
template <typename T>
bool copy_config(T& to, const T* from, std::size_t least) noexcept {
  if (from == nullptr || from->struct_size < least) return false;
  to = copy_struct(*from);
  return true;
}

}  // namespace

// ---- the host's callbacks ----------------------------------------------------------------------

int32_t vmm_host_plugins::vm_ioctl(vmm_vm_handle vm, uint32_t request, void* arg) noexcept {
  return ioctl(vmm_host_vm::of(vm).vm_fd, request, arg);
}

int32_t vmm_host_plugins::vcpu_ioctl(vmm_vcpu_handle vcpu, uint32_t request, void* arg) noexcept {
  return ioctl(VcpuCall::of(vcpu).fd, request, arg);
}

void vmm_host_plugins::log(uint32_t level, std::string_view source,
                           std::string_view message) noexcept {
  // on the stack: a vCPU thread may not allocate. A line of a plugin's is at most that long.
  std::array<char, 64> who{};
  std::array<char, 1024> line{};
  who[source.copy(who.data(), who.size() - 1)] = '\0';
  line[message.copy(line.data(), line.size() - 1)] = '\0';
  log_(ctx_, level, who.data(), line.data());
}

int32_t vmm_host_plugins::get_cpuid(vmm_vm_handle handle, vmm_vcpu_handle vcpu, uint32_t leaf,
                                    uint32_t subleaf, std::span<uint32_t, 4> registers) noexcept {
  vmm_host_vm& vm = vmm_host_vm::of(handle);
  const std::lock_guard lock(vm.cpuid_mutex);
  const auto known = vcpu != nullptr ? vm.cpuid.find(VcpuCall::of(vcpu).index) : vm.cpuid.begin();
  if (known == vm.cpuid.end()) return -ENOENT;
  known->second.lookup(leaf, subleaf, registers);
  return 0;
}

int32_t vmm_host_plugins::deny_msrs(vmm_vm_handle handle,
                                    std::span<const vmm_msr_range> ranges) noexcept {
  return guarded(nullptr, [&] {
    vmm_host_vm& vm = vmm_host_vm::of(handle);
    return vm.creating ? host_kit::deny_msrs(*this, handle, vm.denied, ranges) : -EINVAL;
  });
}

int32_t vmm_host_plugins::hide_cpuid(vmm_vm_handle handle,
                                     std::span<const vmm_cpuid_bits> bits) noexcept {
  return guarded(nullptr, [&] {
    vmm_host_vm& vm = vmm_host_vm::of(handle);
    return vm.creating ? vm.hidden.add(bits) : -EINVAL;
  });
}

int32_t vmm_host_plugins::get_supported_cpuid(vmm_vm_handle handle, uint32_t leaf, uint32_t subleaf,
                                              std::span<uint32_t, 4> registers) noexcept {
  const CpuidTable& table = vmm_host_vm::of(handle).supported;
  if (!table.known()) return -ENOENT;
  table.lookup(leaf, subleaf, registers);
  return 0;
}

uint32_t vmm_host_plugins::guest_pmu_wanted(vmm_vm_handle handle) noexcept {
  return vmm_host_vm::of(handle).guest_pmu;
}

// ---- plugins -----------------------------------------------------------------------------------

int32_t vmm_host_open(const vmm_host_config* config_in, const char* list, vmm_host_plugins** opened,
                      vmm_error* error) {
  return guarded(error, [&] {
    constexpr std::size_t kLeast = offsetof(vmm_host_config, ioctl) + sizeof(void (*)());
    vmm_host_config config;
    if (!copy_config(config, config_in, kLeast) || config.name == nullptr)
      return report(error, -EINVAL,
                    "vmm_host_open: the configuration is NULL, too small or has no name");
    if (list == nullptr || opened == nullptr)
      return report(error, -EINVAL,
                    "vmm_host_open: the list of plugins or the place for the result is NULL");
    if ((config.flags & ~kKnownFlags) != 0)
      return report(error, -EINVAL, "vmm_host_open: an unknown flag");
    const auto specs = parse_plugin_list(list);
    if (!specs) return report(error, -EINVAL, "plugins: " + specs.error());
    auto plugins = std::make_unique<vmm_host_plugins>(config);
    plugins->set.load(*specs, plugin_folders());
    if (!plugins->set.problems().empty()) {
      const Problem& first = plugins->set.problems().front();
      return report(error, first.code, first.text);
    }
    if (plugins->ends_at_exit()) AtExit::all().keep(plugins.get());
    *opened = plugins.release();
    return 0;
  });
}

void vmm_host_close(vmm_host_plugins* plugins) {
  if (plugins != nullptr && plugins->ends_at_exit()) AtExit::all().forget(plugins);
  delete plugins;
}

// ---- VMs ---------------------------------------------------------------------------------------

int32_t vmm_host_vm_created(vmm_host_plugins* plugins, const vmm_host_vm_config* config_in,
                            vmm_host_vm** created, vmm_error* error) {
  return guarded(error, [&] {
    constexpr std::size_t kLeast = offsetof(vmm_host_vm_config, reserved) + sizeof(uint32_t);
    vmm_host_vm_config config;
    if (plugins == nullptr || created == nullptr || !copy_config(config, config_in, kLeast))
      return report(error, -EINVAL, "vmm_host_vm_created: an argument is NULL or too small");
    if (config.max_vcpus == 0 || config.max_vcpus > kMaxVcpus)
      return report(error, -EINVAL,
                    "vmm_host_vm_created: max_vcpus is " + std::to_string(config.max_vcpus) +
                        ", not 1 to " + std::to_string(kMaxVcpus));
    auto vm = std::make_unique<vmm_host_vm>(*plugins, config);
    ask_supported(*plugins, config.kvm_fd, vm->supported);
    for (const auto& instance : plugins->set.instances()) {
      auto view = PluginVm::created(*instance, vm->handle(), config.max_vcpus);
      if (!view) return report(error, view.error().code, view.error().text);
      vm->views.push_back(std::move(*view));
    }
    vm->creating = false;
    if (plugins->ends_at_exit()) AtExit::all().keep(vm.get());
    *created = vm.release();
    return 0;
  });
}

void vmm_host_vm_destroyed(vmm_host_vm* vm) {
  if (vm != nullptr && vm->plugins.ends_at_exit()) AtExit::all().forget(vm);
  delete vm;
}

// ---- what the VMM tells KVM --------------------------------------------------------------------

int32_t vmm_host_vcpu_cpuid(vmm_host_vm* vm, uint32_t index, kvm_cpuid_entry2* entries,
                            uint32_t count) {
  if (vm == nullptr) return 0;
  if (index >= vm->max_vcpus || (entries == nullptr && count != 0) ||
      count > CpuidTable::kMaxEntries)
    return -EINVAL;
  return guarded(nullptr, [&] {
    const std::span<kvm_cpuid_entry2> table(entries, count);
    const std::lock_guard lock(vm->cpuid_mutex);
    CpuidTable& kept = vm->cpuid[index];
    vm->hidden.clear_in(table);
    kept.assign(table);
    return 0;
  });
}

void vmm_host_supported_cpuid(const vmm_host_vm* vm, kvm_cpuid_entry2* entries, uint32_t count) {
  if (vm != nullptr && entries != nullptr) vm->hidden.clear_in({entries, count});
}

int32_t vmm_host_set_msr_filter(vmm_host_vm* vm, const kvm_msr_filter* wanted) {
  if (vm == nullptr || wanted == nullptr || !vm->plugins.has_msr_filter()) return -EINVAL;
  auto filter = merge_msr_filter(*wanted, vm->denied);
  if (!filter) return -ENOSPC;
  return vm->plugins.vm_ioctl(vm->handle(), KVM_X86_SET_MSR_FILTER, &*filter);
}

int32_t vmm_host_answer_msr_exit(const vmm_host_vm* vm, kvm_run* run) {
  if (vm == nullptr || run == nullptr) return 0;
  return answer_denied_msr(vm->denied, *run) ? 1 : 0;
}

// ---- resets ------------------------------------------------------------------------------------

int32_t vmm_host_vcpu_reset(vmm_host_vm* vm, uint32_t index, int32_t vcpu_fd) {
  if (vm == nullptr) return 0;
  if (index >= vm->max_vcpus) return -EINVAL;
  VcpuCall vcpu{*vm, index, vcpu_fd};
  int32_t first = 0;
  for (const auto& view : vm->views)
    if (const int32_t result = view->vcpu_reset(index, vcpu.handle(), nullptr); first == 0)
      first = result;
  return first;
}

namespace {

/// The VMM's open batch, as plugins see it.
struct Batch {
  vmm_msr* entries;
  uint32_t capacity;
  uint32_t count;

  static int32_t add(void* self, const vmm_msr* msrs, uint32_t count) noexcept {
    auto& batch = *static_cast<Batch*>(self);
    if (msrs == nullptr || count == 0) return -EINVAL;
    if (count > batch.capacity - batch.count) return -ENOSPC;
    if (std::any_of(msrs, msrs + count, [](const vmm_msr& msr) { return msr.flags != 0; }))
      return -EINVAL;
    std::copy_n(msrs, count, batch.entries + batch.count);
    batch.count += count;
    return 0;
  }
};

}  // namespace

int32_t vmm_host_vcpu_reset_batch(vmm_host_vm* vm, uint32_t index, int32_t vcpu_fd,
                                  vmm_msr* entries, uint32_t capacity, uint32_t* count) {
  if (vm == nullptr) return 0;
  if (index >= vm->max_vcpus || entries == nullptr || count == nullptr || *count > capacity)
    return -EINVAL;
  VcpuCall vcpu{*vm, index, vcpu_fd};
  Batch batch{entries, capacity, *count};
  const vmm_msr_sink sink{sizeof(vmm_msr_sink), 0, &batch, Batch::add};
  for (const auto& view : vm->views)
    if (const int32_t result = view->vcpu_reset(index, vcpu.handle(), &sink); result < 0)
      return result;
  *count = batch.count;
  return 0;
}

// ---- saved state -------------------------------------------------------------------------------

namespace {

using SavedState = tl::expected<std::vector<SavedMsr>, PluginError>;

/// What a save of the vCPU has to hold; of no VM nothing.
SavedState state_of(vmm_host_vm* vm, uint32_t index, int32_t vcpu_fd) {
  if (vm == nullptr) return {};
  const auto list = whole_list(*vm);
  if (!list) return tl::unexpected(list.error());
  VcpuCall vcpu{*vm, index, vcpu_fd};
  auto state = save_msrs(vm->plugins, vcpu.handle(), *list);
  if (!state) return tl::unexpected(PluginError{state.error().code, state.error().text});
  if (state->size() > kMaxStateRegisters)
    return tl::unexpected(
        PluginError{-EINVAL, std::to_string(state->size()) + " registers to save, " +
                                 std::to_string(kMaxStateRegisters) + " are the most"});
  return std::move(*state);
}

/// As guarded, for a body that reports to `error`. Where the VMM gave no buffer, the words go to
/// the log, but those of -ENOSPC, which answers a question.
template <typename Body>
int32_t guarded_or_logged(vmm_host_vm* vm, vmm_error*& error, Body body) noexcept {
  if (error != nullptr) return guarded(error, body);
  std::array<char, 256> text{};
  vmm_error own{sizeof(vmm_error), static_cast<uint32_t>(text.size()), text.data()};
  error = &own;
  const int32_t result = guarded(error, body);
  error = nullptr;
  if (result == 0 || result == -ENOSPC) return result;
  if (vm != nullptr)
    vm->plugins.log(VMM_LOG_ERROR, "vmm_host", text.data());
  else
    print_log(nullptr, VMM_LOG_ERROR, "vmm_host", text.data());
  return result;
}

bool has_vcpu(const vmm_host_vm* vm, uint32_t index) noexcept {
  return vm == nullptr || index < vm->max_vcpus;
}

}  // namespace

int32_t vmm_host_vcpu_save(vmm_host_vm* vm, uint32_t index, int32_t vcpu_fd, void* buffer,
                           uint32_t capacity, uint32_t* size, vmm_error* error) {
  return guarded_or_logged(vm, error, [&] {
    if (!has_vcpu(vm, index) || size == nullptr || (buffer == nullptr && capacity != 0))
      return report(error, -EINVAL,
                    "vmm_host_vcpu_save: an argument is NULL or the index too high");
    const SavedState state = state_of(vm, index, vcpu_fd);
    if (!state) return report(error, state.error().code, state.error().text);
    *size = static_cast<uint32_t>(state_size(state->size()));
    if (*size > capacity)
      return report(error, -ENOSPC,
                    "vmm_host_vcpu_save: " + std::to_string(*size) + " bytes are needed");
    write_state(*state, {static_cast<std::byte*>(buffer), *size});
    return 0;
  });
}

int32_t vmm_host_vcpu_save_new(vmm_host_vm* vm, uint32_t index, int32_t vcpu_fd, void** buffer,
                               uint32_t* size, vmm_error* error) {
  return guarded_or_logged(vm, error, [&] {
    if (!has_vcpu(vm, index) || buffer == nullptr || size == nullptr)
      return report(error, -EINVAL,
                    "vmm_host_vcpu_save_new: an argument is NULL or the index too high");
    // NOLINTBEGIN(cppcoreguidelines-no-malloc): the memory is the C caller's
    std::free(std::exchange(*buffer, nullptr));
    *size = 0;
    const SavedState state = state_of(vm, index, vcpu_fd);
    if (!state) return report(error, state.error().code, state.error().text);
    const std::size_t bytes = state_size(state->size());
    if (bytes == 0) return 0;
    *buffer = std::malloc(bytes);
    // NOLINTEND(cppcoreguidelines-no-malloc)
    if (*buffer == nullptr) throw std::bad_alloc();
    *size = static_cast<uint32_t>(bytes);
    write_state(*state, {static_cast<std::byte*>(*buffer), bytes});
    return 0;
  });
}

int32_t vmm_host_vcpu_restore(vmm_host_vm* vm, uint32_t index, int32_t vcpu_fd, const void* buffer,
                              uint32_t size, vmm_error* error) {
  return guarded_or_logged(vm, error, [&] {
    if (!has_vcpu(vm, index) || (buffer == nullptr && size != 0))
      return report(error, -EINVAL,
                    "vmm_host_vcpu_restore: an argument is NULL or the index too high");
    if (vm == nullptr)
      return size == 0 ? 0
                       : report(error, -ENODEV,
                                "the state has registers of plugins, and no plugin is loaded here");
    if (size == 0 && vm->plugins.requires_state()) {
      const SavedState here = state_of(vm, index, vcpu_fd);
      if (!here) return report(error, here.error().code, here.error().text);
      if (!here->empty())
        return report(error, -ENODATA,
                      "the state has no registers of plugins: where it was saved, no plugin was "
                      "loaded, or none with these options");
    }
    const auto state = read_state({static_cast<const std::byte*>(buffer), size});
    if (!state) return report(error, state.error().code, state.error().text);
    const auto list = whole_list(*vm);
    if (!list) return report(error, list.error().code, list.error().text);
    VcpuCall vcpu{*vm, index, vcpu_fd};
    const auto restored = restore_msrs(vm->plugins, vcpu.handle(), *list, *state);
    if (!restored) return report(error, restored.error().code, restored.error().text);
    for (const SavedMsr& dropped : restored->dropped) {
      std::array<char, 128> line{};
      std::snprintf(line.data(), line.size(),
                    "vCPU %u: MSR %08x is not restored to %llx: this host does not have it", index,
                    dropped.index, static_cast<unsigned long long>(dropped.value));
      vm->plugins.log(VMM_LOG_WARNING, "vmm_host", line.data());
    }
    return 0;
  });
}

const char* vmm_host_version(void) { return SVM_PMU_VERSION; }

/// The preload host does nothing in a process that has this symbol: no VM gets its hooks twice.
extern "C" VMM_PLUGIN_EXPORT const int vmm_plugin_host_v1;
extern "C" const int vmm_plugin_host_v1 = 1;
