// SPDX-License-Identifier: MIT
//
// The real device behind kvm.hpp: what must hold on any host with KVM, and a little that holds only
// where kvm.enable_pmu is N. Without KVM the cases say so and are skipped.
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "host_kit/cpuid_table.hpp"
#include "host_kit/one_msr.hpp"
#include "kvm/kvm_device.hpp"
#include "vmm/kvm_uapi.h"

using namespace host_stub;

namespace {

constexpr uint32_t kMsrPat = 0x277;
constexpr uint64_t kPatReset = 0x0007040600070406;
constexpr uint64_t kPatLinux = 0x0407050600070106;
constexpr uint32_t kMsrMtrrDefType = 0x2ff;    // has reserved bits on every CPU
constexpr uint32_t kPerfEvtSel0 = 0xc0010000;  // MSRC001_0000 PerfEvtSel0
constexpr uint32_t kMsrNowhere = 0x4b564d21;   // no CPU and no hypervisor has it

struct Machine {
  std::unique_ptr<Kvm> kvm;
  std::unique_ptr<Vm> vm;
  std::vector<std::unique_ptr<Vcpu>> vcpus;
};

enum class Irqchip { none, in_kernel };

// Nothing: this machine has no KVM, and the test says so.
std::optional<Machine> machine(uint32_t vcpus = 1, Irqchip irqchip = Irqchip::none) {
  tl::expected<std::unique_ptr<Kvm>, std::string> kvm = open_kvm_device("/dev/kvm");
  if (!kvm) {
    BOOST_TEST_MESSAGE("SKIPPED: " << kvm.error());
    return std::nullopt;
  }
  Machine made{.kvm = std::move(*kvm), .vm = {}, .vcpus = {}};
  made.vm = made.kvm->create_vm().value();
  if (irqchip == Irqchip::in_kernel) {
    BOOST_REQUIRE_EQUAL(made.vm->ioctl(KVM_CREATE_IRQCHIP, nullptr), 0);
  }
  for (uint32_t id = 0; id < vcpus; ++id) {
    made.vcpus.push_back(made.vm->create_vcpu(id).value());
  }
  return made;
}

template <class T>
T get(Vcpu& vcpu, uint32_t request) {
  T value;
  std::memset(&value, 0, sizeof value);  // padding too: values are compared as bytes
  BOOST_REQUIRE_GE(vcpu.ioctl(request, &value), 0);
  return value;
}

template <class T>
bool same_bytes(const T& left, const T& right) {
  return std::memcmp(&left, &right, sizeof left) == 0;
}

// All that an access must leave as it found it.
struct Registers {
  explicit Registers(Vcpu& vcpu)
      : regs(get<kvm_regs>(vcpu, KVM_GET_REGS)),
        sregs(get<kvm_sregs>(vcpu, KVM_GET_SREGS)),
        events(get<kvm_vcpu_events>(vcpu, KVM_GET_VCPU_EVENTS)),
        mp_state(get<kvm_mp_state>(vcpu, KVM_GET_MP_STATE)) {}

  bool operator==(const Registers& other) const {
    return same_bytes(regs, other.regs) && same_bytes(sregs, other.sregs) &&
           same_bytes(events, other.events) && same_bytes(mp_state, other.mp_state);
  }

  kvm_regs regs;
  kvm_sregs sregs;
  kvm_vcpu_events events;
  kvm_mp_state mp_state;
};

// Gives a vCPU the CPUID that KVM supports: Linux 7.2 takes an EFER only from a vCPU that has one.
void set_supported_cpuid(Kvm& kvm, Vcpu& vcpu) {
  host_kit::CpuidRequest cpuid{.header = {.nent = 256, .padding = 0}, .entries = {}};
  BOOST_REQUIRE_EQUAL(kvm.ioctl(VMM_KVM_GET_SUPPORTED_CPUID, &cpuid), 0);
  BOOST_REQUIRE_EQUAL(vcpu.ioctl(VMM_KVM_SET_CPUID2, &cpuid), 0);
}

// Denies the guest `count` MSRs from `base` on, or with count 0 nothing.
int32_t deny(Vm& vm, uint32_t base, uint32_t count) {
  std::array<uint8_t, 8> none_allowed{};
  kvm_msr_filter filter{};
  filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
  filter.ranges[0].flags = count == 0 ? 0 : KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
  filter.ranges[0].nmsrs = count;
  filter.ranges[0].base = base;
  filter.ranges[0].bitmap = none_allowed.data();
  return vm.ioctl(KVM_X86_SET_MSR_FILTER, &filter);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_path_that_is_not_there_is_named_with_a_hint) {
  const auto kvm = open_kvm_device("/nonexistent/kvm");
  BOOST_REQUIRE(!kvm);
  BOOST_TEST(kvm.error().find("/nonexistent/kvm: No such file") == 0U);
  BOOST_TEST(kvm.error().find("kvm_amd") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_device_that_is_not_kvm_is_refused) {
  const auto kvm = open_kvm_device("/dev/null");
  BOOST_REQUIRE(!kvm);
  BOOST_TEST(kvm.error().find("not KVM's device") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(the_host_tells_its_kernel_and_its_pmu_parameter) {
  const auto m = machine();
  if (!m) return;
  const HostInfo info = m->kvm->host_info();
  BOOST_TEST(info.kernel.find('.') != std::string::npos);
  BOOST_TEST((info.enable_pmu == "Y" || info.enable_pmu == "N" || info.enable_pmu == "?"));
  BOOST_TEST(m->kvm->name() == "/dev/kvm");
}

BOOST_AUTO_TEST_CASE(the_filter_capability_is_offered_on_both_descriptors) {
  const auto m = machine();
  if (!m) return;
  void* cap = reinterpret_cast<void*>(uintptr_t{KVM_CAP_X86_MSR_FILTER});
  BOOST_TEST(m->kvm->ioctl(KVM_CHECK_EXTENSION, cap) == 1);
  BOOST_TEST(m->vm->ioctl(KVM_CHECK_EXTENSION, cap) == 1);
}

BOOST_AUTO_TEST_CASE(creating_goes_through_its_own_calls_only) {
  const auto m = machine();
  if (!m) return;
  BOOST_TEST(m->kvm->ioctl(KVM_CREATE_VM, nullptr) == -EINVAL);
  BOOST_TEST(m->vm->ioctl(KVM_CREATE_VCPU, nullptr) == -EINVAL);
}

BOOST_AUTO_TEST_CASE(a_second_vcpu_of_the_same_id_is_refused) {
  const auto m = machine();
  if (!m) return;
  BOOST_TEST(m->vm->create_vcpu(0).error() == -EEXIST);
}

BOOST_AUTO_TEST_CASE(what_the_host_sets_the_guest_reads) {
  const auto m = machine();
  if (!m) return;
  host_kit::OneMsr pat;
  pat.entry = {.index = kMsrPat, .reserved = 0, .data = kPatLinux};
  BOOST_TEST(m->vcpus[0]->ioctl(VMM_KVM_SET_MSRS, &pat) == 1);
  BOOST_TEST(m->vcpus[0]->guest_rdmsr(kMsrPat).value() == kPatLinux);
}

BOOST_AUTO_TEST_CASE(rdpmc_gives_a_counter_or_a_general_protection_fault) {
  const auto m = machine();
  if (!m) return;
  const auto read = m->vcpus[0]->guest_rdpmc(0);
  BOOST_TEST((read || read.error() == host_stub::GuestFault::general_protection));
  const auto beyond = m->vcpus[0]->guest_rdpmc(0x3f);  // no CPU has that many
  BOOST_REQUIRE(!beyond);
  BOOST_TEST((beyond.error() == host_stub::GuestFault::general_protection));
}

BOOST_AUTO_TEST_CASE(what_the_guest_writes_the_host_gets) {
  const auto m = machine();
  if (!m) return;
  BOOST_TEST(m->vcpus[0]->guest_rdmsr(kMsrPat).value() == kPatReset);
  BOOST_TEST(m->vcpus[0]->guest_wrmsr(kMsrPat, kPatLinux).has_value());
  host_kit::OneMsr pat;
  pat.entry.index = kMsrPat;
  BOOST_TEST(m->vcpus[0]->ioctl(VMM_KVM_GET_MSRS, &pat) == 1);
  BOOST_TEST(pat.entry.data == kPatLinux);
}

BOOST_AUTO_TEST_CASE(a_bad_value_is_a_general_protection_fault_and_changes_nothing) {
  const auto m = machine();
  if (!m) return;
  const auto before = m->vcpus[0]->guest_rdmsr(kMsrMtrrDefType).value();
  const auto written = m->vcpus[0]->guest_wrmsr(kMsrMtrrDefType, ~uint64_t{0});
  BOOST_REQUIRE(!written);
  BOOST_TEST((written.error() == GuestFault::general_protection));
  BOOST_TEST(m->vcpus[0]->guest_rdmsr(kMsrMtrrDefType).value() == before);
}

BOOST_AUTO_TEST_CASE(an_msr_that_does_not_exist_is_a_general_protection_fault) {
  const auto m = machine();
  if (!m) return;
  const auto read = m->vcpus[0]->guest_rdmsr(kMsrNowhere);
  if (read) {
    BOOST_TEST_MESSAGE("SKIPPED: kvm.ignore_msrs is on here");
    return;
  }
  BOOST_TEST((read.error() == GuestFault::general_protection));
}

BOOST_AUTO_TEST_CASE(the_filter_denies_the_guest_and_its_removal_allows_again) {
  const auto m = machine();
  if (!m) return;
  const auto before = m->vcpus[0]->guest_rdmsr(kPerfEvtSel0);
  BOOST_REQUIRE_EQUAL(deny(*m->vm, kPerfEvtSel0, 8), 0);
  const auto denied = m->vcpus[0]->guest_rdmsr(kPerfEvtSel0);
  BOOST_REQUIRE(!denied);
  BOOST_TEST((denied.error() == GuestFault::general_protection));
  BOOST_TEST(
      (m->vcpus[0]->guest_wrmsr(kPerfEvtSel0 + 7, 0).error() == GuestFault::general_protection));
  BOOST_REQUIRE_EQUAL(deny(*m->vm, 0, 0), 0);
  const auto after = m->vcpus[0]->guest_rdmsr(kPerfEvtSel0);
  BOOST_TEST(after.has_value() == before.has_value());
  if (after && before) BOOST_TEST(*after == *before);
}

BOOST_AUTO_TEST_CASE(a_denied_access_that_exits_to_the_vmm_is_a_general_protection_fault) {
  const auto m = machine();
  if (!m) return;
  kvm_enable_cap exits{};
  exits.cap = KVM_CAP_X86_USER_SPACE_MSR;
  exits.args[0] = KVM_MSR_EXIT_REASON_FILTER;
  BOOST_REQUIRE_EQUAL(m->vm->ioctl(KVM_ENABLE_CAP, &exits), 0);
  BOOST_REQUIRE_EQUAL(deny(*m->vm, kPerfEvtSel0, 8), 0);
  BOOST_TEST((m->vcpus[0]->guest_rdmsr(kPerfEvtSel0).error() == GuestFault::general_protection));
  BOOST_TEST((m->vcpus[0]->guest_wrmsr(kPerfEvtSel0, 1).error() == GuestFault::general_protection));
  BOOST_TEST(m->vcpus[0]->guest_rdmsr(kMsrPat).value() == kPatReset);
}

BOOST_AUTO_TEST_CASE(with_enable_pmu_n_a_selector_swallows_writes_and_reads_zero) {
  const auto m = machine();
  if (!m) return;
  if (m->kvm->host_info().enable_pmu != "N") {
    BOOST_TEST_MESSAGE("SKIPPED: kvm.enable_pmu is " << m->kvm->host_info().enable_pmu);
    return;
  }
  BOOST_TEST(m->vcpus[0]->guest_wrmsr(kPerfEvtSel0, 0x530076).has_value());
  BOOST_TEST(m->vcpus[0]->guest_rdmsr(kPerfEvtSel0).value() == 0U);
}

BOOST_AUTO_TEST_CASE(a_guest_access_leaves_the_vcpu_at_the_reset_vector) {
  const auto m = machine();
  if (!m) return;
  const Registers before(*m->vcpus[0]);
  BOOST_TEST(before.regs.rip == 0xfff0U);
  BOOST_TEST(m->vcpus[0]->guest_rdmsr(kMsrPat).has_value());
  BOOST_TEST((before == Registers(*m->vcpus[0])));
  BOOST_TEST(!m->vcpus[0]->guest_rdmsr(kMsrNowhere).has_value());
  BOOST_TEST((before == Registers(*m->vcpus[0])));
}

BOOST_AUTO_TEST_CASE(a_guest_access_leaves_other_registers_as_they_were) {
  const auto m = machine();
  if (!m) return;
  auto regs = get<kvm_regs>(*m->vcpus[0], KVM_GET_REGS);
  regs.rip = 0x1234;
  regs.rax = 0x1122334455667788;
  regs.r15 = 0x99;
  regs.rsp = 0x8000;
  BOOST_REQUIRE_EQUAL(m->vcpus[0]->ioctl(KVM_SET_REGS, &regs), 0);
  const Registers before(*m->vcpus[0]);
  BOOST_TEST(m->vcpus[0]->guest_wrmsr(kMsrPat, kPatLinux).has_value());
  BOOST_TEST((before == Registers(*m->vcpus[0])));
}

BOOST_AUTO_TEST_CASE(a_vcpu_in_protected_mode_is_asked_and_stays_in_it) {
  const auto m = machine();
  if (!m) return;
  set_supported_cpuid(*m->kvm, *m->vcpus[0]);
  auto sregs = get<kvm_sregs>(*m->vcpus[0], KVM_GET_SREGS);
  sregs.cr0 |= 1;        // PE
  sregs.cr4 |= 1 << 5;   // PAE
  sregs.efer |= 1 << 8;  // LME
  sregs.cs.base = 0;
  sregs.cs.limit = 0xffffffff;
  sregs.cs.db = 1;
  sregs.cs.g = 1;
  BOOST_REQUIRE_EQUAL(m->vcpus[0]->ioctl(KVM_SET_SREGS, &sregs), 0);
  const Registers before(*m->vcpus[0]);
  BOOST_TEST(m->vcpus[0]->guest_rdmsr(kMsrPat).value() == kPatReset);
  BOOST_TEST((before == Registers(*m->vcpus[0])));
}

BOOST_AUTO_TEST_CASE(signals_do_not_end_an_access) {
  const auto m = machine();
  if (!m) return;
  struct sigaction ours {};
  struct sigaction theirs {};
  ours.sa_handler = [](int) {};  // no SA_RESTART: KVM_RUN gives EINTR
  BOOST_REQUIRE_EQUAL(sigaction(SIGALRM, &ours, &theirs), 0);
  const itimerval often{.it_interval = {.tv_sec = 0, .tv_usec = 300},
                        .it_value = {.tv_sec = 0, .tv_usec = 300}};
  const itimerval never{};
  setitimer(ITIMER_REAL, &often, nullptr);
  uint32_t wrong = 0;
  for (uint64_t round = 0; round < 500; ++round) {
    const uint64_t value = round % 2 == 0 ? kPatLinux : kPatReset;
    if (!m->vcpus[0]->guest_wrmsr(kMsrPat, value)) ++wrong;
    if (m->vcpus[0]->guest_rdmsr(kMsrPat) != value) ++wrong;
  }
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &theirs, nullptr);
  BOOST_TEST(wrong == 0U);
}

BOOST_AUTO_TEST_CASE(a_pending_nmi_waits_until_the_access_is_over) {
  const auto m = machine(1, Irqchip::in_kernel);
  if (!m) return;
  BOOST_REQUIRE_EQUAL(m->vcpus[0]->ioctl(KVM_NMI, nullptr), 0);
  const Registers before(*m->vcpus[0]);
  BOOST_TEST(before.events.nmi.pending == 1);
  BOOST_TEST(m->vcpus[0]->guest_rdmsr(kMsrPat).has_value());
  BOOST_TEST((before == Registers(*m->vcpus[0])));
}

BOOST_AUTO_TEST_CASE(vcpus_that_wait_for_a_sipi_can_be_asked_and_wait_again) {
  const auto m = machine(3, Irqchip::in_kernel);
  if (!m) return;
  for (const auto& vcpu : m->vcpus) {
    const Registers before(*vcpu);
    BOOST_TEST(vcpu->guest_rdmsr(kMsrPat).value() == kPatReset);
    BOOST_TEST((before == Registers(*vcpu)));
  }
  BOOST_TEST(Registers(*m->vcpus[2]).mp_state.mp_state == uint32_t{KVM_MP_STATE_UNINITIALIZED});
}

BOOST_AUTO_TEST_CASE(vcpus_of_one_vm_are_asked_from_their_own_threads) {
  const auto m = machine(2);
  if (!m) return;
  std::array<uint32_t, 2> wrong{};
  std::vector<std::thread> threads;
  for (size_t id = 0; id < 2; ++id) {
    threads.emplace_back([&, id] {
      Vcpu& vcpu = *m->vcpus[id];
      for (uint32_t round = 0; round < 200; ++round) {
        const uint64_t value = id == 0 ? kPatLinux : kPatReset;
        if (!vcpu.guest_wrmsr(kMsrPat, value)) ++wrong[id];
        if (vcpu.guest_rdmsr(kMsrPat) != value) ++wrong[id];
        if (vcpu.guest_wrmsr(kMsrMtrrDefType, ~uint64_t{0})) ++wrong[id];  // #GP: uses the stack
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST(wrong[0] == 0U);
  BOOST_TEST(wrong[1] == 0U);
}

BOOST_AUTO_TEST_CASE(a_vcpu_whose_descriptor_is_closed_gives_ebadf_and_says_why) {
  auto m = machine();
  if (!m) return;
  std::string logged;
  m->vcpus.clear();
  m->vm.reset();
  m->kvm = open_kvm_device("/dev/kvm", [&](std::string_view text) { logged = text; }).value();
  m->vm = m->kvm->create_vm().value();
  m->vcpus.push_back(m->vm->create_vcpu(0).value());
  auto& vcpu = dynamic_cast<KvmDeviceVcpu&>(*m->vcpus[0]);
  ::close(vcpu.fd());
  host_kit::OneMsr pat;
  pat.entry.index = kMsrPat;
  BOOST_TEST(vcpu.ioctl(VMM_KVM_GET_MSRS, &pat) == -EBADF);
  BOOST_TEST((vcpu.guest_rdmsr(kMsrPat).error() == GuestFault::not_run));
  BOOST_TEST(vcpu.not_run_reason().find("EBADF") != std::string::npos);
  BOOST_TEST(logged == vcpu.not_run_reason());
}

BOOST_AUTO_TEST_CASE(a_vm_whose_descriptor_is_closed_gives_ebadf) {
  auto m = machine();
  if (!m) return;
  ::close(dynamic_cast<KvmDeviceVm&>(*m->vm).fd());
  BOOST_TEST(deny(*m->vm, kPerfEvtSel0, 8) == -EBADF);
  BOOST_TEST(m->vm->create_vcpu(1).error() == -EBADF);
}

BOOST_AUTO_TEST_CASE(guest_time_passes_without_an_nmi) {
  const auto m = machine();
  if (!m) return;
  m->vcpus[0]->guest_write_lvtpc(0x400);
  const GuestRun run = m->vcpus[0]->guest_run(1000);
  BOOST_TEST(run.cycles == 1000U);
  BOOST_TEST(!run.nmi);
}
