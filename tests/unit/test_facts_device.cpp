// SPDX-License-Identifier: MIT
//
// The questions of the recordings, asked to the KVM of this machine.
#include <sys/utsname.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <string>

#include "kvm/facts.hpp"
#include "sim/backend.hpp"
#include "support/facts_compare.hpp"

namespace {

/// The kernel that linux-6.18-kvm_pvm.jsonl was recorded on.
bool is_recorded_kernel() {
  utsname name{};
  return uname(&name) == 0 && std::string(name.release).rfind("6.18", 0) == 0 &&
         access("/sys/module/kvm_pvm", F_OK) == 0;
}

}  // namespace

BOOST_AUTO_TEST_CASE(this_kvm_answers_as_its_recording) {
  if (access("/dev/kvm", R_OK | W_OK) != 0) {
    BOOST_TEST_MESSAGE("SKIPPED: /dev/kvm does not open here");
    return;
  }
  if (!is_recorded_kernel()) {
    BOOST_TEST_MESSAGE("SKIPPED: this kernel is not the recorded one (6.18 with kvm_pvm)");
    return;
  }
  auto kvm = host_stub::open_kvm("/dev/kvm");
  BOOST_REQUIRE(kvm.has_value());
  const auto recorded = facts::load(TEST_DATA_DIR "/kvm_facts/linux-6.18-kvm_pvm.jsonl");
  // how many MSRs there are beside the PMU's depends on the machine's CPU
  const auto result = facts::compare(recorded, host_stub::kvm_facts(**kvm, false),
                                     {"host", "supported_cpuid", "msr_index_list.n"});
  BOOST_TEST(result.rows > 290u);
  for (const std::string& difference : result.differences) BOOST_ERROR(difference);
  BOOST_TEST_MESSAGE(result.rows << " rows compared, " << result.differences.size()
                                 << " differences");
}
