// SPDX-License-Identifier: MIT
//
// Several vCPUs, VMs and instances at once. Worth most when built with -fsanitize=thread.
#include <atomic>
#include <barrier>
#include <boost/test/unit_test.hpp>
#include <thread>
#include <vector>

#include "host_kit/msr_io.hpp"
#include "plugin_fixture.hpp"

using namespace host_stub;

namespace {

constexpr uint32_t kThreads = 8;

/// Runs body(0) ... body(kThreads - 1) on threads of their own, which begin at the same time.
template <typename Body>
void at_once(Body body) {
  std::barrier begin(kThreads);
  std::vector<std::jthread> threads;
  for (uint32_t i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] {
      begin.arrive_and_wait();
      body(i);
    });
}

}  // namespace

BOOST_AUTO_TEST_CASE(vcpus_of_one_vm_are_reset_from_several_threads_at_once) {
  for (const char* cpuid : {"core", "v2", "plain"})
    for (const char* options : {"", "verify=on"}) {
      Rig rig({.kvm = "sim:linux-6.12,host-perfmonv2", .cpuid = cpuid}, options, kThreads);
      std::atomic<int> wrong = 0;
      at_once([&](uint32_t vcpu) {
        for (int round = 0; round < 50; ++round) {
          rig.vm.dirty(vcpu);
          if (rig.vm.reset(vcpu) != 0 || !rig.vm.stale(vcpu).empty()) ++wrong;
        }
      });
      BOOST_TEST(wrong == 0);
      BOOST_TEST(rig.host.log_lines().empty());
      // what one vCPU's reset needs, however many run
      BOOST_TEST(rig.host.ioctls("KVM_SET_MSRS").size() == kThreads * 50u);
    }
}

BOOST_AUTO_TEST_CASE(one_refused_register_is_said_once_a_vm_though_all_vcpus_find_it_at_once) {
  for (int round = 0; round < 20; ++round) {
    PluginHost host({.faults = "set_msrs:refuse=c0010206;get_msrs:refuse=c0010206"});
    const auto plugin = make_plugin(host);
    Machine first(host, *plugin, kThreads), second(host, *plugin, kThreads);
    std::atomic<int> wrong = 0;
    for (Machine* vm : {&first, &second}) {
      at_once([&](uint32_t vcpu) {
        if (vm->reset(vcpu) != 0) ++wrong;
        if (vm->reset(vcpu) != 0) ++wrong;
      });
    }
    BOOST_TEST(wrong == 0);
    BOOST_TEST(host.logged(0, {"c0010206"}) == 2u);  // once a VM
    BOOST_TEST(host.logged(0, {}) == 2u);
  }
}

BOOST_AUTO_TEST_CASE(many_absent_registers_are_each_said_once_a_vm) {
  for (int round = 0; round < 20; ++round) {
    Rig rig({.kvm = "sim:linux-6.1", .cpuid = "v2"}, "", kThreads);
    at_once([&](uint32_t vcpu) { rig.vm.reset(vcpu); });
    std::size_t said = 0;
    for (const LogLine& line : rig.host.log_lines())
      for (const char* msr : {" c0000300", " c0000301"})
        if (says(line.text, msr)) ++said;
    BOOST_TEST(said == 2u);
  }
}

BOOST_AUTO_TEST_CASE(vms_come_and_go_while_others_are_reset) {
  PluginHost host({.kvm = "sim:linux-6.12,host-perfmonv2", .cpuid = "v2"});
  const auto plugin = make_plugin(host);
  const auto verifying = make_plugin(host, "verify=on");
  const auto without_vpmu = make_plugin(host, "pmu-cap-disabled=on");
  Machine stays(host, *plugin, kThreads / 2), other(host, *verifying, kThreads / 2);
  std::atomic<int> wrong = 0;
  at_once([&](uint32_t thread) {
    if (thread < kThreads / 2) {
      for (int round = 0; round < 100; ++round)
        for (Machine* vm : {&stays, &other}) {
          vm->dirty(thread);
          if (vm->reset(thread) != 0 || !vm->stale(thread).empty()) ++wrong;
        }
      return;
    }
    for (int round = 0; round < 25; ++round) {
      Machine vm(host, thread % 2 == 0 ? *plugin : *without_vpmu, 2);
      if (vm.hooks().msr_list()->empty() != (thread % 2 != 0)) ++wrong;
      vm.dirty(1);
      if (vm.reset(1) != 0) ++wrong;
      if (thread % 2 == 0 && !vm.stale(1).empty()) ++wrong;
    }
  });
  BOOST_TEST(wrong == 0);
  BOOST_TEST(host.log_lines().empty());
}

BOOST_AUTO_TEST_CASE(instances_come_and_go_at_once_each_with_its_own_options) {
  PluginHost host({.cpuid = "core"});
  std::atomic<int> wrong = 0;
  at_once([&](uint32_t thread) {
    for (int round = 0; round < 25; ++round) {
      const bool off = (thread + static_cast<uint32_t>(round)) % 2 == 0;
      const auto plugin = make_plugin(host, off ? "pmu-reset=off" : "pmu-state=off");
      Machine vm(host, *plugin, 1);
      vm.dirty(0);
      if (vm.reset(0) != 0) ++wrong;
      if (vm.stale(0).empty() == off) ++wrong;
      if (vm.hooks().msr_list()->empty() == off) ++wrong;
    }
  });
  BOOST_TEST(wrong == 0);
}

BOOST_AUTO_TEST_CASE(what_one_vm_learns_is_nothing_to_another) {
  // two guests of one host: one whose CPUID is known, one whose is not
  PluginHost host({.kvm = "sim:linux-6.1", .cpuid = "plain"});
  const auto plugin = make_plugin(host);
  Machine unknown(host, *plugin, 1), known(host, *plugin, 1);
  host.cpuid_known = false;
  BOOST_TEST(unknown.reset(0) == 0);
  BOOST_TEST(host.logged(VMM_LOG_WARNING, {"c0000300"}) == 1u);
  host_kit::MsrBatch batch(64);
  BOOST_TEST(known.reset(0, batch.sink()) == 0);
  BOOST_TEST(batch.entries().size() == 15u);
}

BOOST_AUTO_TEST_CASE(faults_hit_several_threads_and_each_gets_its_own_result) {
  Rig rig({.faults = "set_msrs:random:seed=7,rate=20"}, "", kThreads);
  std::atomic<int> wrong = 0;
  at_once([&](uint32_t vcpu) {
    for (int round = 0; round < 100; ++round) {
      rig.vm.dirty(vcpu);
      if (rig.vm.reset(vcpu) == 0 && !rig.vm.stale(vcpu).empty()) ++wrong;
    }
  });
  BOOST_TEST(wrong == 0);
}
