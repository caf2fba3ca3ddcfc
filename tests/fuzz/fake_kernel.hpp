// SPDX-License-Identifier: MIT
//
// The descriptors of one process and the KVM objects behind them, as the kernel has them: what a
// number leads to, what is a duplicate of what, when an object is gone. For the preload host's fuzz
// target, which puts this in the place of the C library's calls.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace fuzz {

/// What KVM_X86_SET_MSR_FILTER last set, kept whole.
struct KernelFilter {
  struct Range {
    uint32_t flags, base, count;
    std::vector<uint8_t> bitmap;
  };
  bool deny_by_default = false;
  std::vector<Range> ranges;

  /// As KVM decides (kvm_msr_allowed): the first range that holds the MSR and is for this access.
  bool allows(uint32_t msr, uint32_t access) const {
    for (const Range& range : ranges)
      if (msr >= range.base && msr - range.base < range.count && (range.flags & access) != 0)
        return (range.bitmap[(msr - range.base) / 8] >> (msr - range.base) % 8 & 1) != 0;
    return !deny_by_default;
  }

  /// Copies what the caller gives; false: KVM says EINVAL (kvm_vm_ioctl_set_msr_filter).
  bool assign(const kvm_msr_filter& filter) {
    KernelFilter fresh;
    fresh.deny_by_default = (filter.flags & KVM_MSR_FILTER_DEFAULT_DENY) != 0;
    if ((filter.flags & ~uint32_t{KVM_MSR_FILTER_DEFAULT_DENY}) != 0) return false;
    for (const kvm_msr_filter_range& range : filter.ranges) {
      if (range.nmsrs == 0) continue;
      if ((range.flags & ~uint32_t{KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE}) != 0) return false;
      if (range.nmsrs > KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8) return false;
      fresh.ranges.push_back({range.flags,
                              range.base,
                              range.nmsrs,
                              {range.bitmap, range.bitmap + (range.nmsrs + 7) / 8}});
    }
    if (fresh.deny_by_default && fresh.ranges.empty()) return false;
    *this = std::move(fresh);
    return true;
  }
};

/// An open file of KVM's, or another.
struct File {
  enum class Kind : uint8_t { kvm, vm, vcpu, other };
  Kind kind = Kind::other;
  std::shared_ptr<File> vm;  ///< of a vCPU
  uint32_t index = 0;        ///< of a vCPU
  KernelFilter filter;       ///< of a VM
  uint64_t msr_exits = 0;    ///< of a VM: KVM_CAP_X86_USER_SPACE_MSR
  kvm_run run{};             ///< of a vCPU
  bool in_exit = false;      ///< the last KVM_RUN returned for an MSR access
};

class FakeKernel {
 public:
  static constexpr int kFirst = 100000;  ///< above every real one, the raised status file's too
  static constexpr int kHigh = 2 << 20;  ///< above what the preload host's table holds

  std::map<int, std::shared_ptr<File>> fds;
  std::set<int> unseen;  ///< numbers that were closed behind the preload host's back

  File* at(int fd) const {
    const auto found = fds.find(fd);
    return found == fds.end() ? nullptr : found->second.get();
  }

  /// The lowest free number from `lowest` on. A number that was closed unseen is given again by
  /// KVM's own calls only: that is what the preload host says it heals.
  int open(std::shared_ptr<File> file, int lowest, bool by_kvm) {
    int fd = lowest;
    while (fds.contains(fd) || (!by_kvm && unseen.contains(fd))) ++fd;
    unseen.erase(fd);
    fds[fd] = std::move(file);
    return fd;
  }

  std::string link(int fd) const {
    const File* file = at(fd);
    if (file == nullptr) return "";
    switch (file->kind) {
      case File::Kind::vm:
        return "anon_inode:kvm-vm";
      case File::Kind::vcpu:
        return "anon_inode:kvm-vcpu:" + std::to_string(file->index);
      default:
        return "/dev/something";
    }
  }
};

}  // namespace fuzz
