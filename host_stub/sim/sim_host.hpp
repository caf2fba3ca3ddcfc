// SPDX-License-Identifier: MIT
//
// What is the same for every VM of one simulated KVM: the profile and the tables made from it when
// the module is loaded. Constant afterwards, so all threads may read it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sim/profile.hpp"

namespace host_stub {

struct SimHost {
  explicit SimHost(const Profile& p)
      : profile(p), cpuid(supported_cpuid(profile)), msr_list(msr_index_list(profile)) {}

  bool lists(uint32_t msr) const { return std::ranges::find(msr_list, msr) != msr_list.end(); }

  /// KVM_CHECK_EXTENSION; the VM's fd and /dev/kvm answer alike.
  int32_t check_extension(long capability) const;

  Profile profile;
  std::vector<CpuidLeaf> cpuid;
  std::vector<uint32_t> msr_list;
};

}  // namespace host_stub
