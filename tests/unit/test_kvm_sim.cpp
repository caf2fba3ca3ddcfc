// SPDX-License-Identifier: MIT
//
// The simulated KVM, rule by rule: specs, capabilities, ioctls, PMU registers, the MSR filter.
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <thread>

#include "support/sim_machine.hpp"

using namespace sim_test;  // NOLINT: a test's vocabulary

namespace {

constexpr uint32_t kList = VMM_KVM_GET_MSR_INDEX_LIST;

/// A short count: KVM stopped at the only entry.
constexpr int32_t kRefused = 0;

bool mentions(const std::string& text, std::initializer_list<const char*> words) {
  return std::ranges::all_of(
      words, [&](const char* word) { return text.find(word) != std::string_view::npos; });
}

std::string spec_error(const char* spec) {
  const auto profile = host_stub::parse_profile(spec);
  BOOST_REQUIRE_MESSAGE(!profile, spec << " was taken");
  BOOST_TEST(mentions(profile.error(), {spec, "allowed"}), profile.error());
  return profile.error();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(specs)

BOOST_AUTO_TEST_CASE(plain_sim_is_linux_6_12_with_six_counters_and_the_vpmu_on) {
  const auto profile = host_stub::parse_profile("sim");
  BOOST_REQUIRE(profile);
  BOOST_TEST(profile->kernel->name == "linux-6.12");
  BOOST_TEST(profile->enable_pmu);
  BOOST_TEST(profile->counters == 6U);
  BOOST_TEST(!profile->host_perfmonv2);
}

BOOST_AUTO_TEST_CASE(all_switches_are_taken_in_any_order) {
  const auto profile = host_stub::parse_profile(
      "sim:linux-7.2,host-perf-busy,vendor=hygon,counters=15,mediated,enable_pmu=Y,host-perfmonv2");
  BOOST_REQUIRE_MESSAGE(profile, profile.error());
  BOOST_TEST(profile->kernel->name == "linux-7.2");
  BOOST_TEST(profile->mediated);
  BOOST_TEST(profile->held_counters == 15U);
  BOOST_TEST(profile->counters == 15U);
  BOOST_TEST((profile->vendor == host_stub::Vendor::hygon));
}

BOOST_AUTO_TEST_CASE(switches_without_a_kernel_are_about_the_default_one) {
  const auto profile = host_stub::parse_profile("sim,enable_pmu=N");
  BOOST_REQUIRE_MESSAGE(profile, profile.error());
  BOOST_TEST(profile->kernel->name == "linux-6.12");
  BOOST_TEST(!profile->enable_pmu);
}

BOOST_AUTO_TEST_CASE(the_name_of_a_simulated_kvm_is_its_spec) {
  BOOST_TEST(open("sim:linux-6.1,enable_pmu=N")->name() == "sim:linux-6.1,enable_pmu=N");
}

BOOST_AUTO_TEST_CASE(a_wrong_spec_is_an_error_that_names_the_part_and_what_is_allowed) {
  BOOST_TEST(mentions(spec_error("sim:linux-4.4"), {"linux-4.4", "linux-5.10", "linux-7.2"}));
  BOOST_TEST(mentions(spec_error("sim:"), {"linux-6.12"}));
  BOOST_TEST(mentions(spec_error("simulated"), {"sim[:KERNEL]"}));
  BOOST_TEST(mentions(spec_error("/dev/kvm"), {"sim[:KERNEL]"}));
  BOOST_TEST(mentions(spec_error("sim:linux-6.12,"), {"enable_pmu"}));
  BOOST_TEST(mentions(spec_error("sim:linux-6.12,pmu"), {"'pmu'", "host-perfmonv2"}));
  BOOST_TEST(mentions(spec_error("sim:linux-6.12,enable_pmu=maybe"), {"enable_pmu=Y|N"}));
  BOOST_TEST(mentions(spec_error("sim:linux-6.12,mediated=1"), {"'mediated=1'"}));
  BOOST_TEST(mentions(spec_error("sim:linux-6.12,counters=0"), {"'counters=0'", "counters=15"}));
  BOOST_TEST(mentions(spec_error("sim:linux-6.12,counters=16"), {"'counters=16'"}));
  BOOST_TEST(mentions(spec_error("sim:linux-6.12,counters=6x"), {"'counters=6x'"}));
  BOOST_TEST(mentions(spec_error("sim:linux-6.12,counters"), {"'counters'"}));
  BOOST_TEST(mentions(spec_error("sim,host-perf-busy=0"), {"host-perf-busy=1 to"}));
  BOOST_TEST(mentions(spec_error("sim,ignore_msrs"), {"ignore_msrs=0|1"}));
  BOOST_TEST(mentions(spec_error("sim,no-pmu-capability=1"), {"'no-pmu-capability=1'"}));
  BOOST_TEST(mentions(spec_error("sim:linux-6.12,vendor=via"), {"amd|hygon|intel"}));
  BOOST_TEST(mentions(spec_error("sim:linux-6.1,enable_pmu=Y,enable_pmu=N"), {"twice"}));
}

BOOST_AUTO_TEST_CASE(a_host_that_cannot_be_is_an_error_that_says_why) {
  BOOST_TEST(mentions(spec_error("sim:linux-5.10,enable_pmu=N"), {"5.17"}));
  BOOST_TEST(mentions(spec_error("sim:linux-6.12,host-perfmonv2,mediated"), {"7.0"}));
  BOOST_TEST(mentions(spec_error("sim:linux-7.2,mediated"), {"host-perfmonv2"}));
  BOOST_TEST(mentions(spec_error("sim:linux-5.15,no-pmu-capability"), {"5.18"}));
  BOOST_TEST(mentions(spec_error("sim,vendor=intel,host-perfmonv2"), {"AMD"}));
}

BOOST_AUTO_TEST_CASE(the_names_in_the_kernel_table_are_unique_and_each_opens) {
  for (const host_stub::Kernel& kernel : host_stub::kernels())
    BOOST_TEST(open("sim:" + std::string(kernel.name))->host_info().kernel == kernel.release);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(capabilities)

BOOST_AUTO_TEST_CASE(disable_quirks2_tells_a_kernel_without_the_pmu_capability_from_enable_pmu_n) {
  const auto old = open("sim:linux-5.10");
  BOOST_TEST(check_extension(*old, KVM_CAP_PMU_CAPABILITY) == 0);
  BOOST_TEST(check_extension(*old, KVM_CAP_DISABLE_QUIRKS2) == 0);
  const auto off = open("sim:linux-6.12,enable_pmu=N");
  BOOST_TEST(check_extension(*off, KVM_CAP_PMU_CAPABILITY) == 0);
  BOOST_TEST(check_extension(*off, KVM_CAP_DISABLE_QUIRKS2) != 0);
}

BOOST_AUTO_TEST_CASE(the_pmu_capability_may_be_turned_off_and_on_until_the_first_vcpu) {
  Machine machine("sim:linux-6.12");
  const auto vm = need(machine.kvm->create_vm(), "KVM_CREATE_VM");
  BOOST_TEST(enable_cap(*vm, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE) == 0);
  BOOST_TEST(enable_cap(*vm, KVM_CAP_PMU_CAPABILITY, 0) == 0);
  const auto vcpu = need(vm->create_vcpu(0), "KVM_CREATE_VCPU");
  BOOST_TEST(host_stub::sim_vcpu(vcpu.get())->pmu().on());
  BOOST_TEST(enable_cap(*vm, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE) == -EINVAL);
}

BOOST_AUTO_TEST_CASE(one_vm_turned_off_does_not_turn_off_the_next) {
  const auto kvm = open("sim:linux-6.12");
  const auto off = need(kvm->create_vm(), "KVM_CREATE_VM");
  BOOST_TEST(enable_cap(*off, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE) == 0);
  const auto on = need(kvm->create_vm(), "KVM_CREATE_VM");
  const auto vcpu = need(on->create_vcpu(0), "KVM_CREATE_VCPU");
  BOOST_TEST(set(*vcpu, 0xc0010000, kCycles) == 1);
  BOOST_TEST(get(*vcpu, 0xc0010000).value == kCycles);
}

BOOST_AUTO_TEST_CASE(a_kernel_may_know_quirks2_and_hide_the_pmu_capability_of_a_live_vpmu) {
  Machine machine("sim:linux-6.12,no-pmu-capability", kCore);
  BOOST_TEST(check_extension(*machine.kvm, KVM_CAP_PMU_CAPABILITY) == 0);
  BOOST_TEST(check_extension(*machine.kvm, KVM_CAP_DISABLE_QUIRKS2) != 0);
  BOOST_TEST(enable_cap(*need(machine.kvm->create_vm(), "KVM_CREATE_VM"), KVM_CAP_PMU_CAPABILITY,
                        KVM_PMU_CAP_DISABLE) == -EINVAL);
  BOOST_TEST(set(*machine.vcpu, 0xc0010200, kCycles) == 1);
  BOOST_TEST(machine.value(0xc0010200) == kCycles);
}

BOOST_AUTO_TEST_CASE(before_5_10_there_is_no_msr_filter) {
  Machine machine("sim:linux-5.4", kCore);
  BOOST_TEST(check_extension(*machine.kvm, KVM_CAP_X86_MSR_FILTER) == 0);
  BOOST_TEST(check_extension(*machine.kvm, KVM_CAP_X86_USER_SPACE_MSR) == 0);
  BOOST_TEST(deny(*machine.vm, 0xc0010200, 12) == -ENOTTY);
  BOOST_TEST(enable_cap(*machine.vm, KVM_CAP_X86_USER_SPACE_MSR, 4) == -EINVAL);
  BOOST_TEST(machine.vcpu->guest_wrmsr(0xc0010200, kCycles).has_value());
}

BOOST_AUTO_TEST_CASE(user_space_msr_takes_known_reasons_only) {
  Machine machine("sim:linux-6.12");
  BOOST_TEST(enable_cap(*machine.vm, KVM_CAP_X86_USER_SPACE_MSR, 4) == 0);
  BOOST_TEST(enable_cap(*machine.vm, KVM_CAP_X86_USER_SPACE_MSR, 8) == -EINVAL);
}

BOOST_AUTO_TEST_CASE(a_capability_that_no_kernel_has_is_refused) {
  Machine machine("sim:linux-6.12");
  BOOST_TEST(enable_cap(*machine.vm, 9999, 0) == -EINVAL);
  BOOST_TEST(check_extension(*machine.kvm, 9999) == 0);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(ioctls)

BOOST_AUTO_TEST_CASE(an_unknown_ioctl_is_enotty_on_a_vm_and_einval_elsewhere) {
  Machine machine("sim");
  char buffer[64] = {};
  BOOST_TEST(machine.vm->ioctl(0xaefe, buffer) == -ENOTTY);
  BOOST_TEST(machine.kvm->ioctl(0xaefe, buffer) == -EINVAL);
  BOOST_TEST(machine.vcpu->ioctl(0xaefe, buffer) == -EINVAL);
}

BOOST_AUTO_TEST_CASE(set_msrs_with_the_size_of_a_miscompiled_struct_is_no_known_ioctl) {
  Machine machine("sim");
  char buffer[64] = {};
  BOOST_TEST(machine.vcpu->ioctl(0x4010ae89, buffer) == -EINVAL);
}

BOOST_AUTO_TEST_CASE(a_short_msr_index_list_gives_e2big_and_the_size) {
  const auto kvm = open("sim:linux-6.12");
  std::vector<uint32_t> list(200);
  list[0] = 1;
  BOOST_TEST(kvm->ioctl(kList, list.data()) == -E2BIG);
  BOOST_TEST(list[0] == 106U);
  BOOST_TEST(kvm->ioctl(kList, list.data()) == 0);
  BOOST_TEST(std::ranges::count(list, 0xc0010200U) == 1);
}

BOOST_AUTO_TEST_CASE(the_msr_index_list_names_no_msr_twice) {
  for (const host_stub::Kernel& kernel : host_stub::kernels()) {
    const auto profile =
        host_stub::parse_profile("sim:" + std::string(kernel.name) + ",host-perfmonv2");
    auto list = host_stub::msr_index_list(*profile);
    std::ranges::sort(list);
    BOOST_TEST((std::ranges::adjacent_find(list) == list.end()), kernel.name);
  }
}

BOOST_AUTO_TEST_CASE(a_short_cpuid_request_gives_e2big) {
  Machine machine("sim");
  vmm_kvm_cpuid2_header header{1, 0};
  BOOST_TEST(machine.kvm->ioctl(VMM_KVM_GET_SUPPORTED_CPUID, &header) == -E2BIG);
  BOOST_TEST(machine.vcpu->ioctl(VMM_KVM_GET_CPUID2, &header) == -E2BIG);
  header.nent = 257;
  BOOST_TEST(machine.vcpu->ioctl(VMM_KVM_SET_CPUID2, &header) == -E2BIG);
}

BOOST_AUTO_TEST_CASE(guest_cpuid_reads_back_as_set) {
  Machine machine("sim", kCore);
  struct {
    vmm_kvm_cpuid2_header header{4, 0};
    kvm_cpuid_entry2 entries[4]{};
  } request;
  BOOST_TEST(machine.vcpu->ioctl(VMM_KVM_GET_CPUID2, &request) == 0);
  BOOST_TEST(request.header.nent == 2U);
  BOOST_TEST(request.entries[0].ecx == 1U << 23);
}

BOOST_AUTO_TEST_CASE(guest_cpuid_cannot_change_after_the_first_run_but_may_be_repeated) {
  Machine machine("sim:linux-6.12", kCore);
  machine.vcpu->guest_run(1);
  BOOST_TEST(set_cpuid(*machine.vcpu, kCore) == 0);
  BOOST_TEST(set_cpuid(*machine.vcpu, kPlain) == -EINVAL);
  Machine old("sim:linux-5.10", kCore);
  old.vcpu->guest_run(1);
  BOOST_TEST(set_cpuid(*old.vcpu, kPlain) == 0);
}

BOOST_AUTO_TEST_CASE(two_hundred_fifty_five_msrs_go_in_one_call_and_one_more_is_e2big) {
  Machine machine("sim");
  std::vector<kvm_msr_entry> entries(255, kvm_msr_entry{0xc0010201, 0, 7});
  BOOST_TEST(msrs(*machine.vcpu, VMM_KVM_SET_MSRS, entries) == 255);
  entries.push_back(entries[0]);
  BOOST_TEST(msrs(*machine.vcpu, VMM_KVM_SET_MSRS, entries) == -E2BIG);
  BOOST_TEST(msrs(*machine.vcpu, VMM_KVM_GET_MSRS, entries) == -E2BIG);
}

BOOST_AUTO_TEST_CASE(the_same_msr_twice_in_one_call_is_written_in_order) {
  Machine machine("sim");
  std::vector<kvm_msr_entry> entries{
      {0xc0010200, 0, kCycles}, {0xc0010200, 0, 0}, {0xc0010200, 0, 0x76}};
  BOOST_TEST(msrs(*machine.vcpu, VMM_KVM_SET_MSRS, entries) == 3);
  BOOST_TEST(machine.value(0xc0010200) == 0x76U);
}

BOOST_AUTO_TEST_CASE(set_msrs_stops_at_the_first_refused_entry_and_returns_its_index) {
  Machine machine("sim:linux-6.12");
  std::vector<kvm_msr_entry> entries{{0xc0010200, 0, 1}, {0xdeadbeef, 0, 0}, {0xc0010202, 0, 1}};
  BOOST_TEST(msrs(*machine.vcpu, VMM_KVM_SET_MSRS, entries) == 1);
  BOOST_TEST(machine.value(0xc0010200) == 1U);
  BOOST_TEST(machine.value(0xc0010202) == 0U);
}

BOOST_AUTO_TEST_CASE(a_vcpu_number_is_taken_for_the_life_of_the_vm) {
  Machine machine("sim:linux-6.12");
  BOOST_TEST(machine.vm->create_vcpu(0).error() == -EEXIST);
  BOOST_TEST(machine.vm->create_vcpu(4096).error() == -EINVAL);
  machine.vcpu.reset();
  BOOST_TEST(machine.vm->create_vcpu(0).error() == -EEXIST);
  BOOST_TEST(machine.vm->create_vcpu(1).has_value());
}

BOOST_AUTO_TEST_CASE(an_irqchip_is_made_once_and_before_the_first_vcpu) {
  Machine with("sim", kCore, true);
  BOOST_TEST(with.vm->ioctl(KVM_CREATE_IRQCHIP, nullptr) == -EEXIST);
  Machine without("sim", kCore, false);
  BOOST_TEST(without.vm->ioctl(KVM_CREATE_IRQCHIP, nullptr) == -EINVAL);
}

BOOST_AUTO_TEST_CASE(the_lapic_starts_masked_and_is_there_with_an_irqchip_only) {
  kvm_lapic_state lapic{};
  Machine with("sim", kCore, true);
  BOOST_TEST(with.vcpu->ioctl(KVM_GET_LAPIC, &lapic) == 0);
  BOOST_TEST(with.sim().lvtpc() == host_stub::Lapic::kMasked);
  Machine without("sim", kCore, false);
  BOOST_TEST(without.vcpu->ioctl(KVM_GET_LAPIC, &lapic) == -EINVAL);
  BOOST_TEST(without.vcpu->ioctl(KVM_SET_LAPIC, &lapic) == -EINVAL);
}

BOOST_AUTO_TEST_CASE(a_new_vcpu_is_in_the_state_after_reset) {
  Machine machine("sim");
  kvm_regs regs{};
  kvm_sregs sregs{};
  BOOST_TEST(machine.vcpu->ioctl(KVM_GET_REGS, &regs) == 0);
  BOOST_TEST(machine.vcpu->ioctl(KVM_GET_SREGS, &sregs) == 0);
  BOOST_TEST(regs.rip == 0xfff0U);
  BOOST_TEST(sregs.cs.base == 0xffff0000U);
  BOOST_TEST(sregs.cs.selector == 0xf000U);
  const auto ap = need(machine.vm->create_vcpu(1), "KVM_CREATE_VCPU");
  kvm_mp_state state{};
  BOOST_TEST(ap->ioctl(KVM_GET_MP_STATE, &state) == 0);
  BOOST_TEST(state.mp_state == uint32_t{KVM_MP_STATE_UNINITIALIZED});
}

BOOST_AUTO_TEST_CASE(registers_read_back_as_set_and_sregs2_is_the_same_state) {
  Machine machine("sim:linux-6.12");
  kvm_regs regs{};
  regs.rip = 0x1234;
  BOOST_TEST(machine.vcpu->ioctl(KVM_SET_REGS, &regs) == 0);
  regs = {};
  machine.vcpu->ioctl(KVM_GET_REGS, &regs);
  BOOST_TEST(regs.rip == 0x1234U);
  kvm_sregs2 sregs2{};
  sregs2.cr3 = 0x5000;
  BOOST_TEST(machine.vcpu->ioctl(KVM_SET_SREGS2, &sregs2) == 0);
  kvm_sregs sregs{};
  machine.vcpu->ioctl(KVM_GET_SREGS, &sregs);
  BOOST_TEST(sregs.cr3 == 0x5000U);
  Machine old("sim:linux-5.10");
  BOOST_TEST(old.vcpu->ioctl(KVM_SET_SREGS2, &sregs2) == -EINVAL);
}

BOOST_AUTO_TEST_CASE(a_null_argument_is_efault) {
  Machine machine("sim");
  BOOST_TEST(machine.vcpu->ioctl(VMM_KVM_SET_MSRS, nullptr) == -EFAULT);
  BOOST_TEST(machine.vm->ioctl(KVM_ENABLE_CAP, nullptr) == -EFAULT);
  BOOST_TEST(machine.kvm->ioctl(kList, nullptr) == -EFAULT);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(pmu_registers)

BOOST_AUTO_TEST_CASE(k7_and_f15h_0_to_3_are_one_counter_each) {
  Machine machine("sim:linux-6.12", kCore);
  for (uint32_t i = 0; i < 4; ++i) {
    set(*machine.vcpu, 0xc0010200 + 2 * i, 0x100 + i);
    set(*machine.vcpu, 0xc0010004 + i, 0x200 + i);
    BOOST_TEST(machine.value(0xc0010000 + i) == 0x100 + i);
    BOOST_TEST(machine.value(0xc0010201 + 2 * i) == 0x200 + i);
  }
}

BOOST_AUTO_TEST_CASE(global_ctl_is_all_counters_after_set_cpuid2_with_perfmonv2) {
  Machine six("sim:linux-6.12,host-perfmonv2", kV2);
  BOOST_TEST(six.value(0xc0000301) == 0x3fU);
  Machine four("sim:linux-6.12,host-perfmonv2", {.core = true, .v2 = true, .counters = 4});
  BOOST_TEST(four.value(0xc0000301) == 0xfU);
}

BOOST_AUTO_TEST_CASE(n_is_the_least_of_guest_cpuid_host_and_six) {
  Machine guest_more("sim:linux-6.12,host-perfmonv2,counters=15",
                     {.core = true, .v2 = true, .counters = 15});
  BOOST_TEST(guest_more.sim().pmu().counters() == 6U);
  Machine host_less("sim:linux-6.12,counters=4", kCore);
  BOOST_TEST(host_less.sim().pmu().counters() == 4U);
  BOOST_TEST(get(*host_less.vcpu, 0xc0010208).result == kRefused);
  Machine plain("sim:linux-6.12", kPlain);
  BOOST_TEST(plain.sim().pmu().counters() == 4U);
}

BOOST_AUTO_TEST_CASE(no_counters_at_all_is_possible_and_even_k7_is_refused_then) {
  Machine machine("sim:linux-6.12,host-perfmonv2", {.core = true, .v2 = true, .counters = 0});
  BOOST_TEST(machine.sim().pmu().counters() == 0U);
  BOOST_TEST(get(*machine.vcpu, 0xc0010000).result == kRefused);
  BOOST_TEST(set(*machine.vcpu, 0xc0010200, 0) == kRefused);
  BOOST_TEST(get(*machine.vcpu, 0xc0000301).result == 1);
  BOOST_TEST(machine.value(0xc0000301) == 0U);
  BOOST_TEST(set(*machine.vcpu, 0xc0000300, 1) == kRefused);
}

BOOST_AUTO_TEST_CASE(k7_above_n_is_refused_with_perfmonv2) {
  Machine machine("sim:linux-6.12,host-perfmonv2", {.core = true, .v2 = true, .counters = 2});
  BOOST_TEST(get(*machine.vcpu, 0xc0010001).result == 1);
  BOOST_TEST(get(*machine.vcpu, 0xc0010002).result == kRefused);
  BOOST_TEST(set(*machine.vcpu, 0xc0010204, 0) == kRefused);
}

BOOST_AUTO_TEST_CASE(global_status_refuses_reserved_bits_and_global_ctl_drops_them) {
  Machine machine("sim:linux-6.12,host-perfmonv2", kV2);
  BOOST_TEST(set(*machine.vcpu, 0xc0000300, 0x40) == kRefused);
  BOOST_TEST(set(*machine.vcpu, 0xc0000300, 0x21) == 1);
  BOOST_TEST(machine.value(0xc0000300) == 0x21U);
  BOOST_TEST(set(*machine.vcpu, 0xc0000301, 0xff) == 1);
  BOOST_TEST(machine.value(0xc0000301) == 0x3fU);
}

BOOST_AUTO_TEST_CASE(status_clr_and_set_act_for_the_guest_and_not_for_the_host) {
  Machine machine("sim:linux-6.12,host-perfmonv2", kV2);
  set(*machine.vcpu, 0xc0000300, 0x5);
  BOOST_TEST(set(*machine.vcpu, 0xc0000302, 0x5) == 1);
  BOOST_TEST(machine.value(0xc0000300) == 0x5U);
  BOOST_TEST(machine.vcpu->guest_wrmsr(0xc0000302, 0x1).has_value());
  BOOST_TEST(machine.value(0xc0000300) == 0x4U);
  BOOST_TEST(machine.vcpu->guest_wrmsr(0xc0000303, 0x2).has_value());
  BOOST_TEST(machine.value(0xc0000300) == 0x6U);
  BOOST_TEST(machine.vcpu->guest_wrmsr(0xc0000300, 0).has_value());  // read-only, ignored
  BOOST_TEST(machine.value(0xc0000300) == 0x6U);
}

BOOST_AUTO_TEST_CASE(
    perfmonv2_in_guest_cpuid_on_a_host_without_is_live_on_6_12_and_nothing_on_7_2) {
  Machine live("sim:linux-6.12", kV2);
  BOOST_TEST(live.sim().pmu().version() == 2U);
  BOOST_TEST(live.value(0xc0000301) == 0x3fU);
  Machine ignored("sim:linux-7.2", kV2);
  BOOST_TEST(ignored.sim().pmu().version() == 1U);
  BOOST_TEST(get(*ignored.vcpu, 0xc0000301).result == kRefused);
}

BOOST_AUTO_TEST_CASE(a_guest_cannot_have_perfmonv2_before_6_5_whatever_the_host_has) {
  Machine machine("sim:linux-6.1,host-perfmonv2", kV2);
  BOOST_TEST(machine.sim().pmu().version() == 1U);
  BOOST_TEST(get(*machine.vcpu, 0xc0000301).result == kRefused);
}

BOOST_AUTO_TEST_CASE(with_the_vpmu_off_the_guest_reads_k7_as_zero_and_faults_on_f15h) {
  Machine machine("sim:linux-6.12", kPlain, true, true);
  BOOST_TEST(machine.vcpu->guest_wrmsr(0xc0010004, 0x1234).has_value());
  const auto read = machine.vcpu->guest_rdmsr(0xc0010004);
  BOOST_REQUIRE(read.has_value());
  BOOST_TEST(*read == 0U);
  // the host may read that one and get 0; the guest has no such waiver
  BOOST_TEST(get(*machine.vcpu, 0xc0010200).result == 1);
  BOOST_TEST(!machine.vcpu->guest_rdmsr(0xc0010200).has_value());
  BOOST_TEST(!machine.vcpu->guest_wrmsr(0xc0010200, 0).has_value());
  BOOST_TEST(!machine.vcpu->guest_rdmsr(0xc0000301).has_value());
}

BOOST_AUTO_TEST_CASE(on_5_10_f15h_is_live_for_guest_and_host_whatever_cpuid_says) {
  Machine machine("sim:linux-5.10", kPlain);
  BOOST_TEST(machine.vcpu->guest_wrmsr(0xc001020a, kCycles).has_value());
  BOOST_TEST(machine.value(0xc001020a) == kCycles);
}

BOOST_AUTO_TEST_CASE(on_5_15_f15h_without_perfctrextcore_reads_0_and_takes_nothing) {
  Machine plain("sim:linux-5.15", kPlain);
  BOOST_TEST(get(*plain.vcpu, 0xc0010208).result == 1);
  BOOST_TEST(plain.value(0xc0010208) == 0U);
  BOOST_TEST(set(*plain.vcpu, 0xc0010208, 0) == kRefused);
  BOOST_TEST(!plain.vcpu->guest_rdmsr(0xc0010208).has_value());
  BOOST_TEST(get(*plain.vcpu, 0xc0000301).result == kRefused);
  Machine core("sim:linux-5.15", kCore);
  BOOST_TEST(set(*core.vcpu, 0xc0010208, kCycles) == 1);
  BOOST_TEST(core.value(0xc0010208) == kCycles);
}

BOOST_AUTO_TEST_CASE(a_6_6_without_the_fix_leaves_global_ctl_0_and_its_stable_branch_does_not) {
  Machine released("sim:linux-6.6,host-perfmonv2", kV2);
  BOOST_TEST(released.value(0xc0000301) == 0U);
  BOOST_TEST(get(*released.vcpu, 0xc0000303).result == kRefused);
  set(*released.vcpu, 0xc0010200, kCycles);
  released.vcpu->guest_run(1000);
  BOOST_TEST(released.value(0xc0010201) == 0U);
  Machine stable("sim:linux-6.6.y,host-perfmonv2", kV2);
  BOOST_TEST(stable.value(0xc0000301) == 0x3fU);
}

BOOST_AUTO_TEST_CASE(on_a_6_6_without_the_fix_even_k7_is_refused_while_the_vpmu_is_off) {
  Machine off("sim:linux-6.6,host-perfmonv2", kV2, true, true);
  BOOST_TEST(get(*off.vcpu, 0xc0010000).result == kRefused);
  BOOST_TEST(set(*off.vcpu, 0xc0010200, 0) == kRefused);
  BOOST_TEST(!off.vcpu->guest_rdmsr(0xc0010000).has_value());
  BOOST_TEST(set(*off.vcpu, 0xc0000301, 0x3f) == 1);  // PerfMonV2's registers stay, and do nothing
  Machine parameter("sim:linux-6.6,enable_pmu=N", kCore);
  BOOST_TEST(get(*parameter.vcpu, 0xc0010000).result == kRefused);
  Machine stable("sim:linux-6.6.y", kCore, true, true);
  BOOST_TEST(get(*stable.vcpu, 0xc0010000).result == 1);
}

BOOST_AUTO_TEST_CASE(perfmonv2_without_perfctrextcore_has_k7_and_global_registers) {
  Machine machine("sim:linux-6.12,host-perfmonv2", {.core = false, .v2 = true, .counters = 6});
  BOOST_TEST(machine.sim().pmu().version() == 2U);
  BOOST_TEST(machine.value(0xc0000301) == 0x3fU);
  BOOST_TEST(set(*machine.vcpu, 0xc0010003, kCycles) == 1);
  BOOST_TEST(machine.value(0xc0010003) == kCycles);
  BOOST_TEST(set(*machine.vcpu, 0xc0010200, kCycles) == kRefused);
  BOOST_TEST(!machine.vcpu->guest_rdmsr(0xc0010200).has_value());
}

BOOST_AUTO_TEST_CASE(ignore_msrs_takes_and_reads_as_0_what_the_vcpu_has_not) {
  Machine machine("sim:linux-6.12,ignore_msrs=1", kPlain);
  BOOST_TEST(set(*machine.vcpu, 0xc0010200, kCycles) == 1);
  BOOST_TEST(get(*machine.vcpu, 0xc0010200).result == 1);
  BOOST_TEST(machine.value(0xc0010200) == 0U);
  BOOST_TEST(machine.vcpu->guest_wrmsr(0xc0000301, 1).has_value());
  BOOST_TEST(machine.vcpu->guest_rdmsr(0xdeadbeef).value() == 0U);
  // what KVM knows and refuses stays refused
  Machine off("sim:linux-6.12,ignore_msrs=1", kCore, true, true);
  BOOST_TEST(get(*off.vcpu, 0xc0010200).result == kRefused);
  BOOST_TEST(!off.vcpu->guest_rdmsr(0xc0010200).has_value());
}

BOOST_AUTO_TEST_CASE(rdpmc_reads_the_counters_that_the_guest_has_and_no_filter_stops_it) {
  Machine machine("sim:linux-6.12", kCore);
  set(*machine.vcpu, 0xc001020b, 0x1234);
  deny(*machine.vm, 0xc0010200, 12);
  BOOST_TEST(machine.vcpu->guest_rdpmc(5).value() == 0x1234U);
  BOOST_TEST(!machine.vcpu->guest_rdpmc(6).has_value());
  Machine plain("sim:linux-6.12", kPlain);
  BOOST_TEST(plain.vcpu->guest_rdpmc(3).has_value());
  BOOST_TEST(!plain.vcpu->guest_rdpmc(4).has_value());
  Machine off("sim:linux-6.12", kCore, true, true);
  BOOST_TEST(!off.vcpu->guest_rdpmc(0).has_value());
  Machine old("sim:linux-6.1", kCore, true, true);  // keeps version and n while off
  BOOST_TEST(old.vcpu->guest_rdpmc(5).value() == 0U);
  Machine intel("sim:linux-6.12,vendor=intel", kCore);
  BOOST_TEST(!intel.vcpu->guest_rdpmc(0).has_value());
}

BOOST_AUTO_TEST_CASE(on_an_intel_host_k7_is_swallowed_and_f15h_and_global_fail) {
  Machine machine("sim:linux-6.12,vendor=intel", kV2);
  BOOST_TEST(check_extension(*machine.kvm, KVM_CAP_PMU_CAPABILITY) == 1);
  BOOST_TEST(set(*machine.vcpu, 0xc0010000, kCycles) == 1);
  BOOST_TEST(get(*machine.vcpu, 0xc0010000).result == 1);
  BOOST_TEST(machine.value(0xc0010000) == 0U);
  BOOST_TEST(set(*machine.vcpu, 0xc0010200, 0) == kRefused);
  BOOST_TEST(get(*machine.vcpu, 0xc0000301).result == kRefused);
}

BOOST_AUTO_TEST_CASE(on_an_intel_host_before_6_3_f15h_reads_0_all_the_same) {
  Machine old("sim:linux-5.10,vendor=intel", kCore);
  BOOST_TEST(get(*old.vcpu, 0xc0010200).result == 1);
  BOOST_TEST(old.vcpu->guest_rdmsr(0xc0010200).value_or(1) == 0U);
  BOOST_TEST(set(*old.vcpu, 0xc0010200, 0) == kRefused);
  Machine later("sim:linux-6.1,vendor=intel", kCore);
  BOOST_TEST(set(*later.vcpu, 0xc0010200, 0) == 1);
  BOOST_TEST(!later.vcpu->guest_rdmsr(0xc0010200).has_value());
}

BOOST_AUTO_TEST_CASE(a_hygon_host_has_the_same_vpmu_under_another_name) {
  Machine machine("sim:linux-6.12,vendor=hygon", kCore);
  BOOST_TEST(set(*machine.vcpu, 0xc001020a, kCycles) == 1);
  BOOST_TEST(machine.value(0xc001020a) == kCycles);
  const auto cpuid = host_stub::supported_cpuid(*host_stub::parse_profile("sim,vendor=hygon"));
  BOOST_TEST(cpuid[0].ebx == 0x6f677948U);  // "Hygo"
}

namespace {

/// The leaf that KVM_GET_SUPPORTED_CPUID gives; all 0 where it gives none.
host_stub::CpuidLeaf supported(const char* spec, uint32_t function) {
  const auto leaves = host_stub::supported_cpuid(*host_stub::parse_profile(spec));
  const auto found = std::ranges::find(leaves, function, &host_stub::CpuidLeaf::function);
  return found == leaves.end() ? host_stub::CpuidLeaf{} : *found;
}

}  // namespace

BOOST_AUTO_TEST_CASE(supported_cpuid_names_the_vendor_and_the_pmu_that_kvm_offers) {
  BOOST_TEST(supported("sim,vendor=intel", 0).ebx == 0x756e6547U);  // "Genu"
  BOOST_TEST(supported("sim,vendor=intel", 0x80000000).ebx == 0U);
  BOOST_TEST((supported("sim,vendor=intel", 0xa).eax & 0xff) == 2U);
  BOOST_TEST(supported("sim,vendor=intel,enable_pmu=N", 0xa).eax == 0U);
  BOOST_TEST((supported("sim,vendor=intel", 0x80000001).ecx >> 23 & 1) == 0U);
  for (const char* spec : {"sim:linux-5.4", "sim:linux-5.15", "sim:linux-6.6", "sim"})
    BOOST_TEST((supported(spec, 0x80000001).ecx >> 23 & 1) == 1U, spec);
  for (const char* spec : {"sim,enable_pmu=N", "sim,counters=4"})
    BOOST_TEST((supported(spec, 0x80000001).ecx >> 23 & 1) == 0U, spec);
  BOOST_TEST((supported("sim:linux-6.6,host-perfmonv2", 0x80000022).eax & 1) == 1U);
  BOOST_TEST((supported("sim:linux-6.1,host-perfmonv2", 0x80000022).eax & 1) == 0U);
}

BOOST_AUTO_TEST_CASE(a_mediated_vpmu_keeps_guest_only_and_host_only_bits) {
  Machine mediated("sim:linux-7.2,host-perfmonv2,mediated", kV2, true);
  set(*mediated.vcpu, 0xc0010200, ~uint64_t{0});
  BOOST_TEST(mediated.value(0xc0010200) == 0x30fffd7ffffU);
  Machine plain("sim:linux-7.2,host-perfmonv2", kV2, true);
  set(*plain.vcpu, 0xc0010200, ~uint64_t{0});
  BOOST_TEST(plain.value(0xc0010200) == 0xfffd7ffffU);
}

BOOST_AUTO_TEST_CASE(a_mediated_vpmu_without_an_irqchip_is_off_though_the_capability_reads_1) {
  Machine machine("sim:linux-7.2,host-perfmonv2,mediated", kV2, false);
  BOOST_TEST(check_extension(*machine.kvm, KVM_CAP_PMU_CAPABILITY) == 1);
  BOOST_TEST(!machine.sim().pmu().on());
  BOOST_TEST(set(*machine.vcpu, 0xc0010000, kCycles) == 1);
  BOOST_TEST(machine.value(0xc0010000) == 0U);
  BOOST_TEST(set(*machine.vcpu, 0xc0010200, 0) == kRefused);
}

BOOST_AUTO_TEST_CASE(a_busy_host_refuses_the_first_vcpu_until_the_vpmu_is_turned_off) {
  const auto kvm = open("sim:linux-7.2,host-perfmonv2,mediated,host-perf-busy");
  const auto vm = need(kvm->create_vm(), "KVM_CREATE_VM");
  BOOST_TEST(vm->ioctl(KVM_CREATE_IRQCHIP, nullptr) == 0);
  BOOST_TEST(vm->create_vcpu(0).error() == -EBUSY);
  BOOST_TEST(enable_cap(*vm, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE) == 0);
  BOOST_TEST(vm->create_vcpu(0).has_value());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(msr_filters)

BOOST_AUTO_TEST_CASE(a_denied_msr_faults_in_the_guest_and_works_for_the_host) {
  Machine machine("sim:linux-5.10");
  BOOST_TEST(deny(*machine.vm, 0xc0010200, 12) == 0);
  BOOST_TEST(!machine.vcpu->guest_rdmsr(0xc0010200).has_value());
  BOOST_TEST(!machine.vcpu->guest_wrmsr(0xc001020b, 0).has_value());
  BOOST_TEST(machine.vcpu->guest_rdmsr(0xc0010000).has_value());
  BOOST_TEST(set(*machine.vcpu, 0xc0010200, kCycles) == 1);
  BOOST_TEST(machine.value(0xc0010200) == kCycles);
}

BOOST_AUTO_TEST_CASE(reads_and_writes_are_denied_separately) {
  Machine machine("sim");
  BOOST_TEST(deny(*machine.vm, 0xc0010000, 8, KVM_MSR_FILTER_WRITE) == 0);
  BOOST_TEST(machine.vcpu->guest_rdmsr(0xc0010000).has_value());
  BOOST_TEST(!machine.vcpu->guest_wrmsr(0xc0010000, 0).has_value());
}

BOOST_AUTO_TEST_CASE(a_new_filter_replaces_the_old_one_whole) {
  Machine machine("sim");
  deny(*machine.vm, 0xc0010200, 12);
  deny(*machine.vm, 0xc0010000, 8);
  BOOST_TEST(machine.vcpu->guest_rdmsr(0xc0010200).has_value());
  BOOST_TEST(!machine.vcpu->guest_rdmsr(0xc0010000).has_value());
  kvm_msr_filter none{};
  BOOST_TEST(machine.vm->ioctl(KVM_X86_SET_MSR_FILTER, &none) == 0);
  BOOST_TEST(machine.vcpu->guest_rdmsr(0xc0010000).has_value());
}

BOOST_AUTO_TEST_CASE(a_malformed_filter_is_refused_and_changes_nothing) {
  Machine machine("sim");
  deny(*machine.vm, 0xc0010200, 12);
  kvm_msr_filter filter{};
  filter.flags = 2;
  BOOST_TEST(machine.vm->ioctl(KVM_X86_SET_MSR_FILTER, &filter) == -EINVAL);
  filter.flags = KVM_MSR_FILTER_DEFAULT_DENY;  // and no range
  BOOST_TEST(machine.vm->ioctl(KVM_X86_SET_MSR_FILTER, &filter) == -EINVAL);
  BOOST_TEST(deny(*machine.vm, 0xc0010200, 12, 0) == -EINVAL);
  BOOST_TEST(deny(*machine.vm, 0xc0010200, 12, 4) == -EINVAL);
  BOOST_TEST(deny(*machine.vm, 0, 0x600 * 8 + 1) == -EINVAL);
  BOOST_TEST(!machine.vcpu->guest_rdmsr(0xc0010200).has_value());
}

BOOST_AUTO_TEST_CASE(default_deny_denies_what_no_range_allows) {
  Machine machine("sim");
  uint8_t all[1] = {0xff};
  kvm_msr_filter filter{};
  filter.flags = KVM_MSR_FILTER_DEFAULT_DENY;
  filter.ranges[0].flags = KVM_MSR_FILTER_READ;
  filter.ranges[0].base = 0xc0010000;
  filter.ranges[0].nmsrs = 8;
  filter.ranges[0].bitmap = all;
  BOOST_TEST(machine.vm->ioctl(KVM_X86_SET_MSR_FILTER, &filter) == 0);
  BOOST_TEST(machine.vcpu->guest_rdmsr(0xc0010007).has_value());
  BOOST_TEST(!machine.vcpu->guest_wrmsr(0xc0010007, 0).has_value());
  BOOST_TEST(!machine.vcpu->guest_rdmsr(0xc0010200).has_value());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(threads)

BOOST_AUTO_TEST_CASE(vcpus_in_threads_of_their_own_beside_their_vm_do_not_disturb_each_other) {
  Machine machine("sim:linux-6.12,host-perfmonv2", kV2);
  std::vector<std::thread> threads;
  std::array<uint32_t, 4> wrong{};
  for (uint32_t id = 1; id <= wrong.size(); ++id) {
    threads.emplace_back([&, id] {
      const auto vcpu = need(machine.vm->create_vcpu(id), "KVM_CREATE_VCPU");
      set_cpuid(*vcpu, kV2);
      for (uint64_t i = 0; i < 500; ++i) {
        set(*vcpu, 0xc0010201, i * id);
        vcpu->guest_run(10);
        if (get(*vcpu, 0xc0010201).value != i * id) ++wrong[id - 1];
        (void)vcpu->guest_rdmsr(0xc0010200);  // allowed or not, as the filter is now
      }
    });
  }
  for (int i = 0; i < 200; ++i) deny(*machine.vm, 0xc0010200, i % 2 == 0 ? 12 : 1);
  for (std::thread& thread : threads) thread.join();
  for (const uint32_t count : wrong) BOOST_TEST(count == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
