// SPDX-License-Identifier: MIT
//
// Fault scripts: what they say, and what they make of the ioctls of a KVM that works.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <optional>
#include <string>
#include <vector>

#include "kvm/faults.hpp"
#include "support/fake_kvm.hpp"
#include "support/said.hpp"

using namespace host_stub;

namespace {

constexpr uint32_t kCtl0 = 0xc0010200;
constexpr uint32_t kCtr0 = 0xc0010201;
constexpr uint32_t kCtl1 = 0xc0010202;

// A KVM that works, under the faults of a script.
struct Faulty {
  explicit Faulty(const std::string& script)
      : kvm(with_faults(std::make_unique<FakeKvm>(state), parse_faults(script).value())) {}

  void start() {
    vm = kvm->create_vm().value();
    vcpu = vm->create_vcpu(0).value();
  }
  int32_t set(const std::vector<kvm_msr_entry>& entries) const {
    MsrRequest request;
    for (const kvm_msr_entry& entry : entries) request.add(entry);
    return vcpu->ioctl(VMM_KVM_SET_MSRS, request.arg());
  }
  int32_t set3() const { return set({{kCtl0, 0, 1}, {kCtr0, 0, 2}, {kCtl1, 0, 3}}); }

  FakeState state;
  std::unique_ptr<Kvm> kvm;
  std::unique_ptr<Vm> vm;
  std::unique_ptr<Vcpu> vcpu;
};

struct Fixture {
  // A vCPU under `script`.
  Faulty& with(const std::string& script) {
    faulty.emplace(script);
    faulty->start();
    return *faulty;
  }
  std::optional<Faulty> faulty;
};

std::string error_of(const std::string& script) {
  const auto plan = parse_faults(script);
  return plan ? "accepted" : plan.error();
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(effects, Fixture)

BOOST_AUTO_TEST_CASE(without_a_rule_everything_passes) {
  Faulty& kvm = with("");
  BOOST_TEST(kvm.set3() == 3);
  BOOST_TEST(kvm.state.ioctls == 3U);
  BOOST_TEST(kvm.kvm->name() == "fake");
  BOOST_TEST(kvm.kvm->host_info().kernel == "fake");
}

BOOST_AUTO_TEST_CASE(a_short_count_writes_what_is_before_it_and_nothing_behind) {
  Faulty& kvm = with("set_msrs:short@1");
  BOOST_TEST(kvm.set3() == 1);
  BOOST_TEST(kvm.state.msrs.size() == 1U);
  BOOST_TEST(kvm.state.msrs[kCtl0] == 1U);
}

BOOST_AUTO_TEST_CASE(a_short_count_at_the_first_entry_is_zero) {
  Faulty& kvm = with("set_msrs:short@0");
  BOOST_TEST(kvm.set3() == 0);
  BOOST_TEST(kvm.state.msrs.empty());
}

BOOST_AUTO_TEST_CASE(a_call_that_ends_before_the_short_entry_is_whole) {
  Faulty& kvm = with("set_msrs:short@3");
  BOOST_TEST(kvm.set3() == 3);
}

BOOST_AUTO_TEST_CASE(an_error_does_nothing) {
  Faulty& kvm = with("set_msrs:EINVAL");
  BOOST_TEST(kvm.set3() == -EINVAL);
  BOOST_TEST(kvm.state.msrs.empty());
  BOOST_TEST(kvm.state.ioctls == 2U);
}

BOOST_AUTO_TEST_CASE(an_error_hits_its_ioctl_only) {
  Faulty& kvm = with("enable_cap:EINVAL;set_msr_filter:EBUSY;check_extension:EIO");
  BOOST_TEST(kvm.vm->ioctl(KVM_ENABLE_CAP, nullptr) == -EINVAL);
  BOOST_TEST(kvm.vm->ioctl(KVM_X86_SET_MSR_FILTER, nullptr) == -EBUSY);
  BOOST_TEST(kvm.vm->ioctl(KVM_CHECK_EXTENSION, nullptr) == -EIO);
  BOOST_TEST(kvm.kvm->ioctl(KVM_CHECK_EXTENSION, nullptr) == -EIO);
  BOOST_TEST(kvm.set3() == 3);
}

BOOST_AUTO_TEST_CASE(creations_fail_as_ioctls_do) {
  Faulty no_vm("create_vm:ENOMEM#1");
  BOOST_TEST(no_vm.kvm->create_vm().error() == -ENOMEM);
  BOOST_TEST(no_vm.kvm->create_vm().has_value());
  Faulty& kvm = with("create_vcpu:EBUSY#2");
  BOOST_TEST(kvm.vm->create_vcpu(1).error() == -EBUSY);
}

BOOST_AUTO_TEST_CASE(every_nth_ioctl_of_any_kind_is_interrupted) {
  Faulty& kvm = with("eintr:every=3");  // two creations before
  BOOST_TEST(kvm.set3() == -EINTR);
  BOOST_TEST(kvm.state.msrs.empty());
  BOOST_TEST(kvm.set3() == 3);
  BOOST_TEST(kvm.vm->ioctl(KVM_ENABLE_CAP, nullptr) == 0);
  BOOST_TEST(kvm.kvm->ioctl(KVM_CHECK_EXTENSION, nullptr) == -EINTR);
}

BOOST_AUTO_TEST_CASE(every_nth_of_one_ioctl_is_interrupted) {
  Faulty& kvm = with("set_msrs:eintr:every=2");
  BOOST_TEST(kvm.set3() == 3);
  BOOST_TEST(kvm.vm->ioctl(KVM_ENABLE_CAP, nullptr) == 0);
  BOOST_TEST(kvm.set3() == -EINTR);
}

BOOST_AUTO_TEST_CASE(ebadf_hits_vm_and_vcpu_but_not_the_system) {
  Faulty kvm("ebadf#1");
  kvm.vm = kvm.kvm->create_vm().value();
  BOOST_TEST(kvm.kvm->ioctl(KVM_CHECK_EXTENSION, nullptr) == 0);
  BOOST_TEST(kvm.vm->create_vcpu(0).error() == -EBADF);
  kvm.vcpu = kvm.vm->create_vcpu(0).value();

  Faulty all("ebadf");
  all.vm = all.kvm->create_vm().value();
  BOOST_TEST(all.vm->ioctl(KVM_ENABLE_CAP, nullptr) == -EBADF);
  BOOST_TEST(all.vm->create_vcpu(0).error() == -EBADF);
}

BOOST_AUTO_TEST_CASE(e2big_hits_msr_calls) {
  Faulty& kvm = with("e2big");
  BOOST_TEST(kvm.set3() == -E2BIG);
  BOOST_TEST(kvm.vcpu->ioctl(VMM_KVM_GET_MSRS, nullptr) == -E2BIG);
  BOOST_TEST(kvm.vcpu->ioctl(KVM_GET_REGS, nullptr) == 0);
}

BOOST_AUTO_TEST_CASE(a_refused_msr_stops_the_call_wherever_it_stands) {
  Faulty& kvm = with("set_msrs:refuse=c0010201");
  BOOST_TEST(kvm.set3() == 1);
  BOOST_TEST(kvm.set({{kCtl1, 0, 7}, {kCtl0, 0, 7}, {kCtr0, 0, 7}}) == 2);
  BOOST_TEST(kvm.set({{kCtl1, 0, 8}}) == 1);
  BOOST_TEST(!kvm.state.msrs.contains(kCtr0));
}

BOOST_AUTO_TEST_CASE(a_wrong_value_is_read_back) {
  Faulty& kvm = with("get_msrs:value=c0010200:530076");
  kvm.state.msrs = {{kCtl0, 0}, {kCtr0, 5}};
  MsrRequest request;
  request.add({kCtr0, 0, 0});
  request.add({kCtl0, 0, 0});
  BOOST_TEST(kvm.vcpu->ioctl(VMM_KVM_GET_MSRS, request.arg()) == 2);
  BOOST_TEST(request.entries()[0].data == 5U);
  BOOST_TEST(request.entries()[1].data == 0x530076U);
}

BOOST_AUTO_TEST_CASE(a_swallowed_write_is_reported_done) {
  Faulty& kvm = with("set_msrs:swallow=0xc0010201");
  BOOST_TEST(kvm.set3() == 3);
  BOOST_TEST(kvm.state.msrs.size() == 2U);
  BOOST_TEST(!kvm.state.msrs.contains(kCtr0));
}

BOOST_AUTO_TEST_CASE(a_refusal_of_kvm_itself_keeps_its_place_among_swallowed_writes) {
  Faulty& kvm = with("set_msrs:swallow=c0010200");
  kvm.state.refused = {kCtl1};
  BOOST_TEST(kvm.set3() == 2);
  BOOST_TEST(kvm.set({{kCtl0, 0, 1}}) == 1);
}

BOOST_AUTO_TEST_CASE(edits_of_one_call_add_up) {
  Faulty& kvm = with("set_msrs:swallow=c0010200;set_msrs:short@2");
  BOOST_TEST(kvm.set3() == 2);
  BOOST_TEST(kvm.state.msrs.size() == 1U);
  BOOST_TEST(kvm.state.msrs[kCtr0] == 2U);
}

BOOST_AUTO_TEST_CASE(a_count_picks_the_nth_call_and_each_rule_counts_for_itself) {
  Faulty& kvm = with("set_msrs:EIO#2;set_msrs:EINVAL#3");
  BOOST_TEST(kvm.set3() == 3);
  BOOST_TEST(kvm.set3() == -EIO);
  BOOST_TEST(kvm.set3() == -EINVAL);
  BOOST_TEST(kvm.set3() == 3);
}

BOOST_AUTO_TEST_CASE(a_count_does_not_count_calls_that_the_rule_would_leave_alone) {
  Faulty& kvm = with("set_msrs:refuse=c0010202#1");
  BOOST_TEST(kvm.set({{kCtl0, 0, 1}}) == 1);
  BOOST_TEST(kvm.set3() == 2);
  BOOST_TEST(kvm.set3() == 3);
}

BOOST_AUTO_TEST_CASE(random_faults_are_the_same_for_the_same_seed) {
  const auto results = [](const std::string& script) {
    Faulty kvm(script);
    kvm.start();
    std::vector<int32_t> all;
    for (int i = 0; i < 300; ++i) all.push_back(kvm.set3());
    return all;
  };
  const auto first = results("set_msrs:random:seed=42,rate=30");
  BOOST_TEST(first == results("set_msrs:random:seed=42,rate=30"));
  BOOST_TEST((first != results("set_msrs:random:seed=43,rate=30")));
  const auto faults = 300 - std::ranges::count(first, 3);
  BOOST_TEST(faults > 50);
  BOOST_TEST(faults < 130);
  for (const int32_t kind : {-EINTR, -EINVAL, -EIO, 0, 1, 2}) {
    BOOST_TEST(std::ranges::count(first, kind) > 0, "never " << kind);
  }
}

BOOST_AUTO_TEST_CASE(random_faults_of_rate_0_and_100_are_none_and_all) {
  BOOST_TEST(with("random:seed=1,rate=0").set3() == 3);
  Faulty all("random:seed=1,rate=100");
  BOOST_TEST(!all.kvm->create_vm().has_value());
  BOOST_TEST(all.state.ioctls == 0U);
}

BOOST_AUTO_TEST_CASE(what_the_guest_does_has_no_faults) {
  Faulty& kvm = with("set_msrs:EIO;get_msrs:value=c0010200:1");
  BOOST_TEST(kvm.vcpu->guest_wrmsr(kCtl0, 9).has_value());
  BOOST_TEST(kvm.vcpu->guest_rdmsr(kCtl0).value() == 9U);
  BOOST_TEST(kvm.vcpu->guest_run(5).cycles == 5U);
}

BOOST_AUTO_TEST_CASE(a_request_that_kvm_finds_too_big_goes_to_kvm) {
  Faulty& kvm = with("set_msrs:short@1");
  vmm_kvm_msrs_header header{.nmsrs = VMM_KVM_MAX_MSRS + 1, .pad = 0};
  kvm.vcpu->ioctl(VMM_KVM_SET_MSRS, &header);
  kvm.vcpu->ioctl(VMM_KVM_SET_MSRS, nullptr);
  BOOST_TEST(kvm.state.ioctls == 4U);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(scripts)

BOOST_AUTO_TEST_CASE(an_unknown_ioctl_is_named_with_those_allowed) {
  const std::string error = error_of("set_msr:EINVAL");
  BOOST_TEST(contains(error, "'set_msr' is no ioctl"), error);
  BOOST_TEST(contains(error, "set_msrs"), error);
}

BOOST_AUTO_TEST_CASE(an_unknown_effect_is_named_with_those_allowed) {
  const std::string error = error_of("eintr:every=2;set_msrs:shrt@3");
  BOOST_TEST(contains(error, "fault 'set_msrs:shrt@3': 'shrt@3' is no effect"), error);
  BOOST_TEST(contains(error, "short@ENTRY"), error);
  BOOST_TEST(contains(error, "EINVAL"), error);
}

BOOST_AUTO_TEST_CASE(parts_that_are_wrong_are_refused) {
  for (const char* script : {"EINVAL",
                             "short@3",
                             "set_msrs",
                             "set_msrs:",
                             ":EIO",
                             ";",
                             "ebadf;",
                             "set_msrs:short@",
                             "set_msrs:short@x",
                             "set_msrs:short@-1",
                             "enable_cap:short@1",
                             "get_msrs:swallow=1",
                             "set_msrs:value=1:2",
                             "get_msrs:value=1",
                             "set_msrs:refuse=xyz",
                             "set_msrs:refuse=",
                             "set_msrs:refuse=100000000",
                             "eintr",
                             "eintr:every=1",
                             "eintr:every=2#1",
                             "eintr:every=",
                             "set_msrs:ebadf",
                             "set_msrs:e2big",
                             "ebadfx",
                             "random",
                             "random:seed=1",
                             "random:rate=1",
                             "random:seed=1,rate=101",
                             "random:seed=1,rate=5#1",
                             "set_msrs:EIO#0",
                             "set_msrs:EIO#",
                             "set_msrs:EIO#x",
                             "set_msrs:EIO#1#2",
                             "set_msrs:eio",
                             " set_msrs:EIO"}) {
    BOOST_TEST(!parse_faults(script).has_value(), "accepted: " << script);
  }
}

BOOST_AUTO_TEST_CASE(what_may_stand_before_an_effect_is_said) {
  BOOST_TEST(contains(error_of("enable_cap:short@1"), "get_msrs or set_msrs"));
  BOOST_TEST(contains(error_of("set_msrs:ebadf"), "no ioctl before it"));
  BOOST_TEST(contains(error_of("EINVAL"), "needs an ioctl"));
}

BOOST_AUTO_TEST_CASE(a_script_becomes_its_rules_in_order) {
  const auto plan = parse_faults("set_msrs:short@3;get_msrs:EIO#2;e2big");
  BOOST_REQUIRE(plan.has_value());
  BOOST_REQUIRE_EQUAL(plan->faults.size(), 3U);
  BOOST_TEST(std::get<ShortCount>(plan->faults[0].effect).entry == 3U);
  BOOST_TEST(plan->faults[1].only_call == 2U);
  BOOST_TEST(std::get<FailWith>(plan->faults[1].effect).number == EIO);
  BOOST_TEST(plan->faults[2].ioctls.size() == 2U);
}

BOOST_AUTO_TEST_SUITE_END()
