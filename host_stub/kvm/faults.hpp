// SPDX-License-Identifier: MIT
//
// Faults of KVM, made on purpose. Answers: what does a host, or a plugin, do when KVM refuses,
// stops short, is interrupted, or lies.
//
// A script is rules joined by ';'. A rule is  [IOCTL:]EFFECT[#N]
//
//   effect                with IOCTL    #N   what happens
//   --------------------  ------------  ---  --------------------------------------------------
//   EINVAL, EIO, ...      any           yes  the ioctl fails with it, nothing is done
//   short@K               get/set_msrs  yes  stops at entry K (from 0): returns K; entries before
//                                            K are really done; calls of <= K entries pass
//   refuse=MSR            get/set_msrs  yes  stops at that MSR in the same way
//   value=MSR:VALUE       get_msrs      yes  that MSR reads as VALUE
//   swallow=MSR           set_msrs      yes  a write of that MSR is reported done, and dropped
//   eintr:every=N         any or none   no   each Nth call (N >= 2) fails with EINTR
//   random:seed=S,rate=R  any or none   no   R percent of the calls get one of EINTR, EINVAL,
//                                            EIO and, with MSRs, a short count; the same S gives
//                                            the same faults
//   ebadf                 none          yes  all VM and vCPU ioctls fail with EBADF
//   e2big                 none          yes  get_msrs and set_msrs fail with E2BIG
//
//   IOCTL  as in ioctl_names.hpp: set_msrs, get_msrs, enable_cap, set_msr_filter, check_extension,
//          create_vm, create_vcpu, set_cpuid2, ... ; "none" above: every ioctl there is
//   #N     only the Nth (from 1) call that the rule would change
//   MSR, VALUE  hexadecimal, 0x or not; N, K, S, R decimal
//
// Example: "set_msrs:refuse=c0010200;enable_cap:EINVAL#1;eintr:every=3"
//
// Every rule counts for itself. Of several that fail one call the first wins; those that edit an
// MSR call add up. Calls are counted in the order in which they come, so a script is replayable as
// far as that order is: always with one thread. What the guest itself does has no faults.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <variant>
#include <vector>

#include "kvm/kvm.hpp"

namespace host_stub {

// Effects, as in the table above.
struct FailWith {
  int32_t number;  ///< errno
};
struct ShortCount {
  uint32_t entry;
};
struct RefuseMsr {
  uint32_t msr;
};
struct ReadValue {
  uint32_t msr;
  uint64_t value;
};
struct SwallowWrite {
  uint32_t msr;
};
struct InterruptEvery {
  uint64_t calls;
};
struct RandomFault {
  uint64_t seed;
  uint32_t percent;
};
using FaultEffect = std::variant<FailWith, ShortCount, RefuseMsr, ReadValue, SwallowWrite,
                                 InterruptEvery, RandomFault>;

struct Fault {
  std::vector<uint32_t> ioctls;  ///< empty: every ioctl
  bool spare_system = false;     ///< only VM and vCPU ioctls
  FaultEffect effect;
  uint64_t only_call = 0;  ///< N of #N; 0: all
};

struct FaultPlan {
  std::vector<Fault> faults;
};

/// An empty script is an empty plan. Error: the part that is wrong and what may stand there.
tl::expected<FaultPlan, std::string> parse_faults(std::string_view script);

/// `kvm` with the plan's faults; counting starts now.
std::unique_ptr<Kvm> with_faults(std::unique_ptr<Kvm> kvm, const FaultPlan& plan);

}  // namespace host_stub
