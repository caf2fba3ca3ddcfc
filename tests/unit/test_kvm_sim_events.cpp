// SPDX-License-Identifier: MIT
//
// The life of KVM's perf events behind the guest's counters, and when a guest takes an NMI.
#include <boost/test/unit_test.hpp>
#include <cstring>

#include "support/sim_machine.hpp"

using namespace sim_test;  // NOLINT: a test's vocabulary

namespace {

constexpr uint32_t kSelector0 = 0xc0010200;
constexpr uint32_t kCounter0 = 0xc0010201;
constexpr uint32_t kLvtNmi = host_stub::Lapic::kModeNmi;
constexpr uint64_t kPeriod = 1000000;

/// What a guest's perf does for a sampling event on counter 0.
void sample(Machine& machine, uint64_t period = kPeriod) {
  machine.vcpu->guest_write_lvtpc(kLvtNmi);
  BOOST_REQUIRE(machine.vcpu->guest_wrmsr(kCounter0, kFull - period).has_value());
  BOOST_REQUIRE(machine.vcpu->guest_wrmsr(kSelector0, kCycles).has_value());
}

/// What a VMM without a fix does at a reset: the local APIC, and not the PMU.
void reset_without_fix(Machine& machine) {
  kvm_lapic_state lapic{};
  BOOST_REQUIRE(machine.vcpu->ioctl(KVM_GET_LAPIC, &lapic) == 0);
  const uint32_t masked = host_stub::Lapic::kMasked;
  std::memcpy(lapic.regs + host_stub::Lapic::kLvtpc, &masked, sizeof masked);
  BOOST_REQUIRE(machine.vcpu->ioctl(KVM_SET_LAPIC, &lapic) == 0);
}

void zero_pmu(Machine& machine) {
  std::vector<kvm_msr_entry> entries;
  for (uint32_t i = 0; i < 6; ++i) entries.push_back({kSelector0 + 2 * i, 0, 0});
  for (uint32_t i = 0; i < 6; ++i) entries.push_back({kCounter0 + 2 * i, 0, 0});
  BOOST_REQUIRE(msrs(*machine.vcpu, VMM_KVM_SET_MSRS, entries) == 12);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_selector_with_en_counts_guest_cycles_and_one_without_does_not) {
  Machine machine("sim:linux-6.12");
  set(*machine.vcpu, kSelector0, kCycles);
  set(*machine.vcpu, kSelector0 + 2, kCycles & ~(uint64_t{1} << 22));
  machine.vcpu->guest_run(12345);
  BOOST_TEST(machine.value(kCounter0) == 12345U);
  BOOST_TEST(machine.value(kCounter0 + 2) == 0U);
}

BOOST_AUTO_TEST_CASE(a_selector_with_neither_os_nor_usr_counts_nothing) {
  Machine machine("sim:linux-6.12");
  set(*machine.vcpu, kSelector0, kCycles & ~uint64_t{0x30000});
  machine.vcpu->guest_run(1000);
  BOOST_TEST(machine.value(kCounter0) == 0U);
}

BOOST_AUTO_TEST_CASE(reprogramming_waits_for_the_next_run_since_6_2_and_is_at_once_before) {
  Machine deferred("sim:linux-6.12");
  set(*deferred.vcpu, kSelector0, kCycles);
  BOOST_TEST(deferred.sim().live_events() == 0U);
  deferred.vcpu->guest_run(0);
  BOOST_TEST(deferred.sim().live_events() == 1U);
  Machine at_once("sim:linux-6.1");
  set(*at_once.vcpu, kSelector0, kCycles);
  BOOST_TEST(at_once.sim().live_events() == 1U);
}

BOOST_AUTO_TEST_CASE(an_event_set_and_cleared_between_two_runs_is_never_made_since_6_2) {
  Machine machine("sim:linux-6.12");
  set(*machine.vcpu, kSelector0, kCycles);
  set(*machine.vcpu, kSelector0, 0);
  machine.vcpu->guest_run(100);
  BOOST_TEST(machine.sim().live_events() == 0U);
}

BOOST_AUTO_TEST_CASE(a_stale_event_lives_on_over_any_number_of_runs) {
  Machine machine("sim:linux-6.12");
  sample(machine, kFull / 2);
  for (int i = 0; i < 20; ++i) machine.vcpu->guest_run(10);
  reset_without_fix(machine);
  for (int i = 0; i < 20; ++i) machine.vcpu->guest_run(10);
  BOOST_TEST(machine.sim().live_events() == 1U);
  BOOST_TEST(machine.value(kSelector0) == kCycles);
}

BOOST_AUTO_TEST_CASE(zeroed_selectors_stop_counting_at_once_and_free_the_event_on_the_second_run) {
  Machine machine("sim:linux-6.12");
  sample(machine);
  machine.vcpu->guest_run(10);
  zero_pmu(machine);
  BOOST_TEST(machine.sim().live_events() == 1U);
  machine.vcpu->guest_run(10);
  BOOST_TEST(machine.sim().live_events() == 1U);
  BOOST_TEST(machine.value(kCounter0) == 0U);
  machine.vcpu->guest_run(10);
  BOOST_TEST(machine.sim().live_events() == 0U);
}

BOOST_AUTO_TEST_CASE(an_overflow_with_lvtpc_nmi_ends_the_run_at_that_very_cycle) {
  Machine machine("sim:linux-6.12");
  sample(machine);
  const host_stub::GuestRun run = machine.vcpu->guest_run(kPeriod * 3);
  BOOST_TEST(run.nmi);
  BOOST_TEST(run.cycles == kPeriod);
  BOOST_TEST(machine.value(kCounter0) == 0U);
}

BOOST_AUTO_TEST_CASE(after_an_overflow_the_next_one_is_a_whole_counter_away) {
  Machine machine("sim:linux-6.12");
  sample(machine);
  BOOST_TEST(machine.vcpu->guest_run(kPeriod * 3).nmi);
  BOOST_TEST(!machine.vcpu->guest_run(kFull - 1).nmi);
  BOOST_TEST(machine.vcpu->guest_run(1).nmi);
}

BOOST_AUTO_TEST_CASE(an_overflow_without_int_or_with_lvtpc_masked_is_no_nmi) {
  Machine masked("sim:linux-6.12");
  sample(masked);
  masked.vcpu->guest_write_lvtpc(kLvtNmi | host_stub::Lapic::kMasked);
  BOOST_TEST(!masked.vcpu->guest_run(kPeriod * 3).nmi);
  Machine no_int("sim:linux-6.12");
  sample(no_int);
  set(*no_int.vcpu, kSelector0, kCycles & ~(uint64_t{1} << 20));
  BOOST_TEST(!no_int.vcpu->guest_run(kPeriod * 3).nmi);
}

BOOST_AUTO_TEST_CASE(lvtpc_stays_unmasked_after_an_nmi_but_on_a_6_6_without_the_fix) {
  for (const host_stub::Kernel& kernel : host_stub::kernels()) {
    Machine machine("sim:" + std::string(kernel.name));
    sample(machine);
    BOOST_TEST(machine.vcpu->guest_run(kPeriod).nmi);
    const uint32_t masked = kernel.lvtpc_masked_on_delivery ? host_stub::Lapic::kMasked : 0;
    BOOST_TEST(machine.sim().lvtpc() == (kLvtNmi | masked), kernel.name);
  }
}

BOOST_AUTO_TEST_CASE(a_stale_event_is_an_unknown_nmi_once_the_new_kernel_sets_lvtpc) {
  for (const host_stub::Kernel& kernel : host_stub::kernels()) {
    Machine machine("sim:" + std::string(kernel.name));
    sample(machine);
    machine.vcpu->guest_run(kPeriod / 2);
    reset_without_fix(machine);
    BOOST_TEST(!machine.vcpu->guest_run(kPeriod / 4).nmi);  // the new kernel boots, LVTPC masked
    machine.vcpu->guest_write_lvtpc(kLvtNmi);               // its perf driver loads
    const host_stub::GuestRun run = machine.vcpu->guest_run(kPeriod);
    BOOST_TEST(run.nmi);  // of an event that this kernel knows nothing of
    BOOST_TEST(run.cycles == kPeriod / 4);
  }
}

BOOST_AUTO_TEST_CASE(a_stale_event_that_overflows_while_lvtpc_is_masked_is_lost_for_good) {
  Machine machine("sim:linux-6.12");
  sample(machine);
  reset_without_fix(machine);
  BOOST_TEST(!machine.vcpu->guest_run(kPeriod * 2).nmi);
  machine.vcpu->guest_write_lvtpc(kLvtNmi);
  BOOST_TEST(!machine.vcpu->guest_run(kPeriod * 2).nmi);
}

BOOST_AUTO_TEST_CASE(zeroed_selectors_at_the_reset_end_the_unknown_nmi) {
  for (const host_stub::Kernel& kernel : host_stub::kernels()) {
    Machine machine("sim:" + std::string(kernel.name));
    sample(machine);
    machine.vcpu->guest_run(kPeriod / 2);
    reset_without_fix(machine);
    zero_pmu(machine);
    machine.vcpu->guest_write_lvtpc(kLvtNmi);
    BOOST_TEST(!machine.vcpu->guest_run(kFull * 2).nmi);
  }
}

BOOST_AUTO_TEST_CASE(a_counter_written_zero_pushes_the_overflow_a_whole_counter_away) {
  Machine machine("sim:linux-6.12");
  sample(machine);
  machine.vcpu->guest_run(kPeriod / 2);
  set(*machine.vcpu, kCounter0, 0);
  BOOST_TEST(machine.vcpu->guest_run(kFull * 2).cycles == kFull);
}

BOOST_AUTO_TEST_CASE(without_an_irqchip_no_nmi_can_come_from_kvm) {
  Machine machine("sim:linux-6.12", kCore, false);
  sample(machine);
  BOOST_TEST(!machine.vcpu->guest_run(kPeriod * 3).nmi);
}

BOOST_AUTO_TEST_CASE(with_perfmonv2_global_ctl_gates_counting_and_pauses_the_event) {
  Machine machine("sim:linux-6.12,host-perfmonv2", kV2);
  set(*machine.vcpu, kSelector0, kCycles);
  machine.vcpu->guest_run(100);
  set(*machine.vcpu, 0xc0000301, 0);
  machine.vcpu->guest_run(100);
  BOOST_TEST(machine.value(kCounter0) == 100U);
  machine.vcpu->guest_run(100);
  BOOST_TEST(machine.sim().live_events() == 1U);  // EN is set: it stays allocated
  set(*machine.vcpu, 0xc0000301, 0x3f);
  machine.vcpu->guest_run(100);
  BOOST_TEST(machine.value(kCounter0) == 200U);
}

BOOST_AUTO_TEST_CASE(
    a_guest_that_knows_no_perfmonv2_counts_nothing_after_global_ctl_was_reset_to_0) {
  Machine machine("sim:linux-6.12,host-perfmonv2", kV2);
  set(*machine.vcpu, 0xc0000301, 0);
  sample(machine);
  machine.vcpu->guest_run(kPeriod * 2);
  BOOST_TEST(machine.value(kCounter0) == kFull - kPeriod);
}

BOOST_AUTO_TEST_CASE(an_overflow_sets_its_global_status_bit) {
  Machine machine("sim:linux-6.12,host-perfmonv2", kV2);
  set(*machine.vcpu, kSelector0 + 10, kCycles);
  set(*machine.vcpu, kCounter0 + 10, kFull - 5);
  machine.vcpu->guest_run(5);
  BOOST_TEST(machine.value(0xc0000300) == 0x20U);
}

BOOST_AUTO_TEST_CASE(a_mediated_vpmu_counts_and_interrupts_without_any_perf_event) {
  Machine machine("sim:linux-7.2,host-perfmonv2,mediated", kV2);
  sample(machine);
  const host_stub::GuestRun run = machine.vcpu->guest_run(kPeriod * 3);
  BOOST_TEST(run.nmi);
  BOOST_TEST(run.cycles == kPeriod);
  BOOST_TEST(machine.sim().live_events() == 0U);
}

BOOST_AUTO_TEST_CASE(a_host_that_holds_all_counters_leaves_the_guests_events_without_one) {
  Machine machine("sim:linux-6.12,host-perf-busy");
  sample(machine);
  const host_stub::GuestRun run = machine.vcpu->guest_run(kPeriod * 3);
  BOOST_TEST(!run.nmi);
  BOOST_TEST(machine.value(kCounter0) == kFull - kPeriod);
  BOOST_TEST(machine.value(kSelector0) == kCycles);  // the registers say nothing of it
  BOOST_TEST(machine.sim().live_events() == 1U);
}

BOOST_AUTO_TEST_CASE(the_hosts_nmi_watchdog_leaves_all_counters_but_one) {
  Machine machine("sim:linux-6.12,host-perf-busy=1");
  for (uint32_t i = 0; i < 6; ++i) set(*machine.vcpu, kSelector0 + 2 * i, kCycles);
  machine.vcpu->guest_run(100);
  for (uint32_t i = 0; i < 6; ++i)
    BOOST_TEST(machine.value(kCounter0 + 2 * i) == (i < 5 ? 100U : 0U));
  // one that stops frees its counter for the next that is programmed
  set(*machine.vcpu, kSelector0, 0);
  machine.vcpu->guest_run(0);
  set(*machine.vcpu, kSelector0 + 10, kCycles | 1);
  machine.vcpu->guest_run(100);
  BOOST_TEST(machine.value(kCounter0 + 10) == 100U);
}

BOOST_AUTO_TEST_CASE(with_the_vpmu_off_nothing_counts_and_no_event_is_made) {
  Machine machine("sim:linux-6.12", kCore, true, true);
  set(*machine.vcpu, 0xc0010000, kCycles);
  machine.vcpu->guest_run(1000);
  BOOST_TEST(machine.sim().live_events() == 0U);
  BOOST_TEST(machine.value(0xc0010004) == 0U);
}

BOOST_AUTO_TEST_CASE(a_filter_that_hides_the_msrs_does_not_stop_an_event_that_lives) {
  Machine machine("sim:linux-5.10");
  sample(machine);
  machine.vcpu->guest_run(10);
  deny(*machine.vm, 0xc0010200, 12);
  BOOST_TEST(machine.vcpu->guest_run(kPeriod).nmi);
}
