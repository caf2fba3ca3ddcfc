// SPDX-License-Identifier: MIT
//
// The registers of one vCPU as bytes, for a section of a VMM's saved state: what vmm_host_vcpu_save
// writes. Little-endian, the same on every machine:
//
//   offset  bytes
//        0  4      magic, "VMMR"
//        4  4      version, 1
//        8  4      number of registers, 1 to 4096
//       12  4      CRC-32 of all bytes after it
//       16  16     per register: address (4), 0 (4), value (8)
//
// No registers: no bytes at all. A reader refuses every other version.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "host_kit/msr_state.hpp"

namespace host_kit {

/// Most registers of a state.
inline constexpr uint32_t kMaxStateRegisters = 4096;

/// Bytes of a state of so many registers.
constexpr std::size_t state_size(std::size_t registers) noexcept {
  return registers == 0 ? 0 : 16 + 16 * registers;
}

/// Writes `state` to `out`, which has state_size(state.size()) bytes.
void write_state(std::span<const SavedMsr> state, std::span<std::byte> out) noexcept;

/// Why bytes are no state.
struct StateError {
  int32_t code = 0;  ///< -EBADMSG, or -EPROTONOSUPPORT for another version
  std::string text;  ///< one line
};

/// The registers of a buffer. May throw std::bad_alloc.
tl::expected<std::vector<SavedMsr>, StateError> read_state(std::span<const std::byte> in);

}  // namespace host_kit
