// SPDX-License-Identifier: MIT
//
// One MSR of a vCPU, by way of KVM. Answers: what does it hold, does KVM take this value.
#pragma once

#include <cstdint>
#include <optional>

#include "kvm/kvm.hpp"
#include "kvm/msr_request.hpp"

namespace host_stub {

/// Empty: KVM does not let it be read, or the ioctl failed.
inline std::optional<uint64_t> get_msr(Vcpu& vcpu, uint32_t msr) {
  MsrRequest request;
  request.add({msr, 0, 0});
  if (vcpu.ioctl(VMM_KVM_GET_MSRS, request.arg()) != 1) return std::nullopt;
  return request.entries()[0].data;
}

/// Whether KVM said that it took the value.
inline bool set_msr(Vcpu& vcpu, uint32_t msr, uint64_t value) {
  MsrRequest request;
  request.add({msr, 0, value});
  return vcpu.ioctl(VMM_KVM_SET_MSRS, request.arg()) == 1;
}

}  // namespace host_stub
