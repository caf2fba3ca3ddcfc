// SPDX-License-Identifier: MIT
//
// What a reset does when KVM, or the host before it, refuses, stops short, is interrupted, or lies:
// what can be reset is, and what cannot is said with vCPU, ioctl, register and errno.
#include <fmt/format.h>
#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "host_kit/msr_io.hpp"
#include "kvm/msr_request.hpp"
#include "plugin_fixture.hpp"
#include "sim/pmu_msrs.hpp"

using namespace host_stub;

namespace {

constexpr const char* kV2Host = "sim:linux-6.12,host-perfmonv2";
constexpr uint32_t kPlanLength = 15;  // of a PerfMonV2 guest with six counters

HostSpec v2_spec(const std::string& faults) {
  return {.kvm = kV2Host, .cpuid = "v2", .faults = faults};
}

/// The registers of stale() as a list.
std::vector<std::string> words(const std::string& text) {
  std::vector<std::string> list;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    list.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return list;
}

/// Of stale(), what is not this register nor its alias in the legacy bank.
std::string stale_but(const Machine& vm, uint32_t vcpu, uint32_t msr) {
  const PmuMsr allowed = *pmu_msr(msr);
  std::string rest;
  for (const std::string& word : words(vm.stale(vcpu))) {
    const PmuMsr found =
        *pmu_msr(static_cast<uint32_t>(std::stoul(word.substr(0, 8), nullptr, 16)));
    const bool same_bank = (found.bank == PmuBank::global) == (allowed.bank == PmuBank::global);
    if (same_bank && found.index == allowed.index && found.selector == allowed.selector) continue;
    rest += word + " ";
  }
  return rest;
}

/// A sink without room.
struct Refusing {
  static int32_t add(void* self, const vmm_msr*, uint32_t) {
    ++static_cast<Refusing*>(self)->calls;
    return -ENOSPC;
  }
  int calls = 0;
  vmm_msr_sink sink{sizeof(vmm_msr_sink), 0, this, &Refusing::add};
};

}  // namespace

BOOST_AUTO_TEST_SUITE(short_counts)

BOOST_AUTO_TEST_CASE(a_short_count_once_at_any_position_changes_nothing_in_the_end) {
  for (uint32_t entry = 0; entry < kPlanLength; ++entry)
    for (const char* options : {"", "strict=on", "verify=on"}) {
      BOOST_TEST_CONTEXT("short@" << entry << " " << options) {
        Rig rig(v2_spec(fmt::format("set_msrs:short@{}#1", entry)), options);
        rig.vm.dirty(0);
        BOOST_TEST(rig.vm.reset(0) == 0);
        BOOST_TEST(rig.vm.stale(0) == "");
        BOOST_TEST(rig.host.log_lines().empty());
        // nothing was learnt from it
        rig.host.forget();
        BOOST_TEST(rig.vm.reset(0) == 0);
        BOOST_TEST(text_of(rig.host.ioctls().at(0)) ==
                   text_of(writes_of({Plan::extended, 6, true, 0x3f})));
      }
    }
}

BOOST_AUTO_TEST_CASE(calls_that_always_stop_short_somewhere_still_reset_everything) {
  for (uint32_t entry = 1; entry < kPlanLength; ++entry) {
    BOOST_TEST_CONTEXT("short@" << entry) {
      Rig rig(v2_spec(fmt::format("set_msrs:short@{}", entry)));
      rig.vm.dirty(0);
      BOOST_TEST(rig.vm.reset(0) == 0);
      BOOST_TEST(rig.vm.stale(0) == "");
      BOOST_TEST(rig.host.log_lines().empty());
    }
  }
}

BOOST_AUTO_TEST_CASE(a_host_that_takes_no_register_at_all_is_an_error_for_each_that_is_not_clean) {
  Rig rig(v2_spec("set_msrs:short@0"));
  rig.vm.dirty(0);
  const std::string before = rig.vm.stale(0);
  BOOST_TEST(rig.vm.reset(0) == -EIO);
  BOOST_TEST(rig.vm.stale(0) == before);
  for (uint32_t i = 0; i < kMaxCounters; ++i)
    BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {"vCPU 0", fmt::format("{:08x}", kMsrCtl0 + 2 * i),
                                               "530076"}) == 1u);
  // and none where everything is clean already, but for GLOBAL_CTL that must go through 0
  Rig clean({.faults = "set_msrs:short@0"});
  BOOST_TEST(clean.vm.reset(0) == 0);
  BOOST_TEST(clean.host.log_lines().empty());
}

BOOST_AUTO_TEST_CASE(short_counts_of_the_read_back_skip_no_selector) {
  for (uint32_t entry = 0; entry < kMaxCounters; ++entry) {
    BOOST_TEST_CONTEXT("short@" << entry) {
      Rig rig({.faults = fmt::format("get_msrs:short@{}#1", entry)}, "verify=on");
      rig.vm.dirty(0);
      BOOST_TEST(rig.vm.reset(0) == -EIO);
      BOOST_TEST(rig.vm.stale(0) == "");
      const uint32_t msr = kMsrCtl0 + 2 * entry;
      BOOST_TEST(rig.host.logged(0, {}) == 1u);
      BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {"vCPU 0", fmt::format("{:08x}", msr),
                                                 "cannot be read back"}) == 1u);
      // those behind it were read all the same
      const auto reads = rig.host.ioctls("KVM_GET_MSRS");
      BOOST_REQUIRE(reads.size() == (entry + 1 < kMaxCounters ? 2u : 1u));
      if (reads.size() == 2)
        BOOST_TEST(words(text_of(reads[1])).size() == kMaxCounters - 1 - entry);
      BOOST_TEST(rig.vm.reset(0) == 0);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(refusals)

BOOST_AUTO_TEST_CASE(a_register_that_keeps_its_value_fails_the_reset_and_all_others_are_clean) {
  const struct {
    uint32_t msr;
    const char* kept;
  } rows[] = {
      {0xc0010200, "530076"}, {0xc0010206, "530076"}, {0xc001020a, "530076"}, {0xc0010201, "1201"},
      {0xc001020b, "120b"},   {0xc0000300, "1"},      {0xc0000301, "1"},
  };
  for (const auto& row : rows)
    for (const char* options : {"", "verify=on", "strict=on"}) {
      const std::string name = fmt::format("{:08x}", row.msr);
      BOOST_TEST_CONTEXT(name << " " << options) {
        Rig rig(v2_spec("set_msrs:refuse=" + name), options);
        rig.vm.dirty(1);
        BOOST_TEST(rig.vm.reset(1) == -EIO);
        BOOST_TEST(stale_but(rig.vm, 1, row.msr) == "");
        BOOST_TEST(rig.vm.read(1, row.msr).value() != 0u);
        BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {"vCPU 1", "KVM_SET_MSRS", name, row.kept}) >=
                   1u);
        // it is there, so it is tried again each time
        rig.host.forget();
        BOOST_TEST(rig.vm.reset(1) == -EIO);
        BOOST_TEST(words(text_of(rig.host.ioctls("KVM_SET_MSRS").at(0))).size() == kPlanLength);
      }
    }
}

BOOST_AUTO_TEST_CASE(a_refused_register_that_is_clean_anyway_is_no_error) {
  for (const uint32_t msr : {0xc0010200u, 0xc001020bu, 0xc0000300u}) {
    Rig rig(v2_spec(fmt::format("set_msrs:refuse={:x}", msr)), "verify=on");
    BOOST_TEST(rig.vm.reset(0) == 0);
    BOOST_TEST(rig.host.log_lines().empty());
  }
}

BOOST_AUTO_TEST_CASE(a_register_that_kvm_does_not_have_is_left_out_from_then_on_and_said_once) {
  for (const uint32_t msr : {0xc0010200u, 0xc001020bu, 0xc0000300u}) {
    const std::string name = fmt::format("{:08x}", msr);
    BOOST_TEST_CONTEXT(name) {
      Rig rig(v2_spec(fmt::format("set_msrs:refuse={0};get_msrs:refuse={0}", name)), "", 3);
      rig.vm.dirty(0);
      BOOST_TEST(rig.vm.reset(0) == 0);
      BOOST_TEST(stale_but(rig.vm, 0, msr) == "");
      BOOST_TEST(rig.host.logged(VMM_LOG_WARNING, {"KVM does not have", name}) == 1u);
      for (const uint32_t vcpu : {0u, 1u, 2u}) {
        rig.host.forget();
        BOOST_TEST(rig.vm.reset(vcpu) == 0);
        const auto made = rig.host.ioctls();
        BOOST_REQUIRE(made.size() == 1u);
        BOOST_TEST(made[0].result == static_cast<int32_t>(kPlanLength - 1));
        BOOST_TEST(!says(text_of(made[0]), name));
        BOOST_TEST(rig.host.log_lines().empty());
      }
      // and out of batches
      host_kit::MsrBatch batch(64);
      BOOST_TEST(rig.vm.reset(0, batch.sink()) == 0);
      BOOST_TEST(batch.entries().size() == kPlanLength - 1);
    }
  }
}

BOOST_AUTO_TEST_CASE(global_ctl_that_is_not_there_is_left_out_at_both_of_its_places) {
  Rig rig({.cpuid = "v2"});  // a guest that claims PerfMonV2 on a CPU without
  Rig old({.kvm = "sim:linux-6.1", .cpuid = "v2"});
  BOOST_TEST(rig.vm.reset(0) == 0);
  BOOST_TEST(rig.host.log_lines().empty());  // 6.12 believes the CPUID
  BOOST_TEST(old.vm.reset(0) == 0);
  BOOST_TEST(old.host.logged(VMM_LOG_WARNING, {"c0000301", "c0000300"}) == 1u);
  BOOST_TEST(old.host.logged(0, {}) == 1u);
  old.host.forget();
  old.vm.dirty(0);
  BOOST_TEST(old.vm.reset(0) == 0);
  BOOST_TEST(text_of(old.host.ioctls().at(0)) == text_of(writes_of({Plan::extended, 6, false, 0})));
  BOOST_TEST(old.vm.stale(0) == "");
}

BOOST_AUTO_TEST_CASE(global_ctl_that_takes_nothing_but_0_is_kvms_answer_for_one_that_is_not_there) {
  // listed by a PerfMonV2 host, not this guest's: reads 0, takes 0
  PluginHost host({.kvm = kV2Host, .cpuid = "core"});
  host.cpuid_known = false;
  const auto plugin = make_plugin(host);
  Machine vm(host, *plugin, 1);
  BOOST_TEST(vm.reset(0) == 0);
  BOOST_TEST(host.logged(VMM_LOG_WARNING, {"does not have c0000301 with"}) == 1u);
  host.forget();
  BOOST_TEST(vm.reset(0) == 0);
  BOOST_TEST(host.ioctls().size() == 1u);
}

BOOST_AUTO_TEST_CASE(one_hiccup_does_not_make_a_register_absent) {
  const char* scripts[] = {
      "set_msrs:refuse=c0010200#1;get_msrs:refuse=c0010200#1",
      "set_msrs:refuse=c0010200#1;set_msrs:refuse=c0010200#2;get_msrs:refuse=c0010200#1",
  };
  for (const char* script : scripts) {
    Rig rig({.faults = script});
    rig.vm.dirty(0);
    BOOST_TEST(rig.vm.reset(0) == 0);
    BOOST_TEST(rig.vm.stale(0) == "");
    BOOST_TEST(rig.host.log_lines().empty());
    rig.host.forget();
    BOOST_TEST(rig.vm.reset(0) == 0);
    BOOST_TEST(rig.host.ioctls().at(0).result == 12);
  }
}

BOOST_AUTO_TEST_CASE(a_register_that_answers_in_two_ways_is_not_absent) {
  // CPUID promises four counters, KVM has six: the sixth is refused, but for one read. The first
  // write is the one that stops at GLOBAL_CTL, which KVM lacks.
  for (const char* read : {"get_msrs:refuse=c001020a#1", "get_msrs:refuse=c001020a#2"}) {
    Rig rig({.kvm = "sim:linux-6.1",
             .cpuid = "v2=4",
             .faults = fmt::format("set_msrs:refuse=c001020a#2;set_msrs:refuse=c001020a#3;"
                                   "set_msrs:refuse=c001020a#4;{}",
                                   read)});
    BOOST_TEST(rig.vm.reset(0) == 0);
    rig.vm.dirty(0);
    BOOST_TEST(rig.vm.reset(0) == 0);
    BOOST_TEST(rig.vm.stale(0) == "");
  }
}

BOOST_AUTO_TEST_CASE(two_hiccups_do_not_make_global_ctl_absent) {
  // when its last write is refused it reads 0, as one that is not there does
  Rig rig({.kvm = kV2Host, .cpuid = "v2"});
  rig.vm.write(0, kMsrGlobalCtl, 0);
  int hiccups = 2;
  rig.host.vcpu_answer = [&](uint32_t request, void* arg) -> std::optional<int32_t> {
    if (request != VMM_KVM_SET_MSRS) return std::nullopt;
    const auto entries = msr_entries(arg);
    for (std::size_t i = 0; i < entries.size(); ++i)
      if (entries[i].index == kMsrGlobalCtl && entries[i].data != 0 && hiccups-- > 0)
        return static_cast<int32_t>(i);
    return std::nullopt;
  };
  BOOST_TEST(rig.vm.reset(0) == 0);
  BOOST_TEST(rig.vm.stale(0) == "");
  BOOST_TEST(rig.host.log_lines().empty());
}

BOOST_AUTO_TEST_CASE(global_ctl_that_takes_its_last_write_is_there) {
  // refused at its first place for as long as it takes to call a register absent, and once more at
  // its second
  for (int hiccups : {5, 6}) {
    Rig rig({.kvm = kV2Host, .cpuid = "v2"});
    rig.vm.write(0, kMsrGlobalCtl, 0x2);
    rig.host.vcpu_answer = [&](uint32_t, void* arg) -> std::optional<int32_t> {
      const auto entries = msr_entries(arg);
      for (std::size_t i = 0; i < entries.size(); ++i)
        if (entries[i].index == kMsrGlobalCtl && hiccups > 0) {
          --hiccups;
          return static_cast<int32_t>(i);
        }
      return std::nullopt;
    };
    BOOST_TEST(rig.vm.reset(0) == 0);
    BOOST_TEST(rig.vm.stale(0) == "");
    rig.host.forget();
    BOOST_TEST(rig.vm.reset(0) == 0);
    BOOST_TEST(rig.host.ioctls().at(0).result == static_cast<int32_t>(kPlanLength));
  }
}

BOOST_AUTO_TEST_CASE(what_vcpus_of_one_cpuid_lack_is_not_left_out_for_those_of_another) {
  // KVM refuses c0010208 for as long as it takes to call it absent, for the first vCPU alone
  Rig rig({.kvm = "sim:linux-6.12,host-perfmonv2",
           .cpuid = "v2",
           .faults = "set_msrs:refuse=c0010208#1;set_msrs:refuse=c0010208#2;"
                     "set_msrs:refuse=c0010208#3;get_msrs:refuse=c0010208#1;"
                     "get_msrs:refuse=c0010208#2"});
  rig.vm.dirty(1);
  BOOST_TEST(rig.vm.reset(0) == 0);
  rig.host.forget();
  BOOST_TEST(rig.vm.reset(0) == 0);
  BOOST_TEST(!says(text_of(rig.host.ioctls("KVM_SET_MSRS").at(0)), "c0010208"));
  rig.host.other_cpuid[0x80000022] = {1, 5, 0, 0};  // the other vCPU has five counters
  BOOST_TEST(rig.vm.reset(1) == 0);
  BOOST_TEST(rig.vm.stale(1) == "c0000301=1f");  // GLOBAL_CTL of five, nothing else
}

BOOST_AUTO_TEST_CASE(absent_counters_behind_the_guests_own_number_are_said_at_info_level_only) {
  for (const char* cpuid : {"v2=1", "v2=4", "v2=5"}) {
    BOOST_TEST_CONTEXT(cpuid) {
      Rig rig({.kvm = kV2Host, .cpuid = cpuid}, "log-level=info");
      BOOST_TEST(rig.vm.reset(0) == 0);
      BOOST_TEST(rig.host.logged(VMM_LOG_INFO, {"KVM does not have", "c001020a"}) == 1u);
      BOOST_TEST(rig.host.logged(0, {}) == 1u);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_vpmu_that_is_off_is_said_at_info_level_only) {
  // extended registers of a VM without vPMU: CPUID promises them and KVM refuses all
  Rig quiet({.kvm = "sim:linux-6.12,enable_pmu=N", .cpuid = "core"});
  BOOST_TEST(quiet.vm.reset(0) == 0);
  BOOST_TEST(quiet.host.log_lines().empty());
  Rig rig({.kvm = "sim:linux-6.12,enable_pmu=N", .cpuid = "core"}, "log-level=info");
  rig.host.forget();
  BOOST_TEST(rig.vm.reset(0) == 0);
  BOOST_TEST(rig.host.logged(VMM_LOG_INFO,
                             {"KVM does not have c0010200", "c001020b", "its vPMU is off"}) == 1u);
  rig.host.forget();
  BOOST_TEST(rig.vm.reset(0) == 0);
  BOOST_TEST(rig.vm.reset(1) == 0);
  BOOST_TEST(rig.host.ioctls().empty());  // nothing is left to be written
  BOOST_TEST(rig.host.log_lines().empty());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(interrupts)

BOOST_AUTO_TEST_CASE(interrupted_ioctls_are_repeated) {
  for (const char* script :
       {"set_msrs:eintr:every=2", "set_msrs:eintr:every=2;get_msrs:eintr:every=2"}) {
    HostSpec spec = v2_spec("");
    spec.faults = script;
    Rig rig(spec, "verify=on", 1);
    for (int round = 0; round < 5; ++round) {
      rig.vm.dirty(0);
      BOOST_TEST(rig.vm.reset(0) == 0);
      BOOST_TEST(rig.vm.stale(0) == "");
    }
    BOOST_TEST(rig.host.log_lines().empty());
  }
}

BOOST_AUTO_TEST_CASE(an_ioctl_that_is_always_interrupted_ends) {
  Rig rig({.faults = "set_msrs:EINTR"});
  rig.host.forget();
  BOOST_TEST(rig.vm.reset(0) == -EINTR);
  const std::size_t calls = rig.host.ioctls().size();
  BOOST_TEST(calls > 100u);
  BOOST_TEST(calls < 10000u);
  BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {"vCPU 0", "KVM_SET_MSRS", "EINTR"}) == 1u);
}

BOOST_AUTO_TEST_CASE(random_faults_end_in_a_clean_vcpu_or_in_an_error) {
  for (int seed = 1; seed <= 200; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      Rig rig(v2_spec(fmt::format(
                  "set_msrs:random:seed={0},rate=40;get_msrs:random:seed={0},rate=40", seed)),
              seed % 2 == 0 ? "verify=on" : "", 1);
      rig.vm.dirty(0);
      const int32_t result = rig.vm.reset(0);
      if (result == 0) {
        BOOST_TEST(rig.vm.stale(0) == "");
      } else {
        BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {"vCPU 0"}) >= 1u);
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(failing_ioctls)

BOOST_AUTO_TEST_CASE(an_error_of_the_ioctl_is_returned_and_named) {
  const struct {
    int32_t code;
    const char* name;
  } rows[] = {{-EBADF, "EBADF"}, {-EIO, "EIO"},     {-E2BIG, "E2BIG"},   {-EFAULT, "EFAULT"},
              {-EPERM, "EPERM"}, {-ENXIO, "ENXIO"}, {-ENOTTY, "ENOTTY"}, {-EINVAL, "EINVAL"}};
  for (const auto& row : rows) {
    BOOST_TEST_CONTEXT(row.name) {
      Rig rig({.faults = std::string("set_msrs:") + row.name}, "verify=on");
      BOOST_TEST(rig.vm.reset(1) == row.code);
      BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {"vCPU 1", "KVM_SET_MSRS", "c0010200", row.name}) ==
                 1u);
      BOOST_TEST(rig.host.logged(0, {}) == 1u);
      // where a batch is lent there is no ioctl to fail
      Rig lent({.faults = std::string("set_msrs:") + row.name});
      host_kit::MsrBatch batch(64);
      BOOST_TEST(lent.vm.reset(1, batch.sink()) == 0);
      // in the read-back
      Rig get({.faults = std::string("get_msrs:") + row.name}, "verify=on");
      BOOST_TEST(get.vm.reset(0) == row.code);
      BOOST_TEST(get.host.logged(VMM_LOG_ERROR, {"vCPU 0", "KVM_GET_MSRS", "c0010200", row.name}) ==
                 1u);
    }
  }
}

BOOST_AUTO_TEST_CASE(an_errno_without_a_name_is_said_by_number) {
  Rig rig;
  rig.host.vcpu_answer = [](uint32_t, void*) { return -ENOTEMPTY; };
  BOOST_TEST(rig.vm.reset(0) == -ENOTEMPTY);
  BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {fmt::format("errno {}", ENOTEMPTY)}) == 1u);
}

BOOST_AUTO_TEST_CASE(a_result_that_no_errno_can_be_is_said_by_number_too) {
  Rig rig;
  rig.host.vcpu_answer = [](uint32_t, void*) { return INT32_MIN; };
  BOOST_TEST(rig.vm.reset(0) == -EPROTO);  // host_kit: a breach
  BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {"errno 2147483648"}) == 1u);
}

BOOST_AUTO_TEST_CASE(an_error_while_a_refused_register_is_looked_at_spares_the_others) {
  const struct {
    const char* script;
    const char* ioctl;
  } rows[] = {
      {"set_msrs:refuse=c0010202;get_msrs:EIO", "KVM_GET_MSRS"},
      {"set_msrs:refuse=c0010202#1;set_msrs:EIO#2", "KVM_SET_MSRS"},
  };
  for (const auto& row : rows) {
    BOOST_TEST_CONTEXT(row.script) {
      Rig rig({.faults = row.script});
      rig.vm.dirty(0);
      BOOST_TEST(rig.vm.reset(0) == -EIO);
      BOOST_TEST(rig.vm.read(0, 0xc0010202).value() == kStaleSelector);
      BOOST_TEST(stale_but(rig.vm, 0, 0xc0010202) == "");
      BOOST_TEST(
          rig.host.logged(VMM_LOG_ERROR, {"vCPU 0", row.ioctl, "1 MSRs", "c0010202", "EIO"}) == 1u);
    }
  }
}

BOOST_AUTO_TEST_CASE(of_several_failures_the_first_is_returned_and_all_are_said) {
  // c0010200 keeps its value, and the call for the registers behind it fails
  Rig rig({.faults = "set_msrs:refuse=c0010200;set_msrs:EBADF#3"});
  rig.vm.dirty(0);
  BOOST_TEST(rig.vm.reset(0) == -EIO);
  BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {"vCPU 0", "c0010200", "530076"}) == 1u);
  BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {"vCPU 0", "KVM_SET_MSRS", "EBADF"}) == 1u);
}

BOOST_AUTO_TEST_CASE(a_host_that_says_more_than_was_asked_is_not_believed) {
  for (const uint32_t number : {VMM_KVM_SET_MSRS, VMM_KVM_GET_MSRS}) {
    Rig rig({}, "verify=on");
    rig.host.vcpu_answer = [number](uint32_t request, void* arg) -> std::optional<int32_t> {
      if (request != number) return std::nullopt;
      return static_cast<int32_t>(msr_entries(arg).size() + 1);
    };
    BOOST_TEST(rig.vm.reset(0) == -EPROTO);
    BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {"vCPU 0", "EPROTO"}) == 1u);
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(read_back)

BOOST_AUTO_TEST_CASE(a_selector_that_reads_enabled_fails_a_verified_reset) {
  for (const char* script : {"get_msrs:value=c0010200:530076", "set_msrs:swallow=c0010200",
                             "get_msrs:value=c001020a:400000"}) {
    const std::string msr = says(script, "c001020a") ? "c001020a" : "c0010200";
    const std::string value = says(script, "400000") ? "400000" : "530076";
    BOOST_TEST_CONTEXT(script) {
      Rig rig({.faults = script}, "verify=on");
      rig.vm.dirty(1);
      BOOST_TEST(rig.vm.reset(1) == -EIO);
      BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {"vCPU 1", "verify", msr, value}) == 1u);
      BOOST_TEST(rig.host.logged(0, {}) == 1u);
      Rig trusting({.faults = script});
      trusting.vm.dirty(1);
      BOOST_TEST(trusting.vm.reset(1) == 0);
      BOOST_TEST(trusting.host.log_lines().empty());
    }
  }
}

BOOST_AUTO_TEST_CASE(several_selectors_that_stay_enabled_are_all_named) {
  Rig rig({.faults = "set_msrs:swallow=c0010200;set_msrs:swallow=c0010204"}, "verify=on");
  rig.vm.dirty(0);
  BOOST_TEST(rig.vm.reset(0) == -EIO);
  BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {"c0010200", "530076"}) == 1u);
  BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {"c0010204", "530076"}) == 1u);
  BOOST_TEST(rig.host.logged(0, {}) == 2u);
}

BOOST_AUTO_TEST_CASE(a_selector_with_other_bits_but_not_enabled_passes_the_read_back) {
  Rig rig({.faults = "get_msrs:value=c0010200:130076"}, "verify=on");
  BOOST_TEST(rig.vm.reset(0) == 0);
}

BOOST_AUTO_TEST_CASE(a_selector_that_refuses_to_be_read_fails_a_verified_reset) {
  Rig rig({.faults = "get_msrs:refuse=c0010204"}, "verify=on");
  BOOST_TEST(rig.vm.reset(0) == -EIO);
  BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {"vCPU 0", "c0010204", "cannot be read back"}) == 1u);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(batches)

BOOST_AUTO_TEST_CASE(a_batch_that_is_no_batch_or_has_no_room_is_passed_over) {
  Refusing full, small, null;
  small.sink.struct_size = sizeof(vmm_msr_sink) - 1;
  null.sink.add = nullptr;
  const struct {
    Refusing& sink;
    int calls;
  } rows[] = {{full, 1}, {small, 0}, {null, 0}};
  for (const auto& row : rows) {
    Rig rig;
    rig.vm.dirty(0);
    rig.host.forget();
    BOOST_TEST(rig.vm.reset(0, &row.sink.sink) == 0);
    BOOST_TEST(row.sink.calls == row.calls);
    BOOST_TEST(rig.host.ioctls("KVM_SET_MSRS").size() == 1u);
    BOOST_TEST(rig.vm.stale(0) == "");
  }
}

BOOST_AUTO_TEST_CASE(a_batch_without_room_for_all_gets_none) {
  Rig rig;
  host_kit::MsrBatch batch(11);  // one too few
  rig.vm.dirty(0);
  BOOST_TEST(rig.vm.reset(0, batch.sink()) == 0);
  BOOST_TEST(batch.entries().empty());
  BOOST_TEST(rig.vm.stale(0) == "");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(bad_calls)

BOOST_AUTO_TEST_CASE(a_vcpu_that_the_vm_does_not_have_is_EINVAL_with_text) {
  Rig rig({}, "", 2);
  for (const uint32_t index : {2u, 1000u, 0xffffffffu}) {
    rig.host.forget();
    BOOST_TEST(rig.vm.hooks().vcpu_reset(index, rig.vm.handle(0), nullptr) == -EINVAL);
    BOOST_TEST(rig.host.ioctls().empty());
    BOOST_TEST(rig.host.logged(VMM_LOG_ERROR, {fmt::format("vCPU {}", index), "vCPUs 0 to 1"}) ==
               1u);
  }
}

/// An instance of the plugin on a host that checks nothing for it.
struct Raw {
  Raw() {
    BOOST_REQUIRE(plugin_descriptor().create(&host.table, "", &instance, nullptr) == 0);
    BOOST_REQUIRE(host.hooks.vm_created(host.ctx, &vm, &vm_ctx, nullptr) == 0);
    BOOST_TEST(vm_ctx != nullptr);
  }
  ~Raw() {
    host.hooks.vm_destroyed(host.ctx, vm_ctx);
    plugin_descriptor().destroy(instance);
  }
  RawHost host;
  ErrorText out;
  const vmm_vm vm{sizeof(vmm_vm), 2, reinterpret_cast<vmm_vm_handle>(&host)};
  const vmm_vcpu vcpu{sizeof(vmm_vcpu), 0, 0, 0, reinterpret_cast<vmm_vcpu_handle>(&host), nullptr};
  void* instance = nullptr;
  void* vm_ctx = nullptr;
};

BOOST_FIXTURE_TEST_CASE(a_vm_that_is_not_one_is_EINVAL_with_text, Raw) {
  vmm_vm small = vm, no_handle = vm, no_vcpus = vm, too_many = vm;
  small.struct_size = sizeof(vmm_vm) - 1;
  no_handle.handle = nullptr;
  no_vcpus.max_vcpus = 0;
  too_many.max_vcpus = 0xffffffff;
  void* made = nullptr;
  for (const vmm_vm* bad :
       std::initializer_list<const vmm_vm*>{&small, &no_handle, &no_vcpus, &too_many, nullptr}) {
    out.text[0] = 0;
    BOOST_TEST(host.hooks.vm_created(host.ctx, bad, &made, &out.error) == -EINVAL);
    BOOST_TEST(says(out.text, "vm_created"));
    BOOST_TEST(made == nullptr);
  }
  BOOST_TEST(host.hooks.vm_created(host.ctx, &vm, nullptr, &out.error) == -EINVAL);
  host.hooks.vm_destroyed(host.ctx, nullptr);  // harmless
}

BOOST_FIXTURE_TEST_CASE(texts_go_into_what_the_caller_lends_and_no_further, Raw) {
  void* made = nullptr;
  BOOST_TEST(host.hooks.vm_created(host.ctx, nullptr, &made, nullptr) == -EINVAL);
  vmm_error small = out.error, no_room = out.error, no_buffer = out.error, tiny = out.error;
  small.struct_size = sizeof(vmm_error) - 1;
  no_room.capacity = 0;
  no_buffer.message = nullptr;
  for (vmm_error* useless : {&small, &no_room, &no_buffer}) {
    BOOST_TEST(host.hooks.vm_created(host.ctx, nullptr, &made, useless) == -EINVAL);
    BOOST_TEST(out.text[0] == 0);
  }
  tiny.capacity = 11;
  std::fill(std::begin(out.text), std::end(out.text), '#');
  BOOST_TEST(host.hooks.vm_created(host.ctx, nullptr, &made, &tiny) == -EINVAL);
  BOOST_TEST(std::string(out.text) == "vm_created");
  BOOST_TEST(out.text[11] == '#');
}

BOOST_FIXTURE_TEST_CASE(a_vcpu_that_is_not_one_is_EINVAL_with_a_log_line, Raw) {
  vmm_vcpu small = vcpu, no_handle = vcpu;
  small.struct_size = sizeof(vmm_vcpu) - 1;
  no_handle.handle = nullptr;
  const std::pair<void*, const vmm_vcpu*> calls[] = {
      {vm_ctx, nullptr}, {vm_ctx, &small}, {vm_ctx, &no_handle}, {nullptr, &vcpu}};
  for (const auto& [given_vm, given] : calls) {
    host.last_line[0] = 0;
    BOOST_TEST(host.hooks.vcpu_reset(host.ctx, given_vm, given) == -EINVAL);
    BOOST_TEST(says(host.last_line, "vcpu_reset"));
  }
  BOOST_TEST(host.hooks.vcpu_reset(host.ctx, vm_ctx, &vcpu) == -EBADF);
  BOOST_TEST(says(host.last_line, "EBADF"));
}

BOOST_FIXTURE_TEST_CASE(a_list_that_cannot_be_handed_over_is_an_error_with_text, Raw) {
  Refusing refusing;
  const auto build = [&](void* given_vm, const vmm_msr_sink* sink) {
    out.text[0] = 0;
    return host.hooks.msr_list_build(host.ctx, given_vm, &vm, sink, &out.error);
  };
  vmm_msr_sink small = refusing.sink, no_add = refusing.sink, positive = refusing.sink;
  small.struct_size = sizeof(vmm_msr_sink) - 1;
  no_add.add = nullptr;
  positive.add = [](void*, const vmm_msr*, uint32_t) -> int32_t { return 7; };
  for (const vmm_msr_sink* sink :
       std::initializer_list<const vmm_msr_sink*>{nullptr, &small, &no_add}) {
    BOOST_TEST(build(vm_ctx, sink) == -EINVAL);
    BOOST_TEST(says(out.text, "sink"));
  }
  BOOST_TEST(build(nullptr, &refusing.sink) == -EINVAL);
  BOOST_TEST(says(out.text, "vm_created"));
  BOOST_TEST(build(vm_ctx, &refusing.sink) == -ENOSPC);
  BOOST_TEST(says(out.text, "ENOSPC"));
  BOOST_TEST(refusing.calls == 1);  // all entries at once
  BOOST_TEST(build(vm_ctx, &positive) == -EPROTO);
}

BOOST_AUTO_TEST_CASE(hosts_that_refuse_the_hooks_get_no_instance_back) {
  for (const int32_t answer : {-EINVAL, -ENOMEM, 1}) {
    RawHost host;
    ErrorText out;
    host.answer = answer;
    void* ctx = &host;
    BOOST_TEST(plugin_descriptor().create(&host.table, "", &ctx, &out.error) ==
               (answer < 0 ? answer : -EPROTO));
    BOOST_TEST(ctx == &host);
    BOOST_TEST(says(out.text, "hooks"));
    BOOST_TEST(plugin_descriptor().create(&host.table, "", nullptr, &out.error) == -EINVAL);
  }
}

BOOST_AUTO_TEST_CASE(a_callback_of_which_the_table_holds_only_half_is_not_there) {
  RawHost host;
  host.table.get_cpuid = [](void*, vmm_vm_handle, vmm_vcpu_handle, uint32_t, uint32_t,
                            uint32_t*) -> int32_t { return 0; };  // a CPUID of zeros: no PMU
  const auto entries_of_a_reset = [&](uint32_t table_size) {
    host.table.struct_size = table_size;
    host_kit::MsrBatch batch(64);
    const auto handle = reinterpret_cast<vmm_vcpu_handle>(&host);
    const vmm_vm vm{sizeof(vmm_vm), 1, reinterpret_cast<vmm_vm_handle>(&host)};
    const vmm_vcpu vcpu{sizeof(vmm_vcpu), 0, 0, 0, handle, batch.sink()};
    void *instance = nullptr, *vm_ctx = nullptr;
    BOOST_REQUIRE(plugin_descriptor().create(&host.table, "", &instance, nullptr) == 0);
    BOOST_REQUIRE(host.hooks.vm_created(host.ctx, &vm, &vm_ctx, nullptr) == 0);
    BOOST_TEST(host.hooks.vcpu_reset(host.ctx, vm_ctx, &vcpu) == 0);
    host.hooks.vm_destroyed(host.ctx, vm_ctx);
    plugin_descriptor().destroy(instance);
    return batch.entries().size();
  };
  constexpr uint32_t kBegin = offsetof(vmm_host, get_cpuid);
  BOOST_TEST(entries_of_a_reset(kBegin + sizeof(void*)) == 0u);
  for (uint32_t part = 0; part < sizeof(void*); ++part)
    BOOST_TEST(entries_of_a_reset(kBegin + part) == kPlanLength);  // no CPUID: every register
}

BOOST_AUTO_TEST_CASE(host_tables_that_are_not_whole_get_no_instance_back) {
  const struct {
    void (*edit)(vmm_host&);
    const char* said;
  } rows[] = {
      {[](vmm_host& table) { table.struct_size = offsetof(vmm_host, log); }, "bytes"},
      {[](vmm_host& table) { table.struct_size = 4; }, "bytes"},
      {[](vmm_host& table) { table.abi_major = 2; }, "major 2"},
      {[](vmm_host& table) { table.name = nullptr; }, "'name'"},
      {[](vmm_host& table) { table.register_hooks = nullptr; }, "'register_hooks'"},
      {[](vmm_host& table) { table.vm_ioctl = nullptr; }, "'vm_ioctl'"},
      {[](vmm_host& table) { table.vcpu_ioctl = nullptr; }, "'vcpu_ioctl'"},
      {[](vmm_host& table) { table.log = nullptr; }, "'log'"},
  };
  for (const auto& row : rows) {
    RawHost host;
    ErrorText out;
    void* ctx = &host;
    row.edit(host.table);
    BOOST_TEST(plugin_descriptor().create(&host.table, "", &ctx, &out.error) == -EINVAL);
    BOOST_TEST(says(out.text, row.said), out.text);
    BOOST_TEST(ctx == &host);
  }
  ErrorText out;
  void* ctx = nullptr;
  BOOST_TEST(plugin_descriptor().create(nullptr, "", &ctx, &out.error) == -EINVAL);
  // what is optional may be left off
  RawHost host;
  host.table.struct_size = offsetof(vmm_host, get_cpuid);
  BOOST_REQUIRE(plugin_descriptor().create(&host.table, "", &ctx, &out.error) == 0);
  plugin_descriptor().destroy(ctx);
}

BOOST_AUTO_TEST_SUITE_END()
