// SPDX-License-Identifier: MIT
//
// host_kit: MSR batches and states against a vCPU that remembers, refuses and interrupts, and what
// it does with plugins that break the contract.
#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "host_kit/host.hpp"
#include "host_kit/msr_io.hpp"
#include "host_kit/msr_state.hpp"
#include "host_kit/plugin_instance.hpp"
#include "host_kit/plugin_library.hpp"

namespace bdata = boost::unit_test::data;

namespace {

/// A host with one vCPU whose MSRs are a map; what it is asked is kept.
class TestHost : public host_kit::Host {
 public:
  std::map<uint32_t, uint64_t> msrs;
  std::set<uint32_t> refused;        ///< neither readable nor writable
  std::vector<uint32_t> call_sizes;  ///< entries of each MSR ioctl that was let through
  std::vector<vmm_msr> written;      ///< in order
  std::vector<std::string> lines;
  int interrupts_left = 0;
  int32_t fail_with = 0;
  bool lies = false;  ///< returns more than it was asked for

  const char* name() const noexcept override { return "test"; }
  int32_t vm_ioctl(vmm_vm_handle, uint32_t, void*) noexcept override { return 0; }
  int32_t vcpu_ioctl(vmm_vcpu_handle, uint32_t request, void* arg) noexcept override {
    if (interrupts_left > 0) {
      --interrupts_left;
      return -EINTR;
    }
    if (fail_with != 0) return fail_with;
    auto* header = static_cast<vmm_kvm_msrs_header*>(arg);
    auto* entries = reinterpret_cast<kvm_msr_entry*>(header + 1);
    call_sizes.push_back(header->nmsrs);
    if (header->nmsrs > VMM_KVM_MAX_MSRS) return -E2BIG;
    if (lies) return static_cast<int32_t>(header->nmsrs) + 1;
    for (uint32_t i = 0; i < header->nmsrs; ++i) {
      if (refused.contains(entries[i].index)) return static_cast<int32_t>(i);
      if (request == VMM_KVM_SET_MSRS) {
        BOOST_TEST(entries[i].reserved == 0u);
        msrs[entries[i].index] = entries[i].data;
        written.push_back({entries[i].index, 0, entries[i].data});
      } else {
        entries[i].data = msrs[entries[i].index];
      }
    }
    return static_cast<int32_t>(header->nmsrs);
  }
  void log(uint32_t level, std::string_view source, std::string_view message) noexcept override {
    lines.push_back(std::string(host_kit::log_level_name(level)) + " " + std::string(source) + " " +
                    std::string(message));
  }
};

const auto kVcpu = reinterpret_cast<vmm_vcpu_handle>(uintptr_t{1});

std::vector<vmm_msr> numbered(uint32_t count) {
  std::vector<vmm_msr> entries;
  for (uint32_t i = 0; i < count; ++i) entries.push_back({0x1000 + i, 0, i + 1});
  return entries;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(msr_io)

BOOST_AUTO_TEST_CASE(a_long_batch_goes_out_in_calls_of_255_and_in_order) {
  TestHost host;
  const auto entries = numbered(600);
  const auto refused = host_kit::write_msrs(host, kVcpu, entries);
  BOOST_REQUIRE(refused.has_value());
  BOOST_TEST(refused->empty());
  BOOST_TEST(host.call_sizes == (std::vector<uint32_t>{255, 255, 90}),
             boost::test_tools::per_element());
  BOOST_TEST(host.written.size() == 600u);
  BOOST_TEST(std::is_sorted(host.written.begin(), host.written.end(),
                            [](const vmm_msr& a, const vmm_msr& b) { return a.index < b.index; }));
}

BOOST_AUTO_TEST_CASE(nothing_to_write_is_no_ioctl) {
  TestHost host;
  BOOST_TEST(host_kit::write_msrs(host, kVcpu, {})->empty());
  BOOST_TEST(host.call_sizes.empty());
}

BOOST_AUTO_TEST_CASE(a_refused_entry_is_named_and_the_rest_goes_on_behind_it) {
  for (const uint32_t position : {0u, 1u, 254u, 255u, 256u, 299u}) {
    TestHost host;
    host.refused = {0x1000 + position};
    const auto refused = host_kit::write_msrs(host, kVcpu, numbered(300));
    BOOST_REQUIRE(refused.has_value());
    BOOST_REQUIRE(refused->size() == 1u);
    BOOST_TEST(refused->front().index == 0x1000 + position);
    BOOST_TEST(host.written.size() == 299u);
  }
}

BOOST_AUTO_TEST_CASE(interrupts_are_retried_but_not_forever) {
  TestHost host;
  host.interrupts_left = 5;
  BOOST_TEST(host_kit::write_msrs(host, kVcpu, numbered(3)).has_value());
  host.interrupts_left = 1'000'000;
  const auto forever = host_kit::write_msrs(host, kVcpu, numbered(3));
  BOOST_REQUIRE(!forever.has_value());
  BOOST_TEST(forever.error().code == -EINTR);
}

BOOST_AUTO_TEST_CASE(an_error_names_ioctl_register_and_errno) {
  TestHost host;
  host.fail_with = -EBADF;
  const auto failed = host_kit::write_msrs(host, kVcpu, numbered(3));
  BOOST_REQUIRE(!failed.has_value());
  BOOST_TEST(failed.error().code == -EBADF);
  BOOST_TEST(failed.error().text == "KVM_SET_MSRS of 3 MSRs from 00001000 on: Bad file descriptor");
}

BOOST_AUTO_TEST_CASE(an_impossible_count_is_an_error) {
  TestHost host;
  host.lies = true;
  BOOST_TEST(host_kit::write_msrs(host, kVcpu, numbered(3)).error().code == -EPROTO);
}

BOOST_AUTO_TEST_CASE(reading_leaves_out_what_cannot_be_read) {
  TestHost host;
  host.msrs = {{1, 10}, {3, 30}};
  host.refused = {2};
  const std::vector<uint32_t> indexes = {1, 2, 3};
  const auto read = host_kit::read_msrs(host, kVcpu, indexes);
  BOOST_REQUIRE(read.has_value());
  BOOST_REQUIRE(read->size() == 2u);
  BOOST_TEST((*read)[0].value == 10u);
  BOOST_TEST((*read)[1].value == 30u);
}

BOOST_AUTO_TEST_CASE(a_batch_takes_all_or_nothing_and_only_plain_entries) {
  TestHost host;
  host_kit::MsrBatch batch(4);
  const vmm_msr_sink& sink = *batch.sink();
  const auto three = numbered(3);
  BOOST_TEST(sink.add(sink.sink_ctx, three.data(), 3) == 0);
  BOOST_TEST(sink.add(sink.sink_ctx, three.data(), 2) == -ENOSPC);
  BOOST_TEST(batch.entries().size() == 3u);
  BOOST_TEST(sink.add(sink.sink_ctx, nullptr, 1) == -EINVAL);
  BOOST_TEST(sink.add(sink.sink_ctx, three.data(), 0) == -EINVAL);
  const vmm_msr flagged{1, VMM_MSR_SAVED, 0};
  BOOST_TEST(sink.add(sink.sink_ctx, &flagged, 1) == -EINVAL);
  BOOST_TEST(batch.add(three[0]));
  BOOST_TEST(!batch.add(three[1]));  // full
  BOOST_TEST(batch.entries().size() == 4u);
  batch.truncate(1);
  BOOST_TEST(batch.flush(host, kVcpu)->empty());
  BOOST_TEST(host.written.size() == 1u);
  BOOST_TEST(batch.entries().empty());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(msr_state)

constexpr vmm_msr kList[] = {
    {1, 0, 0},                                    // stop
    {2, VMM_MSR_SAVED, 0xff},                     // 8 bits
    {3, VMM_MSR_SAVED | VMM_MSR_REQUIRED, 0xff},  // 8 bits, must be kept
    {1, 0, 0x3f},                                 // a default
    {1, VMM_MSR_SAVED, 0x3f},
};

BOOST_AUTO_TEST_CASE(what_is_saved_comes_back_in_the_order_of_the_list) {
  TestHost host;
  host.msrs = {{1, 0x15}, {2, 0x22}, {3, 0x33}};
  const auto state = host_kit::save_msrs(host, kVcpu, kList);
  BOOST_REQUIRE(state.has_value());
  BOOST_TEST(state->size() == 3u);
  host.msrs.clear();
  host.written.clear();
  const auto report = host_kit::restore_msrs(host, kVcpu, kList, *state);
  BOOST_REQUIRE(report.has_value());
  BOOST_TEST(report->dropped.empty());
  std::vector<uint32_t> order;
  for (const vmm_msr& entry : host.written) order.push_back(entry.index);
  BOOST_TEST(order == (std::vector<uint32_t>{1, 2, 3, 1, 1}), boost::test_tools::per_element());
  BOOST_TEST(host.msrs.at(1) == 0x15u);
  BOOST_TEST(host.msrs.at(2) == 0x22u);
  BOOST_TEST(host.msrs.at(3) == 0x33u);
}

BOOST_AUTO_TEST_CASE(a_register_that_the_state_lacks_gets_the_lists_own_value) {
  TestHost host;
  host.msrs = {{1, 7}};
  BOOST_TEST(host_kit::restore_msrs(host, kVcpu, kList, {}).has_value());
  BOOST_TEST(host.msrs.at(1) == 0x3fu);
}

BOOST_AUTO_TEST_CASE(a_register_that_cannot_be_read_has_no_state) {
  TestHost host;
  host.refused = {3};
  const auto state = host_kit::save_msrs(host, kVcpu, kList);
  BOOST_REQUIRE(state.has_value());
  BOOST_TEST(state->size() == 2u);
}

BOOST_AUTO_TEST_CASE(what_has_no_place_here_is_reported_unless_it_is_0) {
  TestHost host;
  host.refused = {2};
  const std::vector<host_kit::SavedMsr> state = {{2, 5}, {9, 6}, {10, 0}};
  const auto report = host_kit::restore_msrs(host, kVcpu, kList, state);
  BOOST_REQUIRE(report.has_value());
  const std::vector<host_kit::SavedMsr> expected = {{9, 6}, {2, 5}};
  BOOST_TEST((report->dropped == expected));
}

BOOST_AUTO_TEST_CASE(bits_that_do_not_exist_are_cut_and_reported) {
  TestHost host;
  const std::vector<host_kit::SavedMsr> state = {{2, 0x1ff}};
  const auto report = host_kit::restore_msrs(host, kVcpu, kList, state);
  BOOST_REQUIRE(report.has_value());
  BOOST_TEST(host.msrs.at(2) == 0xffu);
  BOOST_REQUIRE(report->dropped.size() == 1u);
  BOOST_TEST(report->dropped.front().value == 0x100u);
}

BOOST_AUTO_TEST_CASE(a_required_value_is_kept_whole_or_the_restore_fails) {
  TestHost host;
  const std::vector<host_kit::SavedMsr> too_wide = {{3, 0x1ff}};
  const auto cut = host_kit::restore_msrs(host, kVcpu, kList, too_wide);
  BOOST_REQUIRE(!cut.has_value());
  BOOST_TEST(cut.error().text ==
             "MSR 00000003 cannot be restored to 1ff: it has bits that do not exist here");
  BOOST_TEST(host.written.empty());  // nothing half done
  host.refused = {3};
  const std::vector<host_kit::SavedMsr> fits = {{3, 0xf}};
  const auto refused = host_kit::restore_msrs(host, kVcpu, kList, fits);
  BOOST_REQUIRE(!refused.has_value());
  BOOST_TEST(refused.error().code == -EIO);
  const std::vector<host_kit::SavedMsr> zero = {{3, 0}};
  BOOST_TEST(host_kit::restore_msrs(host, kVcpu, kList, zero).has_value());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(breaches)

struct Breach {
  const char* plugin;
  const char* says;  ///< in the error or the log
};
std::ostream& operator<<(std::ostream& out, const Breach& row) { return out << row.plugin; }
constexpr Breach kBreaches[] = {
    {"other_major", "ABI major 2"},
    {"small_descriptor", "bytes, ABI 1.0 needs"},
    {"small_hooks", "failed"},
    {"registers_twice", "failed"},
    {"never_registers", "without register"},
    {"positive_result", "returned a positive value"},
};

/// Everything that was said on the way from the file to a VM.
std::string drive(const std::string& path, TestHost& host) {
  auto library = host_kit::PluginLibrary::open(path);
  if (!library) return library.error();
  auto instance = host_kit::PluginInstance::create(library->descriptor(), host, "");
  std::string said = instance ? "" : instance.error().text;
  if (instance) {
    auto vm = host_kit::PluginVm::created(**instance, reinterpret_cast<vmm_vm_handle>(&host), 1);
    if (!vm) said += vm.error().text;
    if (vm) (void)(*vm)->vcpu_reset(0, kVcpu, nullptr);
  }
  for (const std::string& line : host.lines) said += " | " + line;
  return said;
}

BOOST_DATA_TEST_CASE(a_plugin_that_breaks_the_contract_is_told_off, bdata::make(kBreaches), row) {
  TestHost host;
  const std::string said =
      drive(std::string(TEST_BUILD_DIR "/tests/abi/bad_plugin_") + row.plugin + ".so", host);
  BOOST_TEST_CONTEXT(said) { BOOST_TEST(said.find(row.says) != std::string::npos); }
}

/// A plugin that a test makes up: `vm_created` and what `create` does besides registering it.
vmm_plugin made_up(int32_t (*vm_created)(void*, const vmm_vm*, void**, vmm_error*)) {
  static vmm_hooks hooks{};
  hooks.struct_size = sizeof hooks;
  hooks.vm_created = vm_created;
  vmm_plugin plugin{};
  plugin.struct_size = sizeof plugin;
  plugin.abi_major = VMM_PLUGIN_ABI_MAJOR;
  plugin.name = "made_up";
  plugin.version = "1";
  plugin.create = [](const vmm_host* host, const char*, void** ctx, vmm_error*) -> int32_t {
    static vmm_host kept;
    kept = *host;
    *ctx = &kept;  // for vm_created
    return host->register_hooks(host->host_ctx, &hooks, &kept);
  };
  plugin.destroy = [](void*) {};
  return plugin;
}

BOOST_AUTO_TEST_CASE(a_result_that_no_errno_can_be_is_a_breach) {
  static int32_t result;
  const vmm_plugin plugin =
      made_up([](void*, const vmm_vm*, void**, vmm_error*) { return result; });
  for (const int32_t number : {-4095, -4096, INT32_MIN, 1, INT32_MAX}) {
    result = number;
    TestHost host;
    auto instance = host_kit::PluginInstance::create(plugin, host, "");
    BOOST_REQUIRE(instance.has_value());
    const auto vm =
        host_kit::PluginVm::created(**instance, reinterpret_cast<vmm_vm_handle>(&host), 1);
    BOOST_REQUIRE(!vm.has_value());
    const bool errno_value = number == -4095;
    BOOST_TEST(vm.error().code == (errno_value ? number : -EPROTO));
    BOOST_TEST(host.lines.size() == (errno_value ? 0u : 1u));
  }
}

BOOST_AUTO_TEST_CASE(an_ioctl_result_that_no_errno_can_be_is_a_breach_of_the_hosts) {
  TestHost host;
  host.fail_with = INT32_MIN;
  const auto written = host_kit::write_msrs(host, kVcpu, numbered(1));
  BOOST_REQUIRE(!written.has_value());
  BOOST_TEST(written.error().code == -EPROTO);
}

BOOST_AUTO_TEST_CASE(cpuid_into_nowhere_is_refused) {
  class CpuidHost final : public TestHost {
    int32_t get_cpuid(vmm_vm_handle, vmm_vcpu_handle, uint32_t, uint32_t,
                      std::span<uint32_t, 4> registers) noexcept override {
      registers[0] = 1;
      return 0;
    }
  };
  const vmm_plugin plugin = made_up([](void* ctx, const vmm_vm* vm, void**, vmm_error*) -> int32_t {
    const auto& host = *static_cast<const vmm_host*>(ctx);
    return host.get_cpuid(host.host_ctx, vm->handle, nullptr, 0, 0, nullptr);
  });
  CpuidHost host;
  auto instance = host_kit::PluginInstance::create(plugin, host, "");
  BOOST_REQUIRE(instance.has_value());
  const auto vm =
      host_kit::PluginVm::created(**instance, reinterpret_cast<vmm_vm_handle>(&host), 1);
  BOOST_REQUIRE(!vm.has_value());
  BOOST_TEST(vm.error().code == -EINVAL);
}

BOOST_AUTO_TEST_CASE(a_text_that_overruns_its_buffer_is_a_breach) {
  const vmm_plugin plugin = made_up([](void*, const vmm_vm*, void**, vmm_error* error) -> int32_t {
    error->message[error->capacity] = 'x';
    return -EIO;
  });
  TestHost host;
  auto instance = host_kit::PluginInstance::create(plugin, host, "");
  BOOST_REQUIRE(instance.has_value());
  const auto vm =
      host_kit::PluginVm::created(**instance, reinterpret_cast<vmm_vm_handle>(&host), 1);
  BOOST_REQUIRE(!vm.has_value());
  BOOST_REQUIRE(host.lines.size() == 1u);
  BOOST_TEST(host.lines[0].find("vm_created overran the error buffer") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_descriptor_must_have_its_functions_and_no_unknown_flag) {
  vmm_plugin plugin = made_up(nullptr);
  BOOST_TEST(host_kit::check_descriptor(&plugin).has_value());
  plugin.flags = 1;
  BOOST_TEST(!host_kit::check_descriptor(&plugin).has_value());
  plugin.abi_minor = VMM_PLUGIN_ABI_MINOR + 1;  // a later minor may know it
  BOOST_TEST(host_kit::check_descriptor(&plugin).has_value());
  plugin.destroy = nullptr;
  const auto without = host_kit::check_descriptor(&plugin);
  BOOST_REQUIRE(!without.has_value());
  BOOST_TEST(without.error() == "the field 'destroy' of its descriptor is NULL");
}

/// How many entries the list of a plugin has that adds these at once.
std::size_t listed(std::vector<vmm_msr> entries) {
  static std::vector<vmm_msr> all;
  all = std::move(entries);
  static vmm_hooks hooks{};
  hooks.struct_size = sizeof hooks;
  hooks.msr_list_build = [](void*, void*, const vmm_vm*, const vmm_msr_sink* sink,
                            vmm_error*) -> int32_t {
    sink->add(sink->sink_ctx, all.data(), static_cast<uint32_t>(all.size()));
    return 0;
  };
  vmm_plugin plugin = made_up(nullptr);
  plugin.create = [](const vmm_host* host, const char*, void**, vmm_error*) -> int32_t {
    return host->register_hooks(host->host_ctx, &hooks, nullptr);
  };
  TestHost host;
  auto instance = host_kit::PluginInstance::create(plugin, host, "");
  BOOST_REQUIRE(instance.has_value());
  const auto vm =
      host_kit::PluginVm::created(**instance, reinterpret_cast<vmm_vm_handle>(&host), 1);
  BOOST_REQUIRE(vm.has_value());
  return (*vm)->msr_list()->size();
}

BOOST_AUTO_TEST_CASE(a_list_takes_all_that_is_added_at_once_or_nothing) {
  const vmm_msr saved{1, VMM_MSR_SAVED, 0}, plain{1, 0, 0};
  BOOST_TEST(listed({plain, saved, plain}) == 3u);
  BOOST_TEST(listed({plain, saved, saved}) == 0u);
  BOOST_TEST(listed({plain, {1, VMM_MSR_REQUIRED, 0}}) == 0u);
  BOOST_TEST(listed({saved, {2, 1u << 9, 0}}) == 0u);
}

BOOST_AUTO_TEST_CASE(half_a_function_of_a_descriptor_is_none) {
  vmm_plugin plugin = made_up(nullptr);
  plugin.get_extension = [](const char*) -> const void* { return nullptr; };
  for (uint32_t size = offsetof(vmm_plugin, get_extension); size <= sizeof plugin; ++size) {
    plugin.struct_size = size;
    const auto checked = host_kit::check_descriptor(&plugin);
    BOOST_REQUIRE(checked.has_value());
    BOOST_TEST((checked->get_extension != nullptr) == (size == sizeof plugin));
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(instances)

namespace {

/// A host that has what ABI 1.1 added, and answers as it is told to.
class NewHost final : public TestHost {
 public:
  bool hides = true;
  int32_t result = 0;
  uint32_t wanted = VMM_GUEST_PMU_OFF;
  std::vector<vmm_cpuid_bits> hidden;

  bool has_cpuid_hiding() const noexcept override { return hides; }
  int32_t hide_cpuid(vmm_vm_handle, std::span<const vmm_cpuid_bits> bits) noexcept override {
    hidden.assign(bits.begin(), bits.end());
    return result;
  }
  int32_t get_supported_cpuid(vmm_vm_handle, uint32_t leaf, uint32_t subleaf,
                              std::span<uint32_t, 4> registers) noexcept override {
    registers[0] = leaf;
    registers[1] = subleaf;
    return result;
  }
  uint32_t guest_pmu_wanted(vmm_vm_handle) noexcept override { return wanted; }
};

/// The table that a plugin is given by that host, for as long as this object lives.
class Given {
 public:
  explicit Given(host_kit::Host& host) : plugin_(made_up_keeper()) {
    instance_ = std::move(*host_kit::PluginInstance::create(plugin_, host, ""));
  }
  const vmm_host& table() const { return *kept; }

 private:
  static inline const vmm_host* kept = nullptr;
  static vmm_plugin made_up_keeper() {
    static vmm_hooks hooks{};
    hooks.struct_size = sizeof hooks;
    vmm_plugin plugin{};
    plugin.struct_size = sizeof plugin;
    plugin.abi_major = VMM_PLUGIN_ABI_MAJOR;
    plugin.name = "keeper";
    plugin.version = "1";
    plugin.create = [](const vmm_host* host, const char*, void** ctx, vmm_error*) -> int32_t {
      kept = host;
      *ctx = nullptr;
      return host->register_hooks(host->host_ctx, &hooks, nullptr);
    };
    plugin.destroy = [](void*) {};
    return plugin;
  }
  vmm_plugin plugin_;
  std::unique_ptr<host_kit::PluginInstance> instance_;
};

const auto kVm = reinterpret_cast<vmm_vm_handle>(uintptr_t{1});

}  // namespace

BOOST_AUTO_TEST_CASE(cpuid_bits_are_checked) {
  NewHost host;
  const Given given(host);
  const auto hide = [&](const vmm_cpuid_bits* bits, uint32_t count) {
    return given.table().hide_cpuid(given.table().host_ctx, kVm, bits, count);
  };
  const vmm_cpuid_bits good{0x80000001, 0, VMM_CPUID_ECX, 1u << 23};
  const vmm_cpuid_bits no_register[] = {good, {1, 0, VMM_CPUID_EDX + 1, 1}};
  const vmm_cpuid_bits no_bit[] = {good, {1, 0, VMM_CPUID_EAX, 0}};
  BOOST_TEST(hide(nullptr, 1) == -EINVAL);
  BOOST_TEST(hide(&good, 0) == -EINVAL);
  BOOST_TEST(hide(no_register, 2) == -EINVAL);
  BOOST_TEST(hide(no_bit, 2) == -EINVAL);
  BOOST_TEST(host.hidden.empty());
  BOOST_TEST(hide(&good, 1) == 0);
  BOOST_REQUIRE(host.hidden.size() == 1u);
  BOOST_TEST(host.hidden[0].mask == good.mask);
  for (const int32_t told : {-ENOSPC, -EPROTO, 1, INT32_MIN}) {
    host.result = told;
    BOOST_TEST(hide(&good, 1) == (told == -ENOSPC ? -ENOSPC : -EPROTO));
  }
}

BOOST_AUTO_TEST_CASE(a_host_that_cannot_hide_cpuid_bits_does_not_offer_it) {
  NewHost host;
  host.hides = false;
  BOOST_TEST((Given(host).table().hide_cpuid == nullptr));
}

BOOST_AUTO_TEST_CASE(supported_cpuid_is_0_or_a_negated_errno) {
  NewHost host;
  const Given given(host);
  uint32_t registers[4] = {};
  const auto ask = [&](uint32_t* out) {
    return given.table().get_supported_cpuid(given.table().host_ctx, kVm, 7, 1, out);
  };
  BOOST_TEST(ask(nullptr) == -EINVAL);
  BOOST_TEST(ask(registers) == 0);
  BOOST_TEST(registers[0] == 7u);
  BOOST_TEST(registers[1] == 1u);
  host.result = -ENOENT;
  BOOST_TEST(ask(registers) == -ENOENT);
  host.result = 4;
  BOOST_TEST(ask(registers) == -EPROTO);
  TestHost silent;
  const Given other(silent);
  BOOST_TEST(other.table().get_supported_cpuid(other.table().host_ctx, kVm, 0, 0, registers) ==
             -ENOENT);
}

BOOST_AUTO_TEST_CASE(what_the_vmm_was_told_of_the_guests_pmu_is_an_extension) {
  NewHost host;
  const Given given(host);
  const vmm_host& table = given.table();
  BOOST_TEST((table.get_extension(table.host_ctx, nullptr) == nullptr));
  BOOST_TEST((table.get_extension(table.host_ctx, "vmm.guest_pmu/2") == nullptr));
  const auto* guest_pmu =
      static_cast<const vmm_guest_pmu*>(table.get_extension(table.host_ctx, VMM_GUEST_PMU_ID));
  BOOST_REQUIRE(guest_pmu != nullptr);
  BOOST_TEST(guest_pmu->struct_size == sizeof *guest_pmu);
  for (const uint32_t said : {VMM_GUEST_PMU_UNSAID, VMM_GUEST_PMU_OFF, VMM_GUEST_PMU_ON, 3u}) {
    host.wanted = said;
    BOOST_TEST(guest_pmu->wanted(table.host_ctx, kVm) == (said == 3 ? VMM_GUEST_PMU_UNSAID : said));
  }
}

BOOST_AUTO_TEST_SUITE_END()
