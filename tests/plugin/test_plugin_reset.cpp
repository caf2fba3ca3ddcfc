// SPDX-License-Identifier: MIT
//
// What a reset of a vCPU does to the PMU registers of KVM, for each kind of guest and host.
#include <boost/test/unit_test.hpp>
#include <string>

#include "host_kit/msr_io.hpp"
#include "kvm/msr_request.hpp"
#include "plugin_fixture.hpp"
#include "sim/pmu_msrs.hpp"

using namespace host_stub;

namespace {

constexpr Plan kLegacy4{Plan::legacy, 4, false, 0};
constexpr Plan kExtended6{Plan::extended, 6, false, 0};
constexpr Plan kVersion2{Plan::extended, 6, true, 0x3f};

/// CPUID leaves that the fixture's models cannot make.
constexpr CpuidResult kFeaturesWithoutCore{};
constexpr CpuidResult perfmon_v2_with(uint32_t counters) { return {1, counters, 0, 0}; }

void no_cpuid(vmm_host& host) { host.get_cpuid = nullptr; }

/// Hosts that differ in which registers are there, and how they refuse.
constexpr const char* kHosts[] = {
    "sim:linux-5.10",
    "sim:linux-5.10,counters=4",
    "sim:linux-6.1",
    "sim:linux-6.1,enable_pmu=N",
    "sim:linux-6.12",
    "sim:linux-6.12,counters=4",
    "sim:linux-6.12,enable_pmu=N",
    "sim:linux-6.12,host-perfmonv2",
    "sim:linux-6.12,host-perfmonv2,vendor=hygon",
    "sim:linux-6.12,vendor=intel",
    "sim:linux-6.18,host-perfmonv2",
    "sim:linux-6.18,enable_pmu=N",
    "sim:linux-7.2",
    "sim:linux-7.2,host-perfmonv2",
    "sim:linux-7.2,host-perfmonv2,mediated",
};
/// Counters that a guest finds in its CPUID, and so may leave running. PerfMonV2's number of them
/// is not asked: a guest that does not know it uses the whole bank, where KVM lets it. 5.10 has six
/// counters whatever CPUID says.
uint32_t announced_counters(const GuestCpuidTable& cpuid) {
  const bool core = (cpuid.lookup(0x80000001, 0).ecx >> 23 & 1) != 0;
  return core ? kMaxCounters : kLegacyCounters;
}

constexpr const char* kGuests[] = {"host", "plain", "core", "v2=0",
                                   "v2=1", "v2=4",  "v2=6", "v2=12"};

}  // namespace

BOOST_AUTO_TEST_SUITE(registers)

BOOST_AUTO_TEST_CASE(every_register_of_every_vcpu_reads_0_after_one_KVM_SET_MSRS_a_vcpu) {
  Rig rig;
  for (const uint32_t vcpu : {0u, 1u}) {
    rig.vm.dirty(vcpu);
    BOOST_TEST(rig.vm.read(vcpu, kMsrCtl0).value() == kStaleSelector);
  }
  rig.host.forget();
  BOOST_TEST(rig.vm.reset(0) == 0);
  BOOST_TEST(rig.vm.stale(0) == "");
  BOOST_TEST(rig.vm.stale(1) != "");
  BOOST_TEST(rig.vm.reset(1) == 0);
  BOOST_TEST(rig.vm.stale(1) == "");
  const auto made = rig.host.ioctls();
  BOOST_REQUIRE(made.size() == 2u);
  for (const int64_t vcpu : {0, 1}) {
    const IoctlEvent& event = made[static_cast<std::size_t>(vcpu)];
    BOOST_TEST(event.name == "KVM_SET_MSRS");
    BOOST_TEST(event.vcpu == vcpu);
    BOOST_TEST(event.result == 12);
  }
  BOOST_TEST(rig.host.log_lines().empty());
}

BOOST_AUTO_TEST_CASE(a_second_reset_is_harmless_and_the_same) {
  Rig rig({.kvm = "sim:linux-6.12,host-perfmonv2", .cpuid = "v2"});
  rig.vm.dirty(0);
  rig.host.forget();
  BOOST_TEST(rig.vm.reset(0) == 0);
  BOOST_TEST(rig.vm.reset(0) == 0);
  const auto made = rig.host.ioctls();
  BOOST_REQUIRE(made.size() == 2u);
  BOOST_TEST(to_line(made[0]) == to_line(made[1]));
  BOOST_TEST(rig.vm.stale(0) == "");
}

BOOST_AUTO_TEST_CASE(with_a_batch_of_the_host_the_plugin_makes_no_ioctl) {
  Rig rig({.kvm = "sim:linux-6.12,host-perfmonv2", .cpuid = "v2"});
  const std::string plan = text_of(writes_of(kVersion2));
  for (const uint32_t vcpu : {0u, 1u}) {
    rig.vm.dirty(vcpu);
    rig.host.forget();
    host_kit::MsrBatch batch(64);
    BOOST_TEST(batch.add({0x10, 0, 7}));  // the host's own
    BOOST_TEST(rig.vm.reset(vcpu, batch.sink()) == 0);
    BOOST_TEST(rig.host.ioctls().empty());
    BOOST_TEST(text_of(batch.entries()) == "00000010=7 " + plan);
    const auto refused = batch.flush(rig.host, rig.vm.handle(vcpu));
    BOOST_REQUIRE(refused.has_value());
    BOOST_TEST(refused->empty());
    BOOST_TEST(rig.host.ioctls().size() == 1u);
    BOOST_TEST(rig.vm.stale(vcpu) == "");
  }
}

BOOST_AUTO_TEST_CASE(
    global_ctl_is_all_enable_bits_after_a_reset_and_nothing_is_written_while_it_runs) {
  Rig rig({.kvm = "sim:linux-6.12,host-perfmonv2", .cpuid = "v2"});
  rig.vm.dirty(0);
  BOOST_TEST(rig.vm.write(0, kMsrGlobalCtl, 0));
  rig.host.forget();
  BOOST_TEST(rig.vm.reset(0) == 0);
  BOOST_TEST(rig.vm.read(0, kMsrGlobalCtl).value() == 0x3fu);
  BOOST_TEST(text_of(rig.host.ioctls("KVM_SET_MSRS").at(0)) ==
             "c0000301=0 "
             "c0010200=0 c0010202=0 c0010204=0 c0010206=0 c0010208=0 c001020a=0 "
             "c0010201=0 c0010203=0 c0010205=0 c0010207=0 c0010209=0 c001020b=0 "
             "c0000300=0 c0000301=3f");
}

BOOST_AUTO_TEST_CASE(perf_events_of_the_old_guest_are_released) {
  Rig rig;
  rig.vm.dirty(0);
  rig.vm.sim(0).guest_run(1000);
  BOOST_TEST(rig.vm.sim(0).live_events() == 6u);
  // without a reset they stay for as long as the VM lives
  for (int slice = 0; slice < 4; ++slice) rig.vm.sim(0).guest_run(1000);
  BOOST_TEST(rig.vm.sim(0).live_events() == 6u);
  BOOST_TEST(rig.vm.reset(0) == 0);
  for (int slice = 0; slice < 4; ++slice) rig.vm.sim(0).guest_run(1000);
  BOOST_TEST(rig.vm.sim(0).live_events() == 0u);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(layouts)

BOOST_AUTO_TEST_CASE(the_guests_cpuid_decides_what_is_written) {
  const struct {
    const char* kvm;
    const char* cpuid;
    Plan plan;
  } rows[] = {
      {"sim:linux-6.12", "plain", kLegacy4},
      {"sim:linux-6.12", "core", kExtended6},
      {"sim:linux-6.12", "host", kExtended6},
      {"sim:linux-6.12,counters=4", "host", kLegacy4},
      {"sim:linux-6.12,host-perfmonv2", "host", kVersion2},
      {"sim:linux-6.12,host-perfmonv2", "v2", kVersion2},
      // fewer counters in the leaf than the bank has: who ignores the leaf has them all
      {"sim:linux-6.12,host-perfmonv2", "v2=0", {Plan::extended, 6, true, 0}},
      {"sim:linux-6.12,host-perfmonv2", "v2=1", {Plan::extended, 6, true, 1}},
      {"sim:linux-6.12,host-perfmonv2", "v2=4", {Plan::extended, 6, true, 0xf}},
      // more than KVM can have
      {"sim:linux-6.12,host-perfmonv2", "v2=12", kVersion2},
      {"sim:linux-6.12,host-perfmonv2", "v2=15", kVersion2},
      {"sim:linux-6.12,vendor=hygon", "host", kExtended6},
      {"sim:linux-6.12", "core,vendor=hygon", kExtended6},
      {"sim:linux-6.12", "core,vendor=intel", {}},
      {"sim:linux-6.12,vendor=intel", "host", {}},
  };
  for (const auto& row : rows) {
    BOOST_TEST_CONTEXT(row.kvm << " " << row.cpuid) {
      Rig rig({.kvm = row.kvm, .cpuid = row.cpuid});
      const std::string plan = text_of(writes_of(row.plan));
      host_kit::MsrBatch batch(64);
      BOOST_TEST(rig.vm.reset(0, batch.sink()) == 0);
      BOOST_TEST(text_of(batch.entries()) == plan);
      rig.vm.dirty(0);
      rig.host.forget();
      BOOST_TEST(rig.vm.reset(0) == 0);
      const auto made = rig.host.ioctls();
      BOOST_TEST((made.empty() ? "" : text_of(made[0])) == plan);
      if (row.plan.bank != Plan::nothing) BOOST_TEST(rig.vm.stale(0) == "");
    }
  }
}

BOOST_AUTO_TEST_CASE(perfmonv2_without_the_extended_bank_is_for_the_four_legacy_counters) {
  const struct {
    uint32_t claimed;
    Plan plan;
  } rows[] = {{0, {Plan::legacy, 4, true, 0}},
              {2, {Plan::legacy, 4, true, 3}},
              {4, {Plan::legacy, 4, true, 0xf}},
              {6, {Plan::legacy, 4, true, 0xf}}};
  for (const auto& row : rows) {
    Rig rig;
    rig.host.other_cpuid[0x80000001] = kFeaturesWithoutCore;
    rig.host.other_cpuid[0x80000022] = perfmon_v2_with(row.claimed);
    host_kit::MsrBatch batch(64);
    BOOST_TEST(rig.vm.reset(0, batch.sink()) == 0);
    BOOST_TEST(text_of(batch.entries()) == text_of(writes_of(row.plan)));
  }
}

BOOST_AUTO_TEST_CASE(an_intel_guest_is_left_alone) {
  Rig rig({.cpuid = "core,vendor=intel"});
  rig.vm.dirty(0);
  const std::string before = rig.vm.stale(0);
  rig.host.forget();
  BOOST_TEST(rig.vm.reset(0) == 0);
  BOOST_TEST(rig.host.ioctls().empty());
  BOOST_TEST(rig.vm.stale(0) == before);
  BOOST_TEST(rig.vm.hooks().msr_list().value().empty());
}

BOOST_AUTO_TEST_CASE(whatever_a_guest_can_leave_alive_is_reset_on_every_host) {
  for (const char* kvm : kHosts)
    for (const char* cpuid : kGuests) {
      BOOST_TEST_CONTEXT(kvm << " " << cpuid) {
        Rig rig({.kvm = kvm, .cpuid = cpuid}, "verify=on");
        for (int round = 0; round < 3; ++round) {
          rig.vm.dirty(0, announced_counters(rig.host.cpuid()));
          BOOST_TEST(rig.vm.reset(0) == 0);
          BOOST_TEST(rig.vm.stale(0) == "");
        }
        BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {}) == 0u);
      }
    }
}

BOOST_AUTO_TEST_CASE(whatever_is_alive_is_reset_while_the_guests_cpuid_is_not_known) {
  const vmm_plugin without_function = plugin_with_edited_host<no_cpuid>();
  for (const bool function : {true, false})
    for (const char* kvm : kHosts)
      for (const char* cpuid : kGuests) {
        BOOST_TEST_CONTEXT(kvm << " " << cpuid << (function ? " ENOENT" : " NULL")) {
          PluginHost host({.kvm = kvm, .cpuid = cpuid});
          host.cpuid_known = false;
          const auto plugin =
              make_plugin(host, "", function ? plugin_descriptor() : without_function);
          Machine vm(host, *plugin, 1);
          for (int round = 0; round < 2; ++round) {
            vm.dirty(0);
            BOOST_TEST(vm.reset(0) == 0);
            BOOST_TEST(vm.stale(0) == "");
          }
          BOOST_TEST(host.logged(VMM_LOG_ERROR, {}) == 0u);
          // all that is not there is learnt at once, and said at most once
          BOOST_TEST(host.logged(0, {"KVM does not have"}) <= 1u);
          host.forget();
          BOOST_TEST(vm.reset(0) == 0);
          BOOST_TEST(host.ioctls().size() <= 1u);
        }
      }
}

BOOST_AUTO_TEST_CASE(a_mediated_vpmu_that_kvm_left_off_in_silence_is_found_off) {
  // without an in-kernel interrupt controller; the capability still says that there is one
  for (const char* cpuid : {"plain", "core", "v2"}) {
    Rig rig({.kvm = "sim:linux-7.2,host-perfmonv2,mediated", .cpuid = cpuid, .irqchip = false},
            "verify=on,strict=on");
    rig.vm.dirty(0);
    BOOST_TEST(rig.vm.reset(0) == 0);
    BOOST_TEST(rig.vm.stale(0) == "");
    BOOST_TEST(rig.host.log_lines().empty());
    rig.host.forget();
    BOOST_TEST(rig.vm.reset(0) == 0);
    BOOST_TEST(rig.host.ioctls("KVM_SET_MSRS").size() <= 1u);
  }
}

BOOST_AUTO_TEST_CASE(an_unknown_guest_gets_each_counter_once_and_the_global_registers) {
  Rig rig;
  rig.host.cpuid_known = false;
  host_kit::MsrBatch batch(64);
  BOOST_TEST(rig.vm.reset(0, batch.sink()) == 0);
  BOOST_TEST(text_of(batch.entries()) ==
             "c0000301=0 c0010000=0 c0010001=0 c0010002=0 c0010003=0 c0010208=0 c001020a=0 "
             "c0010004=0 c0010005=0 c0010006=0 c0010007=0 c0010209=0 c001020b=0 "
             "c0000300=0 c0000301=3f");
}

BOOST_AUTO_TEST_CASE(a_cpuid_that_becomes_known_is_used_and_then_kept) {
  Rig rig({.cpuid = "plain"});
  rig.host.cpuid_known = false;
  host_kit::MsrBatch unknown(64), known(64), kept(64);
  BOOST_TEST(rig.vm.reset(0, unknown.sink()) == 0);
  BOOST_TEST(unknown.entries().size() == 15u);
  rig.host.cpuid_known = true;
  BOOST_TEST(rig.vm.reset(0, known.sink()) == 0);
  BOOST_TEST(text_of(known.entries()) == text_of(writes_of(kLegacy4)));
  rig.host.cpuid_known = false;  // asked once a vCPU
  BOOST_TEST(rig.vm.reset(0, kept.sink()) == 0);
  BOOST_TEST(text_of(kept.entries()) == text_of(known.entries()));
}

BOOST_AUTO_TEST_CASE(vcpus_that_differ_in_their_cpuid_are_reset_each_by_its_own) {
  Rig rig;
  rig.host.vcpu_cpuid[rig.vm.handle(1)] = {{0x80000001, kFeaturesWithoutCore}};
  host_kit::MsrBatch with_core(64), without(64);
  BOOST_TEST(rig.vm.reset(0, with_core.sink()) == 0);
  BOOST_TEST(rig.vm.reset(1, without.sink()) == 0);
  BOOST_TEST(text_of(with_core.entries()) == text_of(writes_of(kExtended6)));
  BOOST_TEST(text_of(without.entries()) == text_of(writes_of(kLegacy4)));
}

BOOST_AUTO_TEST_CASE(a_cpuid_of_which_leaves_are_missing_counts_as_unknown) {
  for (const uint32_t leaf : {0u, 0x80000001u, 0x80000022u}) {
    Rig rig;
    rig.host.unknown_leaf = leaf;
    host_kit::MsrBatch batch(64);
    BOOST_TEST(rig.vm.reset(0, batch.sink()) == 0);
    BOOST_TEST(batch.entries().size() == 15u);
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(options)

BOOST_AUTO_TEST_CASE(an_option_that_is_off_leaves_its_hook_null) {
  PluginHost host{HostSpec{}};
  const struct {
    const char* options;
    bool reset, list;
  } rows[] = {{"", true, true},
              {"pmu-reset=off", false, true},
              {"pmu-state=off", true, false},
              {"pmu-reset=off,pmu-state=off", false, false}};
  for (const auto& row : rows) {
    const auto plugin = make_plugin(host, row.options);
    BOOST_TEST((plugin->hooks().vcpu_reset != nullptr) == row.reset);
    BOOST_TEST((plugin->hooks().msr_list_build != nullptr) == row.list);
    BOOST_TEST((plugin->hooks().vm_created != nullptr));
    BOOST_TEST((plugin->hooks().vm_destroyed != nullptr));
  }
}

BOOST_AUTO_TEST_CASE(with_verify_the_selectors_are_read_back_and_the_batch_is_not_used) {
  Rig rig({}, "verify=on");
  rig.vm.dirty(0);
  rig.host.forget();
  host_kit::MsrBatch batch(64);
  BOOST_TEST(rig.vm.reset(0, batch.sink()) == 0);
  BOOST_TEST(batch.entries().empty());
  const auto made = rig.host.ioctls();
  BOOST_REQUIRE(made.size() == 2u);
  BOOST_TEST(made[0].name == "KVM_SET_MSRS");
  BOOST_TEST(made[1].name == "KVM_GET_MSRS");
  BOOST_TEST(text_of(made[1]) ==
             "c0010200=0 c0010202=0 c0010204=0 c0010206=0 c0010208=0 c001020a=0");
  BOOST_TEST(rig.vm.stale(0) == "");
}

BOOST_AUTO_TEST_CASE(a_vm_without_vpmu_is_not_touched) {
  Rig rig({}, "pmu-cap-disabled=on,verify=on");
  rig.host.forget();
  host_kit::MsrBatch batch(64);
  BOOST_TEST(rig.vm.reset(0, batch.sink()) == 0);
  BOOST_TEST(batch.entries().empty());
  // one look at a counter, at the VM's first reset
  const auto looked = rig.host.ioctls();
  BOOST_TEST_REQUIRE(looked.size() == 2U);
  BOOST_TEST(text_of(looked[0]) == "c0010004=1");
  rig.host.forget();
  for (uint32_t vcpu : {0U, 1U}) BOOST_TEST(rig.vm.reset(vcpu) == 0);
  BOOST_TEST(rig.host.ioctls().empty());
}

namespace {

/// KVM as after the VMM's own KVM_ENABLE_CAP(KVM_CAP_PMU_CAPABILITY, 0): a counter keeps what is
/// written.
void switch_on_again(PluginHost& host) {
  host.vcpu_answer = [counter = uint64_t{0}](uint32_t request,
                                             void* arg) mutable -> std::optional<int32_t> {
    const std::span<kvm_msr_entry> entries = msr_entries(arg);
    if (entries.size() != 1 || entries[0].index != 0xc0010004) return std::nullopt;
    if (request == VMM_KVM_SET_MSRS) counter = entries[0].data;
    if (request == VMM_KVM_GET_MSRS) entries[0].data = counter;
    return 1;
  };
}

constexpr const char* kMustBeOff = "the vPMU is on although it should be off (strict=on)";

}  // namespace

BOOST_AUTO_TEST_CASE(a_vpmu_that_was_switched_on_again_is_said_once_and_reset) {
  Rig rig({}, "pmu-cap-disabled=on");
  rig.host.forget();
  switch_on_again(rig.host);
  for (uint32_t vcpu : {0U, 1U, 0U}) BOOST_TEST(rig.vm.reset(vcpu) == 0);
  BOOST_TEST(rig.host.logged(VMM_LOG_WARNING, {"the vPMU is on although it was switched off"}) ==
             1U);
  BOOST_TEST(rig.host.ioctls("KVM_SET_MSRS").size() >= 3U);
}

BOOST_AUTO_TEST_CASE(with_strict_a_vpmu_that_was_switched_on_again_fails_each_reset) {
  Rig rig({}, "pmu-cap-disabled=on,strict=on");
  switch_on_again(rig.host);
  for (uint32_t vcpu : {0U, 1U, 0U}) BOOST_TEST(rig.vm.reset(vcpu) == -EIO);
  BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {kMustBeOff}) == 3U);
}

BOOST_AUTO_TEST_CASE(
    a_live_vpmu_that_kvm_offers_no_way_to_switch_off_is_reset_or_with_strict_fails) {
  for (const bool strict : {false, true}) {
    BOOST_TEST_CONTEXT("strict " << strict) {
      Rig rig({.kvm = "sim:linux-6.12,no-pmu-capability"},
              strict ? "pmu-cap-disabled=on,strict=on" : "pmu-cap-disabled=on");
      rig.vm.dirty(0);
      BOOST_TEST(rig.vm.reset(0) == (strict ? -EIO : 0));
      BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {kMustBeOff}) == (strict ? 1U : 0U));
      if (strict) continue;
      BOOST_TEST(rig.vm.stale(0) == "");
      BOOST_TEST(rig.vm.reset(1) == 0);
      BOOST_TEST(rig.host.logged(VMM_LOG_WARNING, {"KVM offers no way to switch it off"}) == 1U);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
