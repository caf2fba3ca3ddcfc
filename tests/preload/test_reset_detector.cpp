// SPDX-License-Identifier: MIT
//
// The reset detector: what real VMMs do, and random streams against an obvious, slow model.
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "host_preload/reset_detector.hpp"
#include "host_preload/vcpu_state.hpp"

namespace host_preload {
std::ostream& operator<<(std::ostream& out, ResetAction action) {
  return out << reset_action_name(action);
}
}  // namespace host_preload

namespace {

using namespace host_preload;
using E = VcpuEvent;
using Events = std::vector<VcpuEvent>;

std::string actions_of(ResetDetector& detector, const Events& events, ResetRule rule) {
  std::string actions;
  for (const VcpuEvent event : events) {
    const ResetAction action = detector.on(event, rule);
    if (action == ResetAction::none) continue;
    actions += (actions.empty() ? "" : " ") + std::string(reset_action_name(action));
  }
  return actions;
}

Events operator+(Events a, const Events& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Events times(int n, const Events& events) {
  Events all;
  for (int i = 0; i < n; ++i) all = all + events;
  return all;
}

// Puts, in each VMM's order. PMU registers are written where the VMM writes them.
const Events kQemuReset{E::sregs_reset, E::regs_reset, E::mp_state};
const Events kQemuRuntime{E::sregs_other, E::regs_other};
const Events kQemuFull{E::sregs_other, E::regs_other, E::mp_state};
const Events kQemu11Reset{E::sregs_reset, E::regs_reset, E::pmu_control_zeroed, E::mp_state};
const Events kQemu11Load{E::sregs_other, E::regs_other, E::pmu_values, E::mp_state};
const Events kQemu11LoadZero{E::sregs_other, E::regs_other, E::pmu_control_zeroed, E::mp_state};
const Events kStratoVirt{E::mp_state, E::sregs_reset, E::regs_reset};
const Events kStratoVirtKernel{E::mp_state, E::sregs_other, E::regs_other};
const Events kOpenvmm{E::regs_reset, E::sregs_reset, E::mp_state};
const Events kVirtualBox{E::mp_state};  // registers go through kvm_run
const Events kKvmtool{E::sregs_other, E::regs_other};
const Events kCrosvmRestore{E::regs_other, E::sregs_other, E::mp_state};
const Events kRun{E::run};
const Events kCpuid{E::cpuid};

struct Row {
  const char* name;
  Events events;
  const char* strong;  // actions under the strong rule
  const char* broad;
};

std::ostream& operator<<(std::ostream& out, const Row& row) { return out << row.name; }

const std::vector<Row> kRows{
    {"QEMU: creation is no reset", kQemuReset + kQemuReset + kRun, "", ""},
    {"QEMU: creation with its CPUID", kCpuid + kQemuReset + kQemuReset + kRun, "creation",
     "creation"},
    {"QEMU: system_reset", kQemuReset + kRun + kQemuReset + kRun, "strong", "strong"},
    {"QEMU: two resets, the vCPU ran between them",
     kQemuReset + kRun + kQemuReset + kRun + kQemuReset + kRun, "strong strong", "strong strong"},
    {"QEMU: two resets with no KVM_RUN between them are one", kRun + kQemuReset + kQemuReset + kRun,
     "strong", "strong"},
    {"QEMU: a reset shows when the vCPU runs", kRun + kQemuReset, "", ""},
    {"QEMU: loadvm is a restore", kQemuReset + kRun + kQemuReset + kQemuFull + kRun, "", "broad"},
    {"QEMU: loadvm of a snapshot at the reset vector",
     kRun + kQemuReset + kQemuFull + kQemuReset + kRun, "strong", "strong"},
    {"QEMU: incoming migration", kQemuReset + kQemuReset + kQemuFull + kRun, "", ""},
    {"QEMU: incoming migration with its CPUID", kCpuid + kQemuReset + kQemuReset + kQemuFull + kRun,
     "creation", "creation"},
    {"QEMU: hot-plugged vCPU", kQemuReset + kRun, "", ""},
    {"QEMU: re-plugged vCPU, its descriptor was parked",
     kQemuReset + kRun + kCpuid + kQemuReset + kRun, "strong", "strong"},
    {"QEMU: run-time put", kQemuReset + kRun + kQemuRuntime + kRun, "", ""},
    {"QEMU: INIT with a userspace LAPIC is a run-time put",
     kQemuReset + kRun + Events{E::sregs_reset, E::regs_reset} + kRun, "", ""},
    {"QEMU: SIPI with a userspace LAPIC", kQemuReset + kRun + kQemuRuntime + kRun, "", ""},
    {"QEMU: SIPI with a userspace LAPIC is the first that runs after a reset",
     kQemuReset + kRun + kQemuReset + kQemuRuntime + kRun, "strong", "strong"},
    {"QEMU: stop and cont", kQemuReset + kRun + kRun, "", ""},
    {"QEMU 11: creation undoes the reset value of GLOBAL_CTL",
     kCpuid + kQemu11Reset + kQemu11Reset + kRun, "creation repair", "creation repair"},
    {"QEMU 11: system_reset", kRun + kQemu11Reset + kRun, "strong", "strong"},
    {"QEMU 11: loadvm keeps what it loads", kRun + kQemu11Reset + kQemu11Load + kRun, "", ""},
    {"QEMU 11: loadvm keeps a GLOBAL_CTL of 0 of the guest's",
     kRun + kQemu11Reset + kQemu11LoadZero + kRun, "", ""},
    {"QEMU 11: incoming migration keeps it as well", kQemu11Reset + kQemu11LoadZero + kRun, "", ""},
    {"QEMU 11: incoming migration keeps values", kQemu11Reset + kQemu11Load + kRun, "", ""},
    {"StratoVirt: firmware boot", kStratoVirt + kRun + kStratoVirt + kRun, "strong", "strong"},
    {"StratoVirt: direct kernel boot", kStratoVirtKernel + kRun + kStratoVirtKernel + kRun, "",
     "broad"},
    {"openvmm", kOpenvmm + kRun + kOpenvmm + kRun, "strong", "strong"},
    {"VirtualBox: registers by way of kvm_run are not seen",
     kVirtualBox + kRun + kVirtualBox + kRun, "", ""},
    {"cloud-hypervisor: a new VM, a new vCPU", kCpuid + kKvmtool + kRun, "creation", "creation"},
    {"cloud-hypervisor: a snapshot restored into a new vCPU",
     kCpuid + Events{E::regs_other, E::sregs_other, E::pmu_values, E::mp_state} + kRun, "creation",
     "creation"},
    {"kvmtool: once, at the boot sector", kKvmtool + kRun + kRun, "", ""},
    {"CPUID that is set again before the vCPU runs", kCpuid + kCpuid + kRun + kCpuid,
     "creation creation", "creation creation"},
    {"CPUID that comes after restored PMU registers", Events{E::pmu_values} + kCpuid + kRun, "",
     ""},
    {"crosvm: restore in place without PMU registers", kRun + kCrosvmRestore + kRun, "", "broad"},
    {"crosvm: restore in place with them", kRun + kCrosvmRestore + Events{E::pmu_values} + kRun, "",
     ""},
    {"crosvm: restore in place with them first",
     kRun + Events{E::pmu_values} + kCrosvmRestore + kRun, "", ""},
    {"a VMM that writes PMU values and then the reset state",
     kRun + Events{E::pmu_values} + kQemuReset + kRun, "yield", "yield"},
    {"a VMM that zeroes GLOBAL_CTL after the reset state",
     kRun + kOpenvmm + Events{E::pmu_control_zeroed} + kRun, "strong", "strong"},
    {"a VMM that zeroes counters after the reset state",
     kRun + kOpenvmm + Events{E::pmu_zeroed} + kRun, "strong", "strong"},
    {"a VMM that gives counters values after the reset state",
     kRun + kOpenvmm + Events{E::pmu_values, E::pmu_control_zeroed} + kRun, "yield", "yield"},
    {"a KVM_RUN between the parts",
     kRun + Events{E::sregs_reset, E::regs_reset} + kRun + Events{E::mp_state} + kRun, "", ""},
    {"the reset vector is left again before the last part",
     kRun + Events{E::sregs_reset, E::regs_reset, E::regs_other, E::mp_state} + kRun, "", "broad"},
    {"the same registers twice",
     kRun + Events{E::sregs_reset, E::sregs_reset, E::regs_reset, E::mp_state} + kRun, "strong",
     "strong"},
    {"a thousand run-time puts", times(1000, kRun + kQemuRuntime), "", ""},
};

}  // namespace

BOOST_DATA_TEST_CASE(streams_of_real_vmms, boost::unit_test::data::make(kRows), row) {
  ResetDetector strong, broad;
  BOOST_TEST(actions_of(strong, row.events, ResetRule::strong) == row.strong);
  BOOST_TEST(actions_of(broad, row.events, ResetRule::broad) == row.broad);
}

BOOST_AUTO_TEST_CASE(the_three_parts_in_any_order) {
  Events order{E::sregs_reset, E::regs_reset, E::mp_state};
  std::sort(order.begin(), order.end());
  do {
    ResetDetector detector;
    BOOST_TEST(actions_of(detector, kRun + order + kRun, ResetRule::strong) == "strong");
  } while (std::next_permutation(order.begin(), order.end()));
}

BOOST_AUTO_TEST_CASE(a_running_vcpu_is_quiet) {
  ResetDetector detector;
  BOOST_TEST(!detector.quiet());
  detector.on(E::run, ResetRule::strong);
  BOOST_TEST(detector.quiet());
  detector.on(E::mp_state, ResetRule::strong);
  BOOST_TEST(!detector.quiet());
  detector.clear();
  BOOST_TEST(!detector.quiet());
}

// ---- the model ---------------------------------------------------------------------------------

namespace {

/// The rules, read off a list of all that happened: nothing is folded into state, every question is
/// asked of the history anew.
class SlowModel {
 public:
  explicit SlowModel(ResetRule rule) : rule_(rule) {}

  ResetAction on(E event) {
    const ResetAction action = decide(event);
    history_.push_back(event);
    return action;
  }

 private:
  static bool any(const Events& events, std::initializer_list<E> of) {
    return std::any_of(events.begin(), events.end(),
                       [&](E event) { return std::find(of.begin(), of.end(), event) != of.end(); });
  }
  static bool all_parts(const Events& events) {
    return any(events, {E::sregs_reset, E::sregs_other}) &&
           any(events, {E::regs_reset, E::regs_other}) && any(events, {E::mp_state});
  }
  /// The one of two that came last.
  static bool last_is(const Events& events, E first, E second) {
    const auto found = std::find_if(events.rbegin(), events.rend(),
                                    [&](E event) { return event == first || event == second; });
    return found != events.rend() && *found == first;
  }

  /// The events of the last load in `window` that has all three parts; empty: there is none.
  static Events last_load(Events window) {
    Events load;
    while (all_parts(window)) {
      load.clear();
      while (!all_parts(load)) {
        load.push_back(window.front());
        window.erase(window.begin());
      }
    }
    return load;
  }

  ResetAction decide(E event) const {
    const auto window_begin = std::find(history_.rbegin(), history_.rend(), E::run).base();
    const Events window(window_begin, history_.end());
    const bool ran = any(history_, {E::run});
    const bool values = any(window, {E::pmu_values});
    const bool pmu = any(window, {E::pmu_values, E::pmu_zeroed, E::pmu_control_zeroed});
    if (event == E::cpuid && !ran && !pmu) return ResetAction::reset_created;
    if (event != E::run) return ResetAction::none;
    const Events load = last_load(window);
    if (load.empty()) return ResetAction::none;
    const bool at_vector = last_is(load, E::sregs_reset, E::sregs_other) &&
                           last_is(load, E::regs_reset, E::regs_other);
    if (ran && at_vector) return values ? ResetAction::yield : ResetAction::reset_strong;
    if (ran && !at_vector && !pmu && rule_ == ResetRule::broad) return ResetAction::reset_broad;
    if (!ran && at_vector && !values && any(window, {E::pmu_control_zeroed}))
      return ResetAction::repair;
    return ResetAction::none;
  }

  ResetRule rule_;
  Events history_;
};

}  // namespace

BOOST_AUTO_TEST_CASE(random_streams_agree_with_the_model) {
  std::mt19937 random(20261123);
  std::size_t resets = 0, creations = 0, repairs = 0, yields = 0;
  for (int stream = 0; stream < 20000; ++stream) {
    const ResetRule rule = stream % 2 == 0 ? ResetRule::strong : ResetRule::broad;
    ResetDetector detector;
    SlowModel model(rule);
    std::string so_far;
    for (int i = 0; i < 40; ++i) {
      // reset states more often than an even draw would have them
      static constexpr E kDraw[]{
          E::run,        E::sregs_reset, E::regs_reset, E::mp_state,   E::sregs_reset,
          E::regs_reset, E::sregs_other, E::regs_other, E::pmu_zeroed, E::pmu_control_zeroed,
          E::pmu_values, E::run,         E::mp_state,   E::cpuid};
      const E event = kDraw[random() % std::size(kDraw)];
      so_far += std::to_string(static_cast<int>(event)) + " ";
      const ResetAction expected = model.on(event);
      const ResetAction found = detector.on(event, rule);
      if (found != expected)
        BOOST_FAIL("after " << so_far << "found " << found << ", expected " << expected);
      resets += expected == ResetAction::reset_strong || expected == ResetAction::reset_broad;
      creations += expected == ResetAction::reset_created;
      repairs += expected == ResetAction::repair;
      yields += expected == ResetAction::yield;
    }
  }
  BOOST_TEST_MESSAGE(resets << " resets, " << creations << " creations, " << repairs << " repairs, "
                            << yields << " yields");
  BOOST_TEST(resets > 1000u);
  BOOST_TEST(creations > 1000u);
  BOOST_TEST(repairs > 500u);
  BOOST_TEST(yields > 1000u);
}

BOOST_AUTO_TEST_CASE(of_three_threads_that_find_a_reset_one_is_told) {
  constexpr int kRounds = 2000;
  ResetDetector detector;
  std::atomic<int> told{0}, ready{0}, round{0};
  const auto play = [&] {
    for (int i = 1; i <= kRounds; ++i) {
      while (round.load() < i) std::this_thread::yield();
      if (detector.on(E::run, ResetRule::strong) == ResetAction::reset_strong) ++told;
      ++ready;
    }
  };
  detector.on(E::run, ResetRule::strong);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back(play);
  for (int i = 1; i <= kRounds; ++i) {
    for (const E event : kQemuReset) detector.on(event, ResetRule::strong);
    round.store(i);
    while (ready.load() < 3 * i) std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST(told.load() == kRounds);
}

BOOST_AUTO_TEST_CASE(parts_of_a_load_that_three_threads_write_are_one_reset) {
  constexpr int kRounds = 2000;
  ResetDetector detector;
  std::atomic<int> ready{0}, round{0};
  const auto play = [&](E event) {
    for (int i = 1; i <= kRounds; ++i) {
      while (round.load() < i) std::this_thread::yield();
      detector.on(event, ResetRule::strong);
      ++ready;
    }
  };
  detector.on(E::run, ResetRule::strong);
  std::vector<std::thread> threads;
  for (const E event : kQemuReset) threads.emplace_back(play, event);
  int told = 0;
  for (int i = 1; i <= kRounds; ++i) {
    round.store(i);
    while (ready.load() < 3 * i) std::this_thread::yield();
    if (detector.on(E::run, ResetRule::strong) == ResetAction::reset_strong) ++told;
  }
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST(told == kRounds);
}

// ---- reading the ioctls ------------------------------------------------------------------------

namespace {

kvm_sregs sregs_at(uint16_t selector, uint64_t base, uint64_t cr0) {
  kvm_sregs sregs{};
  sregs.cs.selector = selector;
  sregs.cs.base = base;
  sregs.cr0 = cr0;
  return sregs;
}

}  // namespace

BOOST_AUTO_TEST_CASE(sregs_at_the_reset_vector) {
  BOOST_CHECK(sregs_event(sregs_at(0xf000, 0xffff0000, 0x60000010)) == E::sregs_reset);
  BOOST_CHECK(sregs_event(sregs_at(0xf000, 0xf0000, 0x60000010)) == E::sregs_reset);
  BOOST_CHECK(sregs_event(sregs_at(0xf000, 0xffff0000, 0x60000011)) == E::sregs_other);
  BOOST_CHECK(sregs_event(sregs_at(0x0000, 0xffff0000, 0x10)) == E::sregs_other);
  BOOST_CHECK(sregs_event(sregs_at(0x9000, 0x90000, 0x10)) == E::sregs_other);  // SIPI
  BOOST_CHECK(sregs_event(sregs_at(0xf000, 0, 0x10)) == E::sregs_other);
}

BOOST_AUTO_TEST_CASE(regs_at_the_reset_vector) {
  kvm_regs regs{};
  BOOST_CHECK(regs_event(regs) == E::regs_other);
  regs.rip = 0xfff0;
  BOOST_CHECK(regs_event(regs) == E::regs_reset);
}

BOOST_AUTO_TEST_CASE(msrs_of_the_pmu) {
  using Entries = std::vector<kvm_msr_entry>;
  BOOST_CHECK(msrs_event(Entries{}) == std::nullopt);
  BOOST_CHECK(msrs_event(Entries{{0x10, 0, 7}, {0xc0000080, 0, 1}}) == std::nullopt);
  BOOST_CHECK(msrs_event(Entries{{0x10, 0, 7}, {0xc0010200, 0, 0}}) == E::pmu_zeroed);
  BOOST_CHECK(msrs_event(Entries{{0xc0000301, 0, 0}, {0xc0010200, 0, 0}}) == E::pmu_control_zeroed);
  BOOST_CHECK(msrs_event(Entries{{0xc0010200, 0, 0}, {0xc0000301, 0, 0}}) == E::pmu_control_zeroed);
  BOOST_CHECK(msrs_event(Entries{{0xc0000301, 0, 0}, {0xc0010201, 0, 1}}) == E::pmu_values);
  BOOST_CHECK(msrs_event(Entries{{0xc0000301, 0, 0x3f}}) == E::pmu_values);
}

BOOST_AUTO_TEST_CASE(the_pmu_registers_and_their_neighbours) {
  for (const uint32_t index :
       {0xc0000300u, 0xc0000303u, 0xc0010000u, 0xc0010007u, 0xc0010200u, 0xc001020bu})
    BOOST_TEST(is_amd_pmu_msr(index));
  for (const uint32_t index :
       {0xc00002ffu, 0xc0000304u, 0xc000ffffu, 0xc0010008u, 0xc00101ffu, 0xc001020cu, 0x10u})
    BOOST_TEST(!is_amd_pmu_msr(index));
}
