// SPDX-License-Identifier: MIT
//
// The PMU registers that a host saves and restores: the list, its order, and what comes back.
#include <fmt/format.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <map>
#include <string>
#include <vector>

#include "host_kit/msr_io.hpp"
#include "host_kit/msr_state.hpp"
#include "plugin_fixture.hpp"
#include "sim/pmu_msrs.hpp"
#include "stub_vmm/stub_vmm.hpp"

using namespace host_stub;
using host_kit::SavedMsr;
using List = std::vector<vmm_msr>;
using State = std::vector<SavedMsr>;

namespace {

constexpr const char* kV2Host = "sim:linux-6.12,host-perfmonv2";

/// Twelve values of which no two are the same, so that a register that lands in another shows.
const State kTwelve = {{0xc0010200, 0xa0}, {0xc0010201, 0x10}, {0xc0010202, 0xa1},
                       {0xc0010203, 0x11}, {0xc0010204, 0xa2}, {0xc0010205, 0x12},
                       {0xc0010206, 0xa3}, {0xc0010207, 0x13}, {0xc0010208, 0xa4},
                       {0xc0010209, 0x14}, {0xc001020a, 0xa5}, {0xc001020b, 0x15}};

List list_of(Rig& rig) { return rig.vm.hooks().msr_list().value(); }

State save(Rig& rig, uint32_t vcpu = 0) {
  return host_kit::save_msrs(rig.host, rig.vm.handle(vcpu), list_of(rig)).value();
}

tl::expected<host_kit::RestoreReport, host_kit::MsrIoError> restore(Rig& rig, const State& state,
                                                                    uint32_t vcpu = 0) {
  return host_kit::restore_msrs(rig.host, rig.vm.handle(vcpu), list_of(rig), state);
}

void give(const Rig& rig, const State& values, uint32_t vcpu = 0) {
  for (const SavedMsr& msr : values) BOOST_REQUIRE(rig.vm.write(vcpu, msr.index, msr.value));
}

/// The registers that do not hold these values.
std::string differing(const Rig& rig, const State& values, uint32_t vcpu = 0) {
  std::string text;
  for (const SavedMsr& msr : values)
    if (rig.vm.read(vcpu, msr.index) != msr.value)
      text +=
          fmt::format("{:08x}={:x} ", msr.index, rig.vm.read(vcpu, msr.index).value_or(0xdeadbeef));
  return text;
}

std::string flags_of(uint32_t flags) {
  return flags == 0 ? "" : (flags & VMM_MSR_REQUIRED) != 0 ? "!" : "s";
}

/// "c0000301=0 s:c0010200 ...": constants with their value, saved ones with their mask.
std::string shape_of(const List& list) {
  std::string text;
  for (const vmm_msr& entry : list)
    text += fmt::format("{}{}{:08x}={:x}", text.empty() ? "" : " ", flags_of(entry.flags),
                        entry.index, entry.value);
  return text;
}

/// What is unsafe in an order of writes that a vCPU gets in any state; "" = nothing.
/// Safe: nothing can count or overflow while the registers are of two worlds. So everything is
/// stopped first (GLOBAL_CTL 0 before all else, then no selector enabled before all counters are
/// written), and GLOBAL_CTL gets a value again only when nothing but it follows.
std::string unsafe_order(const std::vector<vmm_msr>& writes, bool has_global) {
  bool running = has_global;  // GLOBAL_CTL not known to be 0
  std::map<uint32_t, bool> enabled;
  for (std::size_t i = 0; i < writes.size(); ++i) {
    const vmm_msr& write = writes[i];
    if (write.index == kMsrGlobalCtl) {
      running = write.value != 0;
      if (i == 0 && running) return "GLOBAL_CTL is not stopped first";
      continue;
    }
    if (has_global && running) return fmt::format("{:08x} is written while running", write.index);
    if (!is_selector(write.index)) {
      for (const auto& [selector, on] : enabled)
        if (on && write.index != kMsrGlobalStatus)
          return fmt::format("{:08x} is written while {:08x} is enabled", write.index, selector);
      continue;
    }
    enabled[write.index] = (write.value & kSelectorEn) != 0;
  }
  if (has_global && (writes.empty() || writes.back().index != kMsrGlobalCtl))
    return "GLOBAL_CTL is not last";
  return "";
}

}  // namespace

BOOST_AUTO_TEST_SUITE(lists)

BOOST_AUTO_TEST_CASE(the_list_stops_everything_then_brings_counters_selectors_status_and_ctl) {
  Rig rig({.kvm = kV2Host, .cpuid = "v2=2"});
  BOOST_TEST(shape_of(list_of(rig)) ==
             "c0000301=0 "
             "c0010200=0 c0010202=0 c0010204=0 c0010206=0 c0010208=0 c001020a=0 "
             "c0010201=0 c0010203=0 c0010205=0 c0010207=0 c0010209=0 c001020b=0 "
             "c0000300=0 "
             "sc0010201=ffffffffffff sc0010203=ffffffffffff sc0010205=ffffffffffff "
             "sc0010207=ffffffffffff sc0010209=ffffffffffff sc001020b=ffffffffffff "
             "sc0010200=ffffffffffffffff sc0010202=ffffffffffffffff "
             "sc0010204=ffffffffffffffff sc0010206=ffffffffffffffff "
             "sc0010208=ffffffffffffffff sc001020a=ffffffffffffffff "
             "sc0000300=3 c0000301=3 sc0000301=3");
}

BOOST_AUTO_TEST_CASE(every_register_of_the_guest_is_saved_once_and_no_other) {
  const struct {
    const char* kvm;
    const char* cpuid;
    Plan plan;
  } rows[] = {
      {"sim:linux-6.12", "plain", {Plan::legacy, 4, false, 0}},
      {"sim:linux-6.12", "core", {Plan::extended, 6, false, 0}},
      {kV2Host, "v2=0", {Plan::extended, 6, true, 0}},
      {kV2Host, "v2=4", {Plan::extended, 6, true, 0xf}},
      {kV2Host, "v2", {Plan::extended, 6, true, 0x3f}},
      {kV2Host, "v2=12", {Plan::extended, 6, true, 0x3f}},
      {"sim:linux-6.12", "core,vendor=hygon", {Plan::extended, 6, false, 0}},
      {"sim:linux-6.12", "core,vendor=intel", {}},
  };
  for (const auto& row : rows)
    for (const char* options : {"", "strict=on"}) {
      BOOST_TEST_CONTEXT(row.kvm << " " << row.cpuid << " " << options) {
        Rig rig({.kvm = row.kvm, .cpuid = row.cpuid}, options);
        std::vector<uint32_t> saved, wanted;
        for (const vmm_msr& entry : list_of(rig)) {
          BOOST_TEST(entry.index != kMsrGlobalStatusClr);
          BOOST_TEST(entry.index != kMsrGlobalStatusSet);
          if (entry.flags == 0) continue;
          saved.push_back(entry.index);
          // REQUIRED is strict's alone
          BOOST_TEST(entry.flags ==
                     (*options != 0 ? VMM_MSR_SAVED | VMM_MSR_REQUIRED : VMM_MSR_SAVED));
          if (entry.index == kMsrGlobalCtl || entry.index == kMsrGlobalStatus)
            BOOST_TEST(entry.value == row.plan.global_ctl);
        }
        for (const vmm_msr& entry : writes_of(row.plan))
          if (row.plan.bank != Plan::legacy || entry.index < kMsrCtl0)
            wanted.push_back(entry.index);
        if (row.plan.global) wanted.pop_back();  // GLOBAL_CTL twice
        std::ranges::sort(saved);
        std::ranges::sort(wanted);
        BOOST_TEST(saved == wanted, boost::test_tools::per_element());
      }
    }
}

BOOST_AUTO_TEST_CASE(the_list_is_the_same_each_time) {
  Rig rig({.kvm = kV2Host, .cpuid = "v2"});
  const std::string first = shape_of(list_of(rig));
  BOOST_TEST(shape_of(list_of(rig)) == first);
  BOOST_TEST(rig.vm.reset(0) == 0);
  BOOST_TEST(shape_of(list_of(rig)) == first);
}

BOOST_AUTO_TEST_CASE(a_vm_without_vpmu_has_no_state) {
  Rig rig({.kvm = kV2Host, .cpuid = "v2"}, "pmu-cap-disabled=on");
  BOOST_TEST(list_of(rig).empty());
}

BOOST_AUTO_TEST_CASE(a_strict_vm_without_vpmu_refuses_registers_that_run) {
  Rig from, to({}, "pmu-cap-disabled=on,strict=on");
  give(from, {{0xc0010200, 0x530076}});
  const auto restored = restore(to, save(from));
  BOOST_REQUIRE(!restored.has_value());
  BOOST_TEST(says(restored.error().text, "c0010200"));
  give(from, {{0xc0010200, 0}});
  BOOST_TEST(restore(to, save(from)).has_value());
}

BOOST_AUTO_TEST_CASE(onto_a_filtered_vm_nothing_comes_back_that_runs) {
  Rig from, to({}, "pmu-cap-disabled=on,pmu-off-method=msr-filter");
  give(from, {{0xc0010200, 0x530076}, {0xc0010201, 77}});
  const auto restored = restore(to, save(from));
  BOOST_REQUIRE(restored.has_value());
  BOOST_TEST(restored->dropped.size() == 2U);  // and said
  BOOST_TEST(to.vm.read(0, 0xc0010200).value_or(1) == 0U);
  BOOST_TEST(to.vm.read(0, 0xc0010201).value_or(1) == 0U);
}

BOOST_AUTO_TEST_CASE(without_pmu_state_there_is_no_list) {
  Rig rig({}, "pmu-state=off");
  BOOST_TEST((rig.plugin->hooks().msr_list_build == nullptr));
  BOOST_TEST(list_of(rig).empty());
}

BOOST_AUTO_TEST_CASE(an_unknown_guest_has_every_counter_once_in_the_list) {
  Rig rig;
  rig.host.cpuid_known = false;
  std::size_t saved = 0;
  for (const vmm_msr& entry : list_of(rig)) saved += (entry.flags & VMM_MSR_SAVED) != 0 ? 1 : 0;
  BOOST_TEST(saved == 14u);
  // and comes back, though this guest lacks the last two and the global ones
  Rig plain({.cpuid = "plain"});
  plain.host.cpuid_known = false;
  const State values = {
      {0xc0010000, 0xa0}, {0xc0010004, 0x10}, {0xc0010003, 0xa3}, {0xc0010007, 3}};
  give(plain, values);
  const State state = save(plain);
  BOOST_TEST(plain.vm.reset(0) == 0);
  const auto report = restore(plain, state);
  BOOST_REQUIRE(report.has_value());
  BOOST_TEST(report->dropped.empty());
  BOOST_TEST(differing(plain, values) == "");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(round_trips)

BOOST_AUTO_TEST_CASE(twelve_values_come_back_each_to_its_own_register) {
  Rig rig;
  give(rig, kTwelve);
  const State state = save(rig);
  BOOST_TEST(state.size() == 12u);
  rig.vm.dirty(0);
  const auto report = restore(rig, state);
  BOOST_REQUIRE(report.has_value());
  BOOST_TEST(report->dropped.empty());
  BOOST_TEST(differing(rig, kTwelve) == "");
  // into another vCPU and another VM alike
  Machine other(rig.host, *rig.plugin, 1);
  const auto list = other.hooks().msr_list().value();
  BOOST_TEST(host_kit::restore_msrs(rig.host, other.handle(0), list, state).has_value());
  for (const SavedMsr& msr : kTwelve) BOOST_TEST(other.read(0, msr.index).value() == msr.value);
}

BOOST_AUTO_TEST_CASE(the_round_trip_would_show_registers_that_are_saved_by_a_wrong_index) {
  // As a VMM does that numbers the registers by msr - c0010200 and forgets that selectors and
  // counters alternate: CTL1 lands in CTL2, CTR0 in CTR1, the last three of each are lost.
  Rig rig;
  give(rig, kTwelve);
  const State state = save(rig);
  uint64_t selectors[18] = {}, counters[18] = {};
  for (const SavedMsr& msr : state) {
    const uint32_t index = msr.index - kMsrCtl0;
    (index % 2 == 0 ? selectors : counters)[index] = msr.value;
  }
  State scrambled;
  for (uint32_t i = 0; i < kMaxCounters; ++i) {
    scrambled.push_back({kMsrCtl0 + 2 * i, selectors[i]});
    scrambled.push_back({kMsrCtr0 + 2 * i, counters[i]});
  }
  BOOST_TEST(restore(rig, scrambled).has_value());
  BOOST_TEST(rig.vm.read(0, 0xc0010202).value() == 0u);
  BOOST_TEST(rig.vm.read(0, 0xc0010203).value() == 0x10u);
  BOOST_TEST(rig.vm.read(0, 0xc0010204).value() == 0xa1u);
  BOOST_TEST(differing(rig, kTwelve) != "");
  BOOST_TEST(restore(rig, state).has_value());
  BOOST_TEST(differing(rig, kTwelve) == "");
}

BOOST_AUTO_TEST_CASE(the_global_registers_come_back_as_they_were) {
  for (const uint64_t ctl : {uint64_t{0}, uint64_t{0x15}, uint64_t{0x3f}}) {
    Rig rig({.kvm = kV2Host, .cpuid = "v2"});
    State values = kTwelve;
    values.push_back({kMsrGlobalStatus, 0x2a});
    values.push_back({kMsrGlobalCtl, ctl});
    give(rig, values);
    const State state = save(rig);
    BOOST_TEST(state.size() == 14u);
    rig.vm.dirty(0);
    const auto report = restore(rig, state);
    BOOST_REQUIRE(report.has_value());
    BOOST_TEST(report->dropped.empty());
    BOOST_TEST(differing(rig, values) == "");
  }
}

BOOST_AUTO_TEST_CASE(a_round_trip_is_exact_on_every_host_and_for_every_guest) {
  for (const char* kvm : {"sim:linux-5.10", "sim:linux-6.1", "sim:linux-6.1,enable_pmu=N",
                          "sim:linux-6.12", kV2Host, "sim:linux-6.12,enable_pmu=N",
                          "sim:linux-6.18,host-perfmonv2", "sim:linux-7.2,host-perfmonv2,mediated"})
    for (const char* cpuid : {"plain", "core", "v2", "v2=4"}) {
      BOOST_TEST_CONTEXT(kvm << " " << cpuid) {
        Rig rig({.kvm = kvm, .cpuid = cpuid}, "strict=on");
        rig.vm.dirty(0, std::string_view(cpuid) == "plain" ? 4 : 6);
        const std::string before = rig.vm.stale(0);
        const State state = save(rig);
        BOOST_TEST(rig.vm.reset(0) == 0);
        BOOST_TEST(rig.vm.stale(0) == "");
        const auto report = restore(rig, state);
        BOOST_REQUIRE(report.has_value());
        BOOST_TEST(report->dropped.empty());
        BOOST_TEST(rig.vm.stale(0) == before);
      }
    }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(orders)

BOOST_AUTO_TEST_CASE(nothing_counts_at_any_point_of_a_restore) {
  for (const char* cpuid : {"plain", "core", "v2=0", "v2=3", "v2"}) {
    BOOST_TEST_CONTEXT(cpuid) {
      Rig rig({.kvm = kV2Host, .cpuid = cpuid});
      rig.vm.dirty(0);
      const State state = save(rig);
      rig.host.forget();
      BOOST_TEST(restore(rig, state).has_value());
      std::vector<vmm_msr> writes;
      for (const IoctlEvent& event : rig.host.ioctls("KVM_SET_MSRS")) {
        const std::string text = text_of(event);
        int32_t left = event.result;  // those behind were not written
        for (std::size_t at = 0; at < text.size() && left > 0;
             --left, at = std::min(text.find(' ', at), text.size() - 1) + 1)
          writes.push_back({static_cast<uint32_t>(std::stoul(text.substr(at, 8), nullptr, 16)), 0,
                            std::stoull(text.substr(at + 9), nullptr, 16)});
      }
      BOOST_TEST(!writes.empty());
      const bool global = std::string_view(cpuid).starts_with("v2");
      BOOST_TEST(unsafe_order(writes, global) == "");
      // the check is one: any of these orders fails it
      if (cpuid != std::string_view("v2")) continue;
      auto reversed = writes;
      std::reverse(reversed.begin(), reversed.end());
      BOOST_TEST(unsafe_order(reversed, true) != "");
      auto unstopped = writes;
      unstopped.erase(unstopped.begin());
      BOOST_TEST(unsafe_order(unstopped, true) != "");
      auto early = writes;
      std::rotate(early.begin(), early.end() - 1, early.end());
      BOOST_TEST(unsafe_order(early, true) != "");
    }
  }
}

BOOST_AUTO_TEST_CASE(a_restore_over_a_running_vcpu_leaves_none_of_its_events) {
  Rig rig({.kvm = kV2Host, .cpuid = "v2"});
  const State clean = [&] {
    BOOST_TEST(rig.vm.reset(0) == 0);
    return save(rig);
  }();
  rig.vm.dirty(0);
  BOOST_TEST(rig.vm.write(0, kMsrGlobalCtl, 0x3f));
  rig.vm.sim(0).guest_run(100);
  BOOST_TEST(rig.vm.sim(0).live_events() == 6u);
  BOOST_TEST(restore(rig, clean).has_value());
  BOOST_TEST(rig.vm.stale(0) == "");
  for (int slice = 0; slice < 4; ++slice) rig.vm.sim(0).guest_run(100);
  BOOST_TEST(rig.vm.sim(0).live_events() == 0u);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(other_hosts)

BOOST_AUTO_TEST_CASE(a_state_without_some_registers_restores_those_to_their_reset_values) {
  Rig rig({.kvm = kV2Host, .cpuid = "v2"});
  rig.vm.dirty(0);
  const State state = {{0xc0010200, 0xa0}, {0xc0010201, 0x10}};  // as of a host without PerfMonV2
  const auto report = restore(rig, state);
  BOOST_REQUIRE(report.has_value());
  BOOST_TEST(report->dropped.empty());
  BOOST_TEST(rig.vm.read(0, kMsrGlobalCtl).value() == 0x3fu);
  BOOST_TEST(rig.vm.stale(0) == "c0010000=a0 c0010004=10 c0010200=a0 c0010201=10");
  rig.vm.dirty(0);
  BOOST_TEST(restore(rig, {}).has_value());
  BOOST_TEST(rig.vm.stale(0) == "");
}

BOOST_AUTO_TEST_CASE(bits_beyond_the_guests_counters_are_dropped_or_with_strict_refused) {
  Rig from({.kvm = kV2Host, .cpuid = "v2"});
  give(from, {{kMsrGlobalStatus, 0x21}, {kMsrGlobalCtl, 0x31}});
  const State state = save(from);
  Rig to({.kvm = kV2Host, .cpuid = "v2=4"});
  const auto report = restore(to, state);
  BOOST_REQUIRE(report.has_value());
  BOOST_TEST((report->dropped == State{{kMsrGlobalStatus, 0x20}, {kMsrGlobalCtl, 0x30}}));
  BOOST_TEST(to.vm.read(0, kMsrGlobalStatus).value() == 1u);
  BOOST_TEST(to.vm.read(0, kMsrGlobalCtl).value() == 1u);
  Rig strict({.kvm = kV2Host, .cpuid = "v2=4"}, "strict=on");
  const auto refused = restore(strict, state);
  BOOST_REQUIRE(!refused.has_value());
  BOOST_TEST(says(refused.error().text, "c0000300"));
}

BOOST_AUTO_TEST_CASE(counters_are_cut_to_48_bits) {
  Rig rig;
  const auto report = restore(rig, {{0xc0010201, 0xffff123456789abc}});
  BOOST_REQUIRE(report.has_value());
  BOOST_TEST(rig.vm.read(0, 0xc0010201).value() == 0x123456789abcu);
  BOOST_TEST((report->dropped == State{{0xc0010201, 0xffff000000000000}}));
}

/// A VMM with one vCPU and the plugin, and its warnings.
struct Restored {
  Restored(const char* kvm_spec, const char* cpuid, const char* options)
      : host({.kvm = kvm_spec, .cpuid = cpuid, .record = false}) {
    VmmConfig config;
    config.cpuid = CpuidModel::parse(cpuid).value();
    config.plugins = {{kPluginPath, options}};
    auto made = StubVmm::create(host.kvm(), config, [this](const Event& event) {
      if (event.kind == Event::Kind::log && event.level <= VMM_LOG_WARNING)
        warnings.push_back(event.text);
    });
    BOOST_REQUIRE(made.has_value());
    vmm = std::move(*made);
  }
  PluginHost host;  // for its KVM
  std::vector<std::string> warnings;
  std::unique_ptr<StubVmm> vmm;
};

BOOST_AUTO_TEST_CASE(a_host_with_fewer_registers_drops_them_with_one_warning_or_refuses) {
  Rig from({.kvm = kV2Host, .cpuid = "v2"});
  State values = kTwelve;
  values.push_back({kMsrGlobalStatus, 1});
  values.push_back({kMsrGlobalCtl, 0x3f});
  give(from, values);
  const StubVmm::VmState state = {save(from)};
  const struct {
    const char* kvm;
    const char* cpuid;
    std::vector<const char*> lost;  // named in the warning, and by the error
  } rows[] = {
      // KVM lacks what the guest's CPUID promises
      {"sim:linux-6.1", "v2", {"c0000300=1", "c0000301=3f"}},
      {"sim:linux-6.12,enable_pmu=N", "v2", {"c0010200=a0", "c001020b=15", "c0000301=3f"}},
      // the guest's CPUID promises less
      {"sim:linux-6.12", "core", {"c0000300=1", "c0000301=3f"}},
      {"sim:linux-6.12", "plain", {"c0010200=a0", "c001020b=15", "c0000301=3f"}},
  };
  for (const auto& row : rows) {
    BOOST_TEST_CONTEXT(row.kvm << " " << row.cpuid) {
      Restored to(row.kvm, row.cpuid, "");
      to.warnings.clear();
      BOOST_TEST(to.vmm->restore(state).has_value());
      BOOST_REQUIRE(to.warnings.size() == 1u);
      for (const char* lost : row.lost) BOOST_TEST(says(to.warnings[0], lost), lost);
      // what is there came back
      if (row.cpuid == std::string_view("core"))
        BOOST_TEST(to.vmm->save().value().at(0).size() == 12u);
    }
  }
}

BOOST_AUTO_TEST_CASE(with_strict_a_host_whose_kvm_lacks_a_saved_register_refuses_the_state) {
  Rig from({.kvm = kV2Host, .cpuid = "v2"});
  give(from, kTwelve);
  const StubVmm::VmState state = {save(from)};
  for (const char* kvm : {"sim:linux-6.1", "sim:linux-6.12,enable_pmu=N"}) {
    BOOST_TEST_CONTEXT(kvm) {
      Restored to(kvm, "v2", "strict=on");
      const auto restored = to.vmm->restore(state);
      BOOST_REQUIRE(!restored.has_value());
      BOOST_TEST(says(restored.error().text, "cannot be restored"));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
