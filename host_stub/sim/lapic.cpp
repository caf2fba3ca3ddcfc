// SPDX-License-Identifier: MIT
#include "sim/lapic.hpp"

#include <cstring>

namespace host_stub {
namespace {

constexpr uint32_t kDeliveryMode = 0x700;

}  // namespace

Lapic::Lapic(uint32_t vcpu_id) {
  write(0x20, vcpu_id << 24);
  write(0x30, 0x50014);  // six local vectors
  write(0xf0, 0xff);     // spurious vector, not enabled
  for (uint32_t lvt = 0x320; lvt <= 0x370; lvt += 0x10) write(lvt, kMasked);
}

bool Lapic::deliver_pmi(bool mask_on_delivery) {
  const uint32_t entry = lvtpc();
  if ((entry & kMasked) != 0 || (entry & kDeliveryMode) != kModeNmi) return false;
  if (mask_on_delivery) write_lvtpc(entry | kMasked);
  return true;
}

uint32_t Lapic::read(uint32_t offset) const {
  uint32_t value = 0;
  std::memcpy(&value, state_.regs + offset, sizeof value);
  return value;
}

void Lapic::write(uint32_t offset, uint32_t value) {
  std::memcpy(state_.regs + offset, &value, sizeof value);
}

}  // namespace host_stub
