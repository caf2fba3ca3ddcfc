// SPDX-License-Identifier: MIT
//
// The questions of the recordings, asked to the KVM of this machine.
#include <cpuid.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <string>

#include "kvm/facts.hpp"
#include "sim/backend.hpp"
#include "support/facts_compare.hpp"
#include "support/machine.hpp"

namespace {

/// The recording that this machine must agree with; empty: it is none of those recorded. Beside the
/// one kernel on real hardware these are the hosts that tests/emulated_host boots, which say so.
std::string recording() {
  utsname name{};
  if (uname(&name) != 0) return {};
  std::string release = name.release;
  release.resize(std::min(release.find_first_of(".", release.find('.') + 1), release.size()));
  const std::string kernel = "linux-" + release;
  if (release == "6.18" && access("/sys/module/kvm_pvm", F_OK) == 0) return kernel + "-kvm_pvm";
  if (access("/etc/emulated_host", F_OK) != 0) return {};
  std::uint32_t eax = 0;
  std::uint32_t ebx = 0;
  std::uint32_t ecx = 0;
  std::uint32_t edx = 0;
  const bool perfmonv2 = __get_cpuid(0x80000022, &eax, &ebx, &ecx, &edx) != 0 && (eax & 1) != 0;
  const std::string recorded = kernel + (perfmonv2 ? "-perfmonv2" : "");
  return facts::has_recording(recorded) ? recorded : std::string{};
}

}  // namespace

BOOST_AUTO_TEST_CASE(this_kvm_answers_as_its_recording) {
  if (skipped_without_kvm()) return;
  const std::string name = recording();
  if (name.empty()) {
    BOOST_TEST_MESSAGE("SKIPPED: there is no recording of this kernel on this machine");
    return;
  }
  auto kvm = host_stub::open_kvm("/dev/kvm");
  BOOST_REQUIRE(kvm.has_value());
  const auto recorded = facts::load(name);
  // how many MSRs there are beside the PMU's depends on the machine's CPU
  const auto result = facts::compare(recorded, host_stub::kvm_facts(**kvm, false),
                                     {"host", "supported_cpuid", "msr_index_list.n"});
  BOOST_TEST(result.rows > 290u);
  for (const std::string& difference : result.differences) BOOST_ERROR(difference);
  BOOST_TEST_MESSAGE(result.rows << " rows compared with " << name << ", "
                                 << result.differences.size() << " differences");
}
