// SPDX-License-Identifier: MIT
#include "soak_case.hpp"

#include <fmt/format.h>

#include <cstddef>

namespace soak {
namespace {

constexpr const char* kKernels[] = {
    "sim:linux-5.10",
    "sim:linux-5.10,vendor=hygon",
    "sim:linux-6.1",
    "sim:linux-6.1,enable_pmu=N",
    "sim:linux-6.12",
    "sim:linux-6.12,enable_pmu=N",
    "sim:linux-6.12,host-perfmonv2",
    "sim:linux-6.12,host-perfmonv2,counters=4",
    "sim:linux-6.18,host-perfmonv2",
    "sim:linux-6.18,vendor=hygon",
    "sim:linux-7.2",
    "sim:linux-7.2,host-perfmonv2",
    "sim:linux-7.2,host-perfmonv2,mediated",
};
constexpr const char* kGuests[] = {
    "host", "plain", "core", "v2", "v2=4", "v2=1", "core,vendor=hygon", "core,vendor=intel"};
constexpr const char* kMethods[] = {"auto", "auto", "cap", "msr-filter"};
constexpr const char* kLevels[] = {"error", "warning", "warning", "info", "debug"};
constexpr const char* kIoctls[] = {"set_msrs",        "set_msrs",  "get_msrs",       "enable_cap",
                                   "check_extension", "create_vm", "set_msr_filter", "create_vcpu"};
constexpr const char* kErrors[] = {"EINTR", "EINVAL", "EBADF", "EIO", "E2BIG", "ENOMEM"};

/// Choices from one stream of numbers.
class Dice {
 public:
  Dice(uint64_t seed, uint64_t vm) {
    std::seed_seq both{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                       static_cast<uint32_t>(vm), static_cast<uint32_t>(vm >> 32)};
    numbers_.seed(both);
  }
  uint32_t below(uint32_t count) { return static_cast<uint32_t>(numbers_() % count); }
  bool one_in(uint32_t count) { return below(count) == 0; }
  template <std::size_t N>
  const char* one_of(const char* const (&table)[N]) {
    return table[below(static_cast<uint32_t>(N))];
  }

 private:
  std::mt19937_64 numbers_;
};

/// One rule of a fault script.
std::string make_fault(Dice& dice, SoakCase& the_case) {
  switch (dice.below(8)) {
    case 0:
      return fmt::format("eintr:every={}", 2 + dice.below(4));
    case 1:
      the_case.transient_refusals = true;
      return fmt::format("random:seed={},rate={}", dice.below(1000), 1 + dice.below(10));
    case 2:
      the_case.transient_refusals = true;
      return fmt::format("{}:short@{}#{}", dice.one_in(2) ? "set_msrs" : "get_msrs", dice.below(15),
                         1 + dice.below(6));
    case 3: {
      the_case.transient_refusals = true;
      const uint32_t msr = 0xc0010200 + dice.below(12);
      return fmt::format("set_msrs:refuse={0:x};get_msrs:refuse={0:x}", msr);
    }
    case 4:
      // what only a read-back can find
      if (!the_case.verify) return "e2big#1";
      the_case.lies = true;
      return fmt::format("set_msrs:swallow={:x}#{}", 0xc0010200 + 2 * dice.below(6),
                         1 + dice.below(3));
    case 5:
      return dice.one_in(2) ? fmt::format("ebadf#{}", 1 + dice.below(20))
                            : fmt::format("e2big#{}", 1 + dice.below(6));
    default:
      return fmt::format("{}:{}#{}", dice.one_of(kIoctls), dice.one_of(kErrors), 1 + dice.below(6));
  }
}

}  // namespace

SoakCase make_case(uint64_t seed, uint64_t vm) {
  Dice dice(seed, vm);
  SoakCase made;
  made.kvm = dice.one_of(kKernels);
  made.cpuid = dice.one_of(kGuests);
  made.off = dice.one_in(2);
  made.strict = dice.one_in(2);
  made.verify = dice.one_in(3);
  const std::string level = dice.one_of(kLevels);
  made.says_warnings = level != "error";
  made.options =
      fmt::format("pmu-cap-disabled={},pmu-off-method={},strict={},verify={},log-level={}",
                  made.off ? "on" : "off", dice.one_of(kMethods), made.strict ? "on" : "off",
                  made.verify ? "on" : "off", level);
  for (uint32_t left = dice.below(4); left > 0; --left)
    made.faults += (made.faults.empty() ? "" : ";") + make_fault(dice, made);
  made.vcpus = 1 + dice.below(8);
  made.resets = 1 + dice.below(3);
  made.irqchip = !dice.one_in(8);
  made.own_filter = dice.one_in(3);
  made.cpuid_known = !dice.one_in(4);
  made.batch = dice.one_in(3);
  if (dice.one_in(8)) made.create_memory = dice.below(80);
  if (dice.one_in(8)) made.vm_memory = dice.below(4);
  if (dice.one_in(8)) made.list_memory = dice.below(4);
  return made;
}

std::string SoakCase::text() const {
  const auto memory = [](unsigned left) { return left == ~0u ? "-" : std::to_string(left); };
  return fmt::format(
      "--kvm {} --cpuid {} --options {} --faults '{}' vcpus={} resets={} irqchip={} own_filter={} "
      "cpuid_known={} batch={} memory={}/{}/{}",
      kvm, cpuid, options, faults, vcpus, resets, irqchip, own_filter, cpuid_known, batch,
      memory(create_memory), memory(vm_memory), memory(list_memory));
}

}  // namespace soak
