// SPDX-License-Identifier: MIT
//
// Small inputs that once gave a wrong result without a line, each with the right value: the plugin
// in the stub VMM, on the simulated KVM.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <memory>
#include <string>
#include <vector>

#include "host_kit/one_msr.hpp"
#include "sim/sim_kvm.hpp"
#include "stub_vmm/stub_vmm.hpp"
#include "support/need.hpp"

using namespace host_stub;  // NOLINT: a test's vocabulary

namespace {

constexpr uint64_t kCycles = 0x530076;  // EN, INT, OS, USR, event 76
const std::string kPlugin = std::string(TEST_BUILD_DIR) + "/plugin/svm_pmu.so";

/// A VM with the plugin, and what was said about it.
struct SmallVm {
  struct Input {
    const char* kvm = "sim:linux-6.12";
    const char* options = "";
    const char* cpuid = "core";
    VmmKind kind = VmmKind::stub;
    uint32_t guest_pmu = VMM_GUEST_PMU_UNSAID;
    bool knows_perfmonv2 = true;
  };

  explicit SmallVm(const Input& input) : kvm(need(open_sim(input.kvm), input.kvm)) {
    VmmConfig config;
    config.kind = input.kind;
    config.guest_pmu = input.guest_pmu;
    config.cpuid = need(CpuidModel::parse(input.cpuid), input.cpuid);
    config.guest_kernel.knows_perfmonv2 = input.knows_perfmonv2;
    config.plugins.push_back({kPlugin, input.options});
    auto made = StubVmm::create(*kvm, config, [this](const Event& event) {
      if (event.kind == Event::Kind::log && event.level <= VMM_LOG_WARNING)
        warnings.push_back(event.text);
    });
    if (made)
      vmm = std::move(*made);
    else
      error = made.error().text;
  }

  Vcpu& vcpu() const { return vmm->vcpu(0); }

  /// What the guest reads; 0 for #GP.
  uint64_t guest_reads(uint32_t msr) const { return vcpu().guest_rdmsr(msr).value_or(0); }

  std::unique_ptr<Kvm> kvm;
  std::vector<std::string> warnings;
  std::unique_ptr<StubVmm> vmm;  ///< null: it could not be made
  std::string error;
};

}  // namespace

BOOST_AUTO_TEST_CASE(on_6_6_with_perfmonv2_a_guest_of_version_1_counts_from_its_first_boot_on) {
  SmallVm vm({.kvm = "sim:linux-6.6,host-perfmonv2", .cpuid = "v2", .knows_perfmonv2 = false});
  BOOST_REQUIRE_MESSAGE(vm.vmm, vm.error);
  BOOST_REQUIRE(vm.vcpu().guest_wrmsr(0xc0010200, kCycles).has_value());
  vm.vcpu().guest_run(1000);
  BOOST_TEST(vm.guest_reads(0xc0010201) == 1000U);
}

BOOST_AUTO_TEST_CASE(a_machine_that_is_loaded_after_a_reset_has_the_registers_that_were_saved) {
  SmallVm vm({});
  BOOST_REQUIRE_MESSAGE(vm.vmm, vm.error);
  BOOST_REQUIRE(vm.vcpu().guest_wrmsr(0xc0010200, kCycles).has_value());
  const auto saved = vm.vmm->save_machine();
  BOOST_REQUIRE(saved.has_value());
  BOOST_REQUIRE(vm.vmm->reset().has_value());
  BOOST_TEST(vm.guest_reads(0xc0010200) == 0U);
  BOOST_REQUIRE(vm.vmm->load_machine(*saved).has_value());
  BOOST_TEST(vm.guest_reads(0xc0010200) == kCycles);
}

BOOST_AUTO_TEST_CASE(a_vmm_that_turns_the_capability_on_again_leaves_no_live_pmu_behind_a_reset) {
  SmallVm vm({.options = "pmu-cap-disabled=on", .kind = VmmKind::enables_pmu});
  BOOST_REQUIRE(vm.vmm);
  vm.vcpu().guest_wrmsr(0xc0010200, kCycles);
  BOOST_REQUIRE(vm.vmm->reset().has_value());
  BOOST_TEST(vm.guest_reads(0xc0010200) == 0U);
  BOOST_TEST(vm.warnings.size() == 1U);  // once
}

BOOST_AUTO_TEST_CASE(qemu_11_lives_with_the_vpmu_off_on_a_cpu_with_perfctrextcore) {
  for (const char* kvm : {"sim:linux-6.1", "sim:linux-6.12", "sim:linux-7.2"}) {
    SmallVm vm({.kvm = kvm, .options = "pmu-cap-disabled=on", .kind = VmmKind::qemu_11});
    BOOST_REQUIRE_MESSAGE(vm.vmm, kvm << ": " << vm.error);
    BOOST_TEST(vm.vmm->reset().has_value());
  }
}

BOOST_AUTO_TEST_CASE(with_the_vpmu_off_a_vmm_can_read_all_msrs_of_kvms_list) {
  SmallVm vm({.options = "pmu-cap-disabled=on"});
  BOOST_REQUIRE_MESSAGE(vm.vmm, vm.error);
  for (const uint32_t msr : msr_index_list(*parse_profile("sim:linux-6.12")))
    BOOST_TEST(host_kit::get_msr(vm.vcpu(), msr).has_value(), "refused: " << std::hex << msr);
}

BOOST_AUTO_TEST_CASE(on_an_intel_host_nothing_is_switched_off_and_that_is_said) {
  SmallVm vm(
      {.kvm = "sim:linux-6.12,vendor=intel", .options = "pmu-cap-disabled=on", .cpuid = "host"});
  BOOST_REQUIRE_MESSAGE(vm.vmm, vm.error);
  BOOST_TEST(vm.warnings.size() == 1U);
  SmallVm strict({.kvm = "sim:linux-6.12,vendor=intel",
                  .options = "pmu-cap-disabled=on,strict=on",
                  .cpuid = "host"});
  BOOST_TEST(!strict.vmm);
}

BOOST_AUTO_TEST_CASE(a_live_vpmu_without_capability_is_refused_with_strict_and_never_silent) {
  SmallVm strict({.kvm = "sim:linux-6.12,no-pmu-capability",
                  .options = "pmu-cap-disabled=on,strict=on,verify=on"});
  BOOST_TEST(!strict.vmm);
  BOOST_TEST(strict.error.find("vcpu_reset of vCPU 0 failed") != std::string::npos, strict.error);
  SmallVm vm({.kvm = "sim:linux-6.12,no-pmu-capability", .options = "pmu-cap-disabled=on"});
  BOOST_REQUIRE(vm.vmm);
  BOOST_TEST(!vm.warnings.empty());
}

BOOST_AUTO_TEST_CASE(on_5_10_the_registers_that_a_guest_without_perfctrextcore_reaches_are_reset) {
  SmallVm vm({.kvm = "sim:linux-5.10", .options = "verify=on", .cpuid = "plain"});
  BOOST_REQUIRE_MESSAGE(vm.vmm, vm.error);
  BOOST_REQUIRE(vm.vcpu().guest_wrmsr(0xc0010208, kCycles).has_value());
  BOOST_REQUIRE(vm.vmm->reset().has_value());
  BOOST_TEST(vm.guest_reads(0xc0010208) == 0U);
}

BOOST_AUTO_TEST_CASE(off_for_the_vms_whose_vmm_was_told_so_and_for_no_others) {
  for (const uint32_t wish : {VMM_GUEST_PMU_UNSAID, VMM_GUEST_PMU_OFF, VMM_GUEST_PMU_ON}) {
    SmallVm vm({.options = "pmu-cap-disabled=auto", .guest_pmu = wish});
    BOOST_REQUIRE_MESSAGE(vm.vmm, vm.error);
    vm.vcpu().guest_wrmsr(0xc0010000, kCycles);
    BOOST_TEST(vm.guest_reads(0xc0010000) == (wish == VMM_GUEST_PMU_OFF ? 0 : kCycles));
  }
}
