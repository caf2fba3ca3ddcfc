// SPDX-License-Identifier: MIT
//
// A KVM for fuzz targets, as small and as plain as can be: what a vCPU's AMD PMU registers hold and
// which of them are there, from a description of the kernel and the guest's CPUID. It knows nothing
// of the plugin's tables. Facts: tests/data/kvm_facts and README.md, "What it does on which
// kernel".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace fuzz {

struct Kernel {
  int32_t pmu_capability = 0;   ///< KVM_CHECK_EXTENSION(KVM_CAP_PMU_CAPABILITY)
  int32_t disable_quirks2 = 0;  ///< KVM_CHECK_EXTENSION(KVM_CAP_DISABLE_QUIRKS2)
  int32_t msr_filter = 0;       ///< KVM_CHECK_EXTENSION(KVM_CAP_X86_MSR_FILTER)
  bool pmu_enabled = true;      ///< kvm.enable_pmu
  bool serves_all = false;      ///< 5.10: every counter is there, whatever CPUID says
  bool leaf_limits = false;     ///< the leaf's n limits selectors and counters, too
  bool zero_waiver = false;     ///< a register that is not there reads 0 and takes 0
  bool swallows_k7 = true;      ///< a K7 register that is not there reads 0, takes everything
};

/// The guest's CPUID, as far as the PMU goes.
struct GuestPmu {
  bool amd = true;
  bool core = false;  ///< PerfCtrExtCore
  bool v2 = false;    ///< PerfMonV2
  uint32_t n = 0;     ///< its counters, at most those of the bank

  bool operator==(const GuestPmu&) const = default;
  uint32_t counters() const { return core ? 6 : 4; }
};

class ModelVcpu {
 public:
  ModelVcpu(const Kernel& kernel, const GuestPmu& guest, bool off)
      : kernel_(kernel), guest_(guest), off_(off || !kernel.pmu_enabled || !guest.amd) {
    if (has_global()) ctl_ = mask();
  }

  const GuestPmu& guest() const { return guest_; }

  /// KVM_GET_MSRS of one; nothing: refused.
  std::optional<uint64_t> read(uint32_t msr) const {
    const ConstRegister found = look_up(msr);
    if (found.cell != nullptr) return *found.cell;
    if (found.swallowed || kernel_.zero_waiver) return 0;
    return std::nullopt;
  }

  /// KVM_SET_MSRS of one; false: refused.
  bool write(uint32_t msr, uint64_t value) {
    const Register found = find(msr);
    if (found.cell == nullptr) return found.swallowed || (kernel_.zero_waiver && value == 0);
    if (msr == kStatus && (value & ~mask()) != 0) return false;
    *found.cell = msr == kCtl ? value & mask() : value;
    return true;
  }

  /// A guest that counts with all it knows of.
  void dirty() {
    for (uint32_t i = 0; i < guest_.counters(); ++i) {
      if (!has_counter(i)) continue;
      selectors_[i] = 0x530076;
      counters_[i] = 0xffff'ffff'0000 + i;
    }
    if (!has_global()) return;
    ctl_ = mask() & 0x2a;
    status_ = mask();
  }

  /// "" = every register that the guest knows and `ignored` does not hold (by counter number) is as
  /// after RESET; else what is not.
  const char* not_reset(const std::array<bool, 6>& ignored, bool ignore_ctl,
                        bool ignore_status) const {
    for (uint32_t i = 0; i < guest_.counters(); ++i) {
      if (!has_counter(i) || ignored[i]) continue;
      if ((selectors_[i] & 1u << 22) != 0) return "an event selector is left enabled";
      if (selectors_[i] != 0) return "an event selector is not 0";
      if (counters_[i] != 0) return "a counter is not 0";
    }
    if (has_global() && !ignore_status && status_ != 0) return "GLOBAL_STATUS is not 0";
    if (has_global() && !ignore_ctl && ctl_ != mask()) return "GLOBAL_CTL is not its n bits";
    return "";
  }
  bool any_enabled(const std::array<bool, 6>& ignored) const {
    for (uint32_t i = 0; i < guest_.counters(); ++i)
      if (has_counter(i) && !ignored[i] && (selectors_[i] & 1u << 22) != 0) return true;
    return false;
  }

  bool has_counter(uint32_t i) const {
    if (off_) return false;
    if (kernel_.serves_all) return true;
    return i < (guest_.v2 && kernel_.leaf_limits ? guest_.n : guest_.counters());
  }
  bool has_global() const { return !off_ && guest_.v2; }
  uint64_t mask() const { return (uint64_t{1} << guest_.n) - 1; }

  static constexpr uint32_t kStatus = 0xc0000300;
  static constexpr uint32_t kCtl = 0xc0000301;
  /// The number of the counter that a selector or a counter register is of.
  static std::optional<uint32_t> counter_of(uint32_t msr) {
    if (msr >= 0xc0010000 && msr <= 0xc0010007) return (msr - 0xc0010000) % 4;
    if (msr >= 0xc0010200 && msr <= 0xc001020b) return (msr - 0xc0010200) / 2;
    return std::nullopt;
  }

 private:
  struct Register {
    uint64_t* cell = nullptr;
    bool swallowed = false;
  };
  struct ConstRegister {
    const uint64_t* cell;
    bool swallowed;
  };

  Register find(uint32_t msr) {
    const ConstRegister found = look_up(msr);
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): what it looks up is this one's own
    return {const_cast<uint64_t*>(found.cell), found.swallowed};
  }
  ConstRegister look_up(uint32_t msr) const {
    if (msr == kStatus) return {has_global() ? &status_ : nullptr, false};
    if (msr == kCtl) return {has_global() ? &ctl_ : nullptr, false};
    const auto number = counter_of(msr);
    if (!number) return {nullptr, false};
    const bool k7 = msr < 0xc0010200;
    const bool selector = k7 ? msr < 0xc0010004 : msr % 2 == 0;
    const bool there = has_counter(*number) && (k7 || guest_.core || kernel_.serves_all);
    if (!there) return {nullptr, k7 && kernel_.swallows_k7};
    return {selector ? &selectors_[*number] : &counters_[*number], false};
  }

  const Kernel kernel_;
  const GuestPmu guest_;
  const bool off_;
  std::array<uint64_t, 6> selectors_{};
  std::array<uint64_t, 6> counters_{};
  uint64_t status_ = 0;
  uint64_t ctl_ = 0;
};

}  // namespace fuzz
