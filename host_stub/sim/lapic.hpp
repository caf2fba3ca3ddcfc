// SPDX-License-Identifier: MIT
//
// The in-kernel local APIC, as far as the PMU cares: does a counter's interrupt reach the guest as
// an NMI? AMD APM vol. 2, "Performance Counter LVT" (offset 0x340).
#pragma once

#include <cstdint>

#include "vmm/kvm_uapi.h"

namespace host_stub {

class Lapic {
 public:
  static constexpr uint32_t kLvtpc = 0x340;
  static constexpr uint32_t kMasked = 0x10000;
  static constexpr uint32_t kModeNmi = 0x400;

  /// State after a reset: every local vector is masked.
  explicit Lapic(uint32_t vcpu_id);

  kvm_lapic_state get() const { return state_; }
  void set(const kvm_lapic_state& state) { state_ = state; }

  uint32_t lvtpc() const { return read(kLvtpc); }
  void write_lvtpc(uint32_t value) { write(kLvtpc, value); }

  /// A counter asks for an interrupt. True: the guest takes an NMI. Other delivery modes than NMI
  /// are taken for not delivered.
  bool deliver_pmi(bool mask_on_delivery);

 private:
  uint32_t read(uint32_t offset) const;
  void write(uint32_t offset, uint32_t value);

  kvm_lapic_state state_{};
};

}  // namespace host_stub
