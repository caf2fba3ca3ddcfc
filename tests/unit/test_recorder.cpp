// SPDX-License-Identifier: MIT
//
// The recorder: every ioctl is told, with its name, its place and what was in it.
#include <array>
#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

#include "kvm/faults.hpp"
#include "kvm/ioctl_detail.hpp"
#include "kvm/recorder.hpp"
#include "support/fake_kvm.hpp"

using namespace host_stub;

namespace {

struct Recorded {
  Recorded() : Recorded("") {}
  explicit Recorded(const std::string& faults)
      : kvm(with_recorder(
            with_faults(std::make_unique<FakeKvm>(state), parse_faults(faults).value()),
            [this](const IoctlEvent& event) { events.push_back(event); })) {}

  std::string last() const { return to_line(events.back()); }

  FakeState state;
  std::vector<IoctlEvent> events;
  std::unique_ptr<Kvm> kvm;
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(events, Recorded)

BOOST_AUTO_TEST_CASE(vms_are_numbered_and_vcpus_have_their_id) {
  const auto vm0 = kvm->create_vm().value();
  BOOST_TEST(last() == "kvm KVM_CREATE_VM -> 0");
  const auto vm1 = kvm->create_vm().value();
  const auto vcpu = vm1->create_vcpu(7).value();
  BOOST_TEST(last() == "vm1 KVM_CREATE_VCPU id=7 -> 0");
  vcpu->ioctl(KVM_RUN, nullptr);
  BOOST_TEST(last() == "vm1 vcpu7 KVM_RUN -> 0");
  BOOST_TEST((this->events.back().level == IoctlLevel::vcpu));
  BOOST_TEST(this->events.back().vm == 1);
  BOOST_TEST(this->events.back().vcpu == 7);
  BOOST_TEST(this->events.back().request == uint32_t{KVM_RUN});
  BOOST_TEST(this->events.size() == 4U);
}

BOOST_AUTO_TEST_CASE(msrs_are_told_with_their_values) {
  const auto vm = kvm->create_vm().value();
  const auto vcpu = vm->create_vcpu(0).value();
  MsrRequest request;
  request.add({0xc0000301, 0, 0});
  request.add({0xc0010200, 0, 0x530076});
  vcpu->ioctl(VMM_KVM_SET_MSRS, request.arg());
  BOOST_TEST(last() == "vm0 vcpu0 KVM_SET_MSRS 2 MSRs: c0000301=0 c0010200=530076 -> 2");
  MsrRequest read;
  read.add({0xc0010200, 0, 0});
  vcpu->ioctl(VMM_KVM_GET_MSRS, read.arg());
  BOOST_TEST(last() == "vm0 vcpu0 KVM_GET_MSRS 1 MSR: c0010200=530076 -> 1");
}

BOOST_AUTO_TEST_CASE(capabilities_are_told_by_name) {
  const auto vm = kvm->create_vm().value();
  kvm->ioctl(KVM_CHECK_EXTENSION, reinterpret_cast<void*>(uintptr_t{KVM_CAP_PMU_CAPABILITY}));
  BOOST_TEST(last() == "kvm KVM_CHECK_EXTENSION KVM_CAP_PMU_CAPABILITY -> 0");
  kvm_enable_cap cap{};
  cap.cap = KVM_CAP_PMU_CAPABILITY;
  cap.args[0] = KVM_PMU_CAP_DISABLE;
  vm->ioctl(KVM_ENABLE_CAP, &cap);
  BOOST_TEST(last() == "vm0 KVM_ENABLE_CAP KVM_CAP_PMU_CAPABILITY args[0]=1 -> 0");
  cap.cap = 9999;
  cap.flags = 1;
  vm->ioctl(KVM_ENABLE_CAP, &cap);
  BOOST_TEST(last() == "vm0 KVM_ENABLE_CAP capability 9999 args[0]=1 flags=1 -> 0");
}

BOOST_AUTO_TEST_CASE(a_filter_is_told_by_its_ranges) {
  const auto vm = kvm->create_vm().value();
  std::array<uint8_t, 1> bitmap{0xf0};
  kvm_msr_filter filter{};
  filter.ranges[0].flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
  filter.ranges[0].base = 0xc0010000;
  filter.ranges[0].nmsrs = 8;
  filter.ranges[0].bitmap = bitmap.data();
  vm->ioctl(KVM_X86_SET_MSR_FILTER, &filter);
  BOOST_TEST(last() == "vm0 KVM_X86_SET_MSR_FILTER default allow, c0010000+8 rw denies 4 -> 0");
}

BOOST_AUTO_TEST_CASE(an_ioctl_without_a_name_is_told_by_number) {
  kvm->ioctl(0x1234, nullptr);
  BOOST_TEST(last() == "kvm ioctl 0x1234 -> 0");
}

BOOST_AUTO_TEST_CASE(what_the_guest_does_is_no_ioctl) {
  const auto vm = kvm->create_vm().value();
  const auto vcpu = vm->create_vcpu(0).value();
  const size_t before = this->events.size();
  BOOST_TEST(vcpu->guest_wrmsr(1, 2).has_value());
  BOOST_TEST(vcpu->guest_rdmsr(1).value() == 2U);
  BOOST_TEST(this->events.size() == before);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(errors_are_told_by_name) {
  Recorded recorded("create_vcpu:EBUSY");
  const auto vm = recorded.kvm->create_vm().value();
  BOOST_TEST(vm->create_vcpu(0).error() == -EBUSY);
  BOOST_TEST(recorded.last() == "vm0 KVM_CREATE_VCPU id=0 -> -EBUSY");
}

BOOST_AUTO_TEST_CASE(long_requests_are_cut_and_bad_args_are_left_alone) {
  MsrRequest request;
  for (uint32_t i = 0; i < 40; ++i) request.add({i, 0, 0});
  const std::string text = ioctl_detail(VMM_KVM_SET_MSRS, request.arg());
  BOOST_TEST(text.find("40 MSRs: 00000000=0") == 0U);
  BOOST_TEST(text.ends_with("0000001f=0 (+8)"));
  BOOST_TEST(ioctl_detail(VMM_KVM_SET_MSRS, nullptr).empty());
  vmm_kvm_msrs_header header{.nmsrs = 1000, .pad = 0};
  BOOST_TEST(ioctl_detail(VMM_KVM_SET_MSRS, &header) == "1000 MSRs");
}
