// SPDX-License-Identifier: MIT
//
// Merging MSR filters: what the merged one decides, by KVM's own way of deciding.
#include <boost/test/unit_test.hpp>

#include <array>
#include <cerrno>
#include <limits>
#include <random>
#include <vector>

#include "host_kit/msr_filter.hpp"

namespace {

using namespace host_kit;
using Ranges = std::vector<vmm_msr_range>;

/// As arch/x86/kvm/x86.c, kvm_msr_allowed() and kvm_vm_ioctl_set_msr_filter() (Linux 6.12): the
/// first range that holds the MSR and has the type decides.
bool kvm_allows(const kvm_msr_filter& filter, uint32_t msr, uint32_t type) {
  bool any = false;
  for (const kvm_msr_filter_range& range : filter.ranges) any |= range.nmsrs != 0;
  if (!any) return true;  // no filter
  for (const kvm_msr_filter_range& range : filter.ranges) {
    if (range.nmsrs == 0 || msr < range.base || msr - range.base >= range.nmsrs) continue;
    if ((range.flags & type) == 0) continue;
    const uint32_t bit = msr - range.base;
    return (range.bitmap[bit / 8] >> (bit % 8) & 1) != 0;
  }
  return (filter.flags & KVM_MSR_FILTER_DEFAULT_DENY) == 0;
}

DenyList deny(const Ranges& ranges) {
  DenyList list;
  BOOST_REQUIRE(list.add(ranges) == 0);
  return list;
}

const Ranges kPmu{{0xc0010000, 8}, {0xc0010200, 12}, {0xc0000300, 4}};

}  // namespace

BOOST_AUTO_TEST_CASE(no_filter_of_the_vmm_leaves_ours_alone) {
  const auto merged = merge_msr_filter({}, deny(kPmu));
  BOOST_REQUIRE(merged.has_value());
  BOOST_TEST(merged->flags == 0u);
  for (const uint32_t msr : {0xc0010000u, 0xc0010007u, 0xc001020bu, 0xc0000301u}) {
    BOOST_TEST(!kvm_allows(*merged, msr, KVM_MSR_FILTER_READ));
    BOOST_TEST(!kvm_allows(*merged, msr, KVM_MSR_FILTER_WRITE));
  }
  for (const uint32_t msr : {0x10u, 0xc0010008u, 0xc00101ffu, 0xc0000080u})
    BOOST_TEST(kvm_allows(*merged, msr, KVM_MSR_FILTER_READ));
}

BOOST_AUTO_TEST_CASE(nothing_denied_leaves_the_vmms_alone) {
  kvm_msr_filter vmm{};
  uint8_t bitmap = 0x55;
  vmm.flags = KVM_MSR_FILTER_DEFAULT_DENY;
  vmm.ranges[0] = {KVM_MSR_FILTER_READ, 8, 0x600, &bitmap};
  const auto merged = merge_msr_filter(vmm, {});
  BOOST_REQUIRE(merged.has_value());
  BOOST_TEST(merged->flags == vmm.flags);
  BOOST_TEST(merged->ranges[0].base == 0x600u);
  BOOST_TEST(merged->ranges[0].bitmap == &bitmap);
  BOOST_TEST(merged->ranges[1].nmsrs == 0u);
}

BOOST_AUTO_TEST_CASE(ours_goes_before_a_range_of_the_vmm_that_allows) {
  std::array<uint8_t, 0x200> all{};
  all.fill(0xff);
  kvm_msr_filter vmm{};
  vmm.flags = KVM_MSR_FILTER_DEFAULT_DENY;
  vmm.ranges[3] = {KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, 0x1000, 0xc0010000, all.data()};
  const auto merged = merge_msr_filter(vmm, deny(kPmu));
  BOOST_REQUIRE(merged.has_value());
  BOOST_TEST(!kvm_allows(*merged, 0xc0010201, KVM_MSR_FILTER_READ));
  BOOST_TEST(kvm_allows(*merged, 0xc0010015, KVM_MSR_FILTER_READ));
  BOOST_TEST(!kvm_allows(*merged, 0x10, KVM_MSR_FILTER_READ));
}

BOOST_AUTO_TEST_CASE(what_the_vmm_denies_by_default_needs_no_range_of_ours) {
  uint8_t bitmap = 0xff;
  kvm_msr_filter vmm{};
  vmm.flags = KVM_MSR_FILTER_DEFAULT_DENY;
  for (uint32_t i = 0; i < KVM_MSR_FILTER_MAX_RANGES; ++i)
    vmm.ranges[i] = {KVM_MSR_FILTER_READ, 8, 0x100 * i, &bitmap};
  const auto merged = merge_msr_filter(vmm, deny(kPmu));
  BOOST_REQUIRE(merged.has_value());
  BOOST_TEST(!kvm_allows(*merged, 0xc0010000, KVM_MSR_FILTER_READ));
}

BOOST_AUTO_TEST_CASE(what_the_vmm_allows_below_and_above_is_not_in_the_way) {
  uint8_t bitmap = 0xff;
  kvm_msr_filter vmm{};
  vmm.flags = KVM_MSR_FILTER_DEFAULT_DENY;
  for (const uint32_t base : {0xc00100f8u, 0xc0010108u}) {
    vmm.ranges[0] = {KVM_MSR_FILTER_READ, 8, base, &bitmap};
    const auto merged = merge_msr_filter(vmm, deny({{0xc0010100, 8}}));
    BOOST_REQUIRE(merged.has_value());
    BOOST_TEST(merged->ranges[0].bitmap == &bitmap);  // the VMM's is the only one
    BOOST_TEST(merged->ranges[1].nmsrs == 0u);
  }
}

BOOST_AUTO_TEST_CASE(too_many_ranges_are_told_not_dropped) {
  uint8_t bitmap = 0xff;
  kvm_msr_filter vmm{};
  for (uint32_t i = 0; i < 14; ++i) vmm.ranges[i] = {KVM_MSR_FILTER_READ, 8, 0x100 * i, &bitmap};
  const auto merged = merge_msr_filter(vmm, deny(kPmu));
  BOOST_REQUIRE(!merged.has_value());
  BOOST_TEST(merged.error() == 17u);
}

BOOST_AUTO_TEST_CASE(an_invalid_filter_stays_as_invalid_as_it_was) {
  kvm_msr_filter vmm{};
  vmm.flags = KVM_MSR_FILTER_DEFAULT_DENY;  // deny all and no range: KVM says EINVAL
  const auto merged = merge_msr_filter(vmm, deny(kPmu));
  BOOST_REQUIRE(merged.has_value());
  for (const kvm_msr_filter_range& range : merged->ranges) BOOST_TEST(range.nmsrs == 0u);
}

BOOST_AUTO_TEST_CASE(denied_ranges_are_joined) {
  const DenyList list = deny({{0xc0010004, 4}, {0xc0010000, 4}, {0xc0010002, 3}, {0x10, 1}});
  BOOST_REQUIRE(list.ranges().size() == 2u);
  BOOST_TEST(list.ranges()[1].base == 0xc0010000u);
  BOOST_TEST(list.ranges()[1].count == 8u);
  BOOST_TEST(list.denies(0xc0010007));
  BOOST_TEST(!list.denies(0xc0010008));
  BOOST_TEST(!list.denies(0x11));
}

BOOST_AUTO_TEST_CASE(ranges_are_joined_as_far_as_a_bitmap_reaches) {
  BOOST_TEST(deny({{0x10, 4}, {0x14, 4}}).ranges().size() == 1u);  // adjacent
  BOOST_TEST(deny({{0x10, 4}, {0x15, 4}}).ranges().size() == 2u);
  const DenyList inner = deny({{0x100, 16}, {0x102, 2}});
  BOOST_REQUIRE(inner.ranges().size() == 1u);
  BOOST_TEST(inner.ranges()[0].count == 16u);
  constexpr uint32_t kLongest = KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8;
  BOOST_TEST(deny({{0, kLongest - 1}, {kLongest - 1, 1}}).ranges().size() == 1u);
  const DenyList two = deny({{0, kLongest}, {kLongest, 1}});
  BOOST_REQUIRE(two.ranges().size() == 2u);
  BOOST_TEST(two.ranges()[0].count == kLongest);
}

BOOST_AUTO_TEST_CASE(ranges_that_cannot_be) {
  constexpr uint32_t kMax = std::numeric_limits<uint32_t>::max();
  DenyList list;
  BOOST_TEST(list.add(Ranges{{0x10, 0}}) == -EINVAL);
  BOOST_TEST(list.add(Ranges{{kMax, 2}}) == -EINVAL);
  BOOST_TEST(list.add(Ranges{{0, 0x3001}}) == -EINVAL);
  BOOST_TEST(list.add(Ranges{{0x10, 1}, {kMax, 2}}) == -EINVAL);
  BOOST_TEST(list.empty());
  BOOST_TEST(list.add(Ranges{{kMax, 1}}) == 0);
  Ranges many;
  for (uint32_t i = 0; i < 16; ++i) many.push_back({i * 2, 1});
  BOOST_TEST(list.add(many) == -ENOSPC);
  BOOST_TEST(list.ranges().size() == 1u);
  BOOST_TEST(list.denies(kMax));
}

BOOST_AUTO_TEST_CASE(random_filters_decide_as_both_wishes_together) {
  std::mt19937 random(7);
  const auto draw = [&](uint32_t below) { return static_cast<uint32_t>(random() % below); };
  std::array<std::array<uint8_t, 16>, KVM_MSR_FILTER_MAX_RANGES> bitmaps{};
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    kvm_msr_filter vmm{};
    vmm.flags = draw(2);
    for (uint32_t i = 0, n = 1 + draw(16); i < n; ++i) {
      for (uint8_t& byte : bitmaps[i]) byte = static_cast<uint8_t>(random());
      vmm.ranges[i] = {1 + draw(3), 1 + draw(64), draw(256), bitmaps[i].data()};
    }
    Ranges ranges;
    for (uint32_t i = 0, n = draw(6); i < n; ++i) ranges.push_back({draw(300), 1 + draw(20)});
    DenyList denied;
    if (!ranges.empty()) BOOST_REQUIRE(denied.add(ranges) == 0);
    const auto merged = merge_msr_filter(vmm, denied);
    if (!merged) {
      ++refused;
      BOOST_REQUIRE(merged.error() > KVM_MSR_FILTER_MAX_RANGES);
      continue;
    }
    for (uint32_t msr = 0; msr < 400; ++msr)
      for (const uint32_t type : {uint32_t{KVM_MSR_FILTER_READ}, uint32_t{KVM_MSR_FILTER_WRITE}}) {
        const bool expected = !denied.denies(msr) && kvm_allows(vmm, msr, type);
        if (kvm_allows(*merged, msr, type) != expected)
          BOOST_FAIL("round " << round << ", MSR " << msr << ", type " << type);
      }
  }
  BOOST_TEST(refused > 0);
  BOOST_TEST(refused < 1500);
}
