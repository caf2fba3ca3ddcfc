// SPDX-License-Identifier: MIT
//
// A hostile plugin against host_kit: descriptors of odd sizes, hooks that are missing, results that
// are none, error buffers without an end, sinks called with anything, log lines of any bytes. What
// is demanded: no crash, each breach an error and never a success, destroy and vm_destroyed as
// often as the contract says, lists, batches and saved states as an entry-by-entry model has them.
#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host_kit/host.hpp"
#include "host_kit/msr_io.hpp"
#include "host_kit/msr_state.hpp"
#include "host_kit/plugin_instance.hpp"
#include "host_kit/plugin_library.hpp"
#include "input.hpp"
#include "require.hpp"
#include "target.hpp"

namespace {

using namespace fuzz;

constexpr int32_t kResults[] = {
    0,     0,       0, 0,      -EINVAL,   -ENOMEM,   -EPERM, -4095,
    -4096, -100000, 1, EINVAL, INT32_MAX, INT32_MIN, -EINTR, INT32_MIN + 1};

/// What a host makes of a plugin's result.
int32_t folded(int32_t result) { return result > 0 || result < -4095 ? -EPROTO : result; }

// ---- the host ----------------------------------------------------------------------------------

/// MSRs in a map, some of which refuse; lines are kept.
struct MapHost final : host_kit::Host {
  explicit MapHost(Input& input) : in(input) {}
  Input& in;
  std::map<uint32_t, uint64_t> msrs;
  std::vector<std::pair<std::string, std::string>> lines;  ///< source, text
  bool faulty = false;                                     ///< ioctls may fail
  bool failed = false;                                     ///< one did, for good
  std::size_t longest = 0;                                 ///< MSR call, in entries

  static bool readable(uint32_t msr) { return msr % 5 != 0; }
  static bool takes(uint32_t msr, uint64_t value) { return msr % 7 != 0 && value % 11 != 1; }

  const char* name() const noexcept override { return "fuzz"; }
  int32_t vm_ioctl(vmm_vm_handle, uint32_t, void*) noexcept override { return in.one_of(kResults); }
  int32_t vcpu_ioctl(vmm_vcpu_handle, uint32_t request, void* arg) noexcept override {
    if (request != VMM_KVM_SET_MSRS && request != VMM_KVM_GET_MSRS) return in.one_of(kResults);
    auto* header = static_cast<vmm_kvm_msrs_header*>(arg);
    auto* entries = reinterpret_cast<kvm_msr_entry*>(header + 1);
    longest = std::max<std::size_t>(longest, header->nmsrs);
    const uint8_t fault = faulty ? in.byte() : 0;
    if (fault >= 240 && fault < 248) return -EINTR;
    if (fault >= 248) {
      failed = true;
      const int32_t code = in.one_of(kResults);
      return code < 0 && code != -EINTR ? code : static_cast<int32_t>(header->nmsrs) + 1;
    }
    for (uint32_t i = 0; i < header->nmsrs; ++i) {
      FUZZ_REQUIRE(entries[i].reserved == 0, "flags handed on to KVM");
      const uint32_t msr = entries[i].index;
      if (request == VMM_KVM_SET_MSRS) {
        if (!takes(msr, entries[i].data)) return static_cast<int32_t>(i);
        msrs[msr] = entries[i].data;
      } else {
        if (!readable(msr)) return static_cast<int32_t>(i);
        entries[i].data = msrs[msr];
      }
    }
    return static_cast<int32_t>(header->nmsrs);
  }
  void log(uint32_t level, std::string_view source, std::string_view message) noexcept override {
    FUZZ_REQUIRE(!host_kit::log_level_name(level).empty(), "");
    lines.emplace_back(source, message);
  }
  bool has_filter = false;
  bool has_msr_filter() const noexcept override { return has_filter; }
};

// ---- the plugin --------------------------------------------------------------------------------

/// What the plugin's functions are to do and what they did. One at a time.
struct Plugin {
  Plugin(Input& input, MapHost& map_host) : in(input), host(map_host) { current = this; }
  ~Plugin() { current = nullptr; }
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;
  static inline Plugin* current = nullptr;

  Input& in;
  MapHost& host;
  const vmm_host* table = nullptr;
  std::string text;    ///< that the last function put into its error buffer
  int32_t result = 0;  ///< of the last function
  bool registered = false;
  void* ctx = nullptr;  ///< that was registered, and is due in every hook
  vmm_hooks hooks{};    ///< that were registered
  int created = 0, destroyed = 0;
  int32_t create_result = 0;
  std::multiset<void*> vm_contexts;  ///< those that are due in vm_destroyed
  std::vector<vmm_msr> list;         ///< what the sink must have by now

  void fill(vmm_error* error) {
    text.clear();
    if (error == nullptr) return;
    FUZZ_REQUIRE(error->struct_size == sizeof *error && error->capacity > 0, "");
    FUZZ_REQUIRE(error->message[0] == '\0', "the caller's NUL");
    const uint8_t how = in.byte();
    const std::size_t length = how < 100   ? 0
                               : how < 200 ? how - 99u
                               : how < 250 ? error->capacity - 1  // to the last byte
                                           : error->capacity;     // and without an end
    const char letter = static_cast<char>(in.byte() | 1);
    std::memset(error->message, letter, length);
    if (length < error->capacity) error->message[length] = '\0';
    text.assign(length, letter);
  }

  void call_host() {
    if (table == nullptr) return;
    switch (in.below(8)) {
      case 1: {
        // exactly as long as it says, and no NUL behind it
        std::vector<char> line(std::size_t{in.byte()} * 9);
        for (char& c : line) c = static_cast<char>(in.byte());
        const bool null = in.byte() > 250;
        const std::size_t before = host.lines.size();
        table->log(table->host_ctx, in.word(), null ? nullptr : line.data(), line.size());
        if (null || line.data() == nullptr) return;
        FUZZ_REQUIRE(host.lines.size() == before + 1, "");
        FUZZ_REQUIRE(host.lines.back().second == std::string_view(line.data(), line.size()), "");
        return;
      }
      case 2:
        table->vm_ioctl(table->host_ctx, nullptr, in.word(), nullptr);
        return;
      case 3: {
        uint32_t registers[4] = {};
        const bool null = in.byte() > 200;
        const int32_t answer = table->get_cpuid(table->host_ctx, nullptr, nullptr, in.word(), 0,
                                                null ? nullptr : registers);
        FUZZ_REQUIRE(answer < 0, "");
        return;
      }
      case 4: {
        FUZZ_REQUIRE((table->deny_msrs != nullptr) == host.has_filter, "");
        if (table->deny_msrs == nullptr) return;
        const vmm_msr_range range{in.word(), in.word()};
        FUZZ_REQUIRE(table->deny_msrs(table->host_ctx, nullptr, &range, 0) == -EINVAL, "");
        FUZZ_REQUIRE(table->deny_msrs(table->host_ctx, nullptr, nullptr, 1) == -EINVAL, "");
        FUZZ_REQUIRE(table->deny_msrs(table->host_ctx, nullptr, &range, 1) < 0, "");
        return;
      }
      case 5:
        register_any();
        return;
      default:
        return;
    }
  }

  bool creating = false;
  void register_any() {
    vmm_hooks wanted{};
    wanted.struct_size = sizeof wanted;
    const uint8_t present = in.byte();
    if ((present & 1) == 0) wanted.vm_created = vm_created;
    if ((present & 2) == 0) wanted.vm_destroyed = vm_destroyed;
    if ((present & 4) == 0) wanted.msr_list_build = msr_list_build;
    if ((present & 8) == 0) wanted.vcpu_reset = vcpu_reset;
    const uint8_t how = in.byte();
    uint32_t size = sizeof wanted;
    if (how > 200) size = how % sizeof wanted;
    if (how > 230) size = static_cast<uint32_t>(sizeof wanted) + how;
    wanted.struct_size = size;
    std::vector<std::byte> memory(std::max<std::size_t>(size, sizeof(uint32_t)), std::byte{0xee});
    std::memcpy(memory.data(), &wanted, std::min(memory.size(), sizeof wanted));
    const bool null = how == 200;
    void* wish = in.flag() ? this : static_cast<void*>(&created);
    const int32_t answer = table->register_hooks(
        table->host_ctx, null ? nullptr : reinterpret_cast<vmm_hooks*>(memory.data()), wish);
    const int32_t expected = null || size < sizeof wanted ? -EINVAL
                             : registered || !creating    ? -EALREADY
                                                          : 0;
    FUZZ_REQUIRE(answer == expected, std::to_string(answer));
    if (answer != 0) return;
    registered = true;
    ctx = wish;
    hooks = wanted;
  }

  int32_t end() { return result = in.one_of(kResults); }

  static int32_t create(const vmm_host* host_table, const char* options, void** ctx_out,
                        vmm_error* error) {
    Plugin& me = *current;
    ++me.created;
    me.table = host_table;
    FUZZ_REQUIRE(host_table->struct_size == sizeof *host_table, "");
    FUZZ_REQUIRE(std::string_view(options) == "a=b", options);
    me.creating = true;
    for (uint32_t left = me.in.below(4); left > 0; --left) me.call_host();
    if (me.in.byte() < 230) me.register_any();
    me.creating = false;
    if (me.in.byte() < 230) *ctx_out = me.ctx;
    me.fill(error);
    return me.create_result = me.end();
  }
  static void destroy(void* ctx) {
    Plugin& me = *current;
    ++me.destroyed;
    if (me.registered) FUZZ_REQUIRE(ctx == me.ctx, "destroy of another ctx");
    FUZZ_REQUIRE(me.vm_contexts.empty(), "destroy before vm_destroyed");
  }
  static int32_t vm_created(void* ctx, const vmm_vm* vm, void** vm_ctx, vmm_error* error) {
    Plugin& me = *current;
    FUZZ_REQUIRE(ctx == me.ctx && vm->struct_size == sizeof *vm && *vm_ctx == nullptr, "");
    FUZZ_REQUIRE(vm->handle != nullptr && vm->max_vcpus > 0, "");
    me.call_host();
    *vm_ctx = reinterpret_cast<void*>(uintptr_t{me.in.byte()});
    me.fill(error);
    if (me.end() == 0 && me.hooks.vm_destroyed != nullptr) me.vm_contexts.insert(*vm_ctx);
    return me.result;
  }
  static void vm_destroyed(void* ctx, void* vm_ctx) {
    Plugin& me = *current;
    FUZZ_REQUIRE(ctx == me.ctx, "");
    const auto due = me.vm_contexts.find(vm_ctx);
    FUZZ_REQUIRE(due != me.vm_contexts.end(), "vm_destroyed of what was not created");
    me.vm_contexts.erase(due);
  }

  /// Adds anything to a sink that lets `allowed` flags pass and has room for `capacity`.
  void add_any(const vmm_msr_sink& sink, uint32_t allowed, std::size_t capacity) {
    for (uint32_t left = in.below(6); left > 0; --left) {
      const uint8_t how = in.byte();
      std::size_t count = how % 8;
      if (how > 240) count = std::size_t{how} * 20;
      std::vector<vmm_msr> entries(count);
      for (vmm_msr& entry : entries) {
        entry = {in.byte(), how > 60 ? 0u : in.below(8), in.byte()};
        if (how < 30) entry.flags &= VMM_MSR_SAVED | VMM_MSR_REQUIRED;
        if (how > 240) entry = {0x100u + in.byte(), 0, 1};
      }
      const bool null = how == 240;
      const int32_t answer = sink.add(sink.sink_ctx, null ? nullptr : entries.data(),
                                      static_cast<uint32_t>(null ? 3 : count));
      FUZZ_REQUIRE(
          answer == expected_add(null ? std::vector<vmm_msr>{} : entries, allowed, capacity),
          std::to_string(answer));
      if (answer == 0) list.insert(list.end(), entries.begin(), entries.end());
    }
  }
  int32_t expected_add(const std::vector<vmm_msr>& entries, uint32_t allowed,
                       std::size_t capacity) const {
    if (entries.empty()) return -EINVAL;
    if (list.size() + entries.size() > capacity) return -ENOSPC;
    std::vector<vmm_msr> all = list;
    for (const vmm_msr& entry : entries) {
      if ((entry.flags & ~allowed) != 0 || entry.flags == VMM_MSR_REQUIRED) return -EINVAL;
      const auto same = [&](const vmm_msr& other) {
        return (other.flags & VMM_MSR_SAVED) != 0 && other.index == entry.index;
      };
      if ((entry.flags & VMM_MSR_SAVED) != 0 && std::any_of(all.begin(), all.end(), same))
        return -EEXIST;
      all.push_back(entry);
    }
    return 0;
  }

  static int32_t msr_list_build(void* ctx, void*, const vmm_vm* vm, const vmm_msr_sink* sink,
                                vmm_error* error) {
    Plugin& me = *current;
    FUZZ_REQUIRE(ctx == me.ctx && vm->handle != nullptr && sink->struct_size == sizeof *sink, "");
    me.list.clear();
    me.add_any(*sink, VMM_MSR_SAVED | VMM_MSR_REQUIRED, 4096);
    me.call_host();
    me.fill(error);
    return me.end();
  }

  std::size_t batch_capacity = 0;
  static int32_t vcpu_reset(void* ctx, void*, const vmm_vcpu* vcpu) {
    Plugin& me = *current;
    FUZZ_REQUIRE(ctx == me.ctx && vcpu->struct_size == sizeof *vcpu && vcpu->flags == 0, "");
    if (vcpu->batch != nullptr) me.add_any(*vcpu->batch, 0, me.batch_capacity);
    me.call_host();
    return me.end();
  }
};

void check_text(const host_kit::PluginError& error, const Plugin& plugin, const char* function) {
  FUZZ_REQUIRE(error.code < 0 && error.code >= -4095, std::to_string(error.code));
  FUZZ_REQUIRE(error.text.starts_with("hostile: "), error.text);
  const std::string wanted = plugin.text.empty() ? function : plugin.text;
  FUZZ_REQUIRE(error.text.find(wanted) != std::string::npos, error.text);
}

// ---- descriptors -------------------------------------------------------------------------------

void check_descriptors(Input& in) {
  vmm_plugin given{};
  given.abi_major = in.byte() > 240 ? in.byte() : VMM_PLUGIN_ABI_MAJOR;
  given.abi_minor = in.byte() > 200 ? VMM_PLUGIN_ABI_MINOR + 1 : VMM_PLUGIN_ABI_MINOR;
  given.flags = in.byte() > 200 ? 1 : 0;
  const uint8_t there = in.byte();
  if ((there & 1) == 0) given.name = "hostile";
  if ((there & 2) == 0) given.version = "1";
  if ((there & 4) == 0) given.create = Plugin::create;
  if ((there & 8) == 0) given.destroy = Plugin::destroy;
  given.get_extension = [](const char*) -> const void* { return nullptr; };
  uint32_t size = sizeof given;
  if (const uint8_t how = in.byte(); how > 100)
    size = how > 230 ? static_cast<uint32_t>(sizeof given) + how : how - 101u;
  given.struct_size = size;
  std::vector<std::byte> memory(std::max<std::size_t>(size, 8), std::byte{0xee});
  std::memcpy(memory.data(), &given, std::min(memory.size(), sizeof given));
  const auto checked =
      host_kit::check_descriptor(reinterpret_cast<const vmm_plugin*>(memory.data()));

  const bool good = size >= offsetof(vmm_plugin, get_extension) && given.abi_major == 1 &&
                    (given.abi_minor > VMM_PLUGIN_ABI_MINOR || given.flags == 0) &&
                    (there & 15) == 0;
  FUZZ_REQUIRE(checked.has_value() == good, checked ? "taken" : checked.error());
  if (!checked) {
    FUZZ_REQUIRE(!checked.error().empty() && is_line_of_utf8(checked.error()), checked.error());
    return;
  }
  FUZZ_REQUIRE(checked->create == given.create && checked->destroy == given.destroy, "");
  // a function of which only a part is inside is not there
  const auto extension = size >= sizeof given ? given.get_extension : nullptr;
  FUZZ_REQUIRE(checked->get_extension == extension, "half a pointer");
  FUZZ_REQUIRE(!host_kit::check_descriptor(nullptr).has_value(), "");
}

// ---- MSRs --------------------------------------------------------------------------------------

const auto kVcpu = reinterpret_cast<vmm_vcpu_handle>(uintptr_t{8});
using Lost = std::multiset<std::pair<uint32_t, uint64_t>>;

void check_batch(MapHost& host, host_kit::MsrBatch& batch) {
  std::map<uint32_t, uint64_t> expected = host.msrs;
  std::vector<std::pair<uint32_t, uint64_t>> refused;
  for (const vmm_msr& entry : batch.entries()) {
    if (MapHost::takes(entry.index, entry.value))
      expected[entry.index] = entry.value;
    else
      refused.emplace_back(entry.index, entry.value);
  }
  host.failed = false;
  const auto flushed = batch.flush(host, kVcpu);
  FUZZ_REQUIRE(host.longest <= VMM_KVM_MAX_MSRS, std::to_string(host.longest));
  FUZZ_REQUIRE(batch.entries().empty(), "");
  FUZZ_REQUIRE(flushed.has_value() != host.failed, "");
  if (!flushed) return;
  std::vector<std::pair<uint32_t, uint64_t>> named;
  for (const vmm_msr& entry : *flushed) named.emplace_back(entry.index, entry.value);
  FUZZ_REQUIRE(named == refused, "other entries were refused");
  FUZZ_REQUIRE(host.msrs == expected, "other registers were written");
}

/// The state that was saved and a list of another plugin's: `list` may be any that a sink took.
void check_state(Input& in, MapHost& host, const std::vector<vmm_msr>& list) {
  host.failed = false;
  const auto saved = host_kit::save_msrs(host, kVcpu, list);
  FUZZ_REQUIRE(saved.has_value() != host.failed, "");
  if (!saved) return;
  std::vector<host_kit::SavedMsr> state;
  for (const vmm_msr& entry : list)
    if ((entry.flags & VMM_MSR_SAVED) != 0 && MapHost::readable(entry.index))
      state.push_back({entry.index, host.msrs[entry.index]});
  FUZZ_REQUIRE(*saved == state, "another state was saved");
  // of a newer or an older host: other values, more registers
  for (host_kit::SavedMsr& msr : state)
    if (in.byte() > 100) msr.value = in.byte();
  for (uint32_t more = in.below(3); more > 0; --more) {
    const uint32_t index = 0x1000 + in.byte();
    const bool known = std::any_of(state.begin(), state.end(),
                                   [&](const auto& msr) { return msr.index == index; });
    if (!known) state.push_back({index, in.byte()});
  }

  std::map<uint32_t, uint64_t> expected = host.msrs;
  const std::map<uint32_t, uint64_t> before = host.msrs;
  Lost lost;
  bool loses_required = false, refuses_required = false;
  std::set<uint32_t> listed;
  for (const vmm_msr& entry : list) {
    uint64_t value = entry.value;
    const bool is_saved = (entry.flags & VMM_MSR_SAVED) != 0;
    const bool required = (entry.flags & VMM_MSR_REQUIRED) != 0;
    if (is_saved) {
      listed.insert(entry.index);
      const auto found = std::find_if(state.begin(), state.end(),
                                      [&](const auto& msr) { return msr.index == entry.index; });
      if (found == state.end()) continue;
      if (const uint64_t bits = found->value & ~entry.value; bits != 0) {
        loses_required = loses_required || required;
        lost.emplace(entry.index, bits);
      }
      value = found->value & entry.value;
    }
    if (MapHost::takes(entry.index, value)) {
      expected[entry.index] = value;
    } else if (is_saved && value != 0) {
      refuses_required = refuses_required || required;
      lost.emplace(entry.index, value);
    }
  }
  for (const host_kit::SavedMsr& msr : state)
    if (!listed.contains(msr.index) && msr.value != 0) lost.emplace(msr.index, msr.value);

  host.failed = false;
  const auto restored = host_kit::restore_msrs(host, kVcpu, list, state);
  if (host.failed) {
    FUZZ_REQUIRE(!restored.has_value(), "");
    return;
  }
  FUZZ_REQUIRE(restored.has_value() == !(loses_required || refuses_required), "");
  if (loses_required) FUZZ_REQUIRE(host.msrs == before, "written before it was refused");
  if (!loses_required) FUZZ_REQUIRE(host.msrs == expected, "other registers were written");
  if (!restored) return;
  Lost said;
  for (const host_kit::SavedMsr& msr : restored->dropped) said.emplace(msr.index, msr.value);
  FUZZ_REQUIRE(said == lost, "something else was lost");
}

// ---- one instance ------------------------------------------------------------------------------

void drive(Input& in, Plugin& plugin, host_kit::PluginInstance& instance) {
  std::vector<std::unique_ptr<host_kit::PluginVm>> vms;
  const auto pick = [&]() -> host_kit::PluginVm& {
    return *vms[in.below(static_cast<uint32_t>(vms.size()))];
  };
  while (!in.empty()) {
    const uint32_t step = in.below(4);
    if (step == 0 || vms.empty()) {
      if (vms.size() == 4) vms.erase(vms.begin());
      const bool hooked = plugin.hooks.vm_created != nullptr;
      if (!hooked && plugin.hooks.vm_destroyed != nullptr) plugin.vm_contexts.insert(nullptr);
      auto vm =
          host_kit::PluginVm::created(instance, reinterpret_cast<vmm_vm_handle>(uintptr_t{16}), 4);
      FUZZ_REQUIRE(vm.has_value() == (!hooked || plugin.result == 0), "");
      if (vm) {
        vms.push_back(std::move(*vm));
      } else {
        check_text(vm.error(), plugin, "vm_created");
        FUZZ_REQUIRE(vm.error().code == folded(plugin.result), std::to_string(vm.error().code));
      }
    } else if (step == 1) {
      vms.erase(vms.begin());
    } else if (step == 2) {
      const auto list = pick().msr_list();
      if (plugin.hooks.msr_list_build == nullptr) {
        FUZZ_REQUIRE(list && list->empty(), "");
        continue;
      }
      FUZZ_REQUIRE(list.has_value() == (plugin.result == 0), "");
      if (!list) {
        check_text(list.error(), plugin, "msr_list_build");
        continue;
      }
      const auto same = [](const vmm_msr& a, const vmm_msr& b) {
        return a.index == b.index && a.flags == b.flags && a.value == b.value;
      };
      FUZZ_REQUIRE(
          std::equal(list->begin(), list->end(), plugin.list.begin(), plugin.list.end(), same),
          "another list");
      plugin.host.faulty = in.byte() > 200;
      check_state(in, plugin.host, *list);
      plugin.host.faulty = false;
    } else {
      plugin.batch_capacity = in.byte() > 200 ? 6000 : in.below(16);
      host_kit::MsrBatch batch(plugin.batch_capacity);
      plugin.list.clear();
      const uint32_t own = std::min(in.below(3), static_cast<uint32_t>(plugin.batch_capacity));
      for (uint32_t i = 0; i < own; ++i) {
        const vmm_msr entry{i, 0, i};
        FUZZ_REQUIRE(batch.add(entry), "");
        plugin.list.push_back(entry);
      }
      const int32_t result = pick().vcpu_reset(1, kVcpu, in.flag() ? nullptr : batch.sink());
      if (plugin.hooks.vcpu_reset == nullptr) {
        FUZZ_REQUIRE(result == 0, "");
        continue;
      }
      FUZZ_REQUIRE(result == folded(plugin.result), std::to_string(result));
      FUZZ_REQUIRE(batch.entries().size() == plugin.list.size(), "");
      if (result < 0) batch.truncate(own);
      plugin.host.faulty = in.byte() > 200;
      check_batch(plugin.host, batch);
      plugin.host.faulty = false;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  Input in(data, size);
  check_descriptors(in);

  MapHost host(in);
  host.has_filter = in.flag();
  Plugin plugin(in, host);
  vmm_plugin descriptor{};
  descriptor.struct_size = sizeof descriptor;
  descriptor.abi_major = VMM_PLUGIN_ABI_MAJOR;
  descriptor.name = "hostile";
  descriptor.version = "1";
  descriptor.create = Plugin::create;
  descriptor.destroy = Plugin::destroy;
  {
    auto instance = host_kit::PluginInstance::create(descriptor, host, "a=b");
    FUZZ_REQUIRE(plugin.created == 1, "");
    FUZZ_REQUIRE(instance.has_value() == (plugin.result == 0 && plugin.registered), "");
    if (instance) {
      drive(in, plugin, **instance);
    } else {
      const int32_t code = folded(plugin.result) != 0 ? folded(plugin.result) : -EPROTO;
      FUZZ_REQUIRE(instance.error().code == code, std::to_string(instance.error().code));
      if (plugin.result != 0) check_text(instance.error(), plugin, "create");
    }
  }
  FUZZ_REQUIRE(plugin.destroyed == (plugin.create_result == 0 ? 1 : 0), "destroy");
  FUZZ_REQUIRE(plugin.vm_contexts.empty(), "vm_destroyed is due");
  return 0;
}
