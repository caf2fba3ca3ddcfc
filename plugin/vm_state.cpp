// SPDX-License-Identifier: MIT
#include "vm_state.hpp"

namespace svm_pmu {

const char* state_of(const Vm& vm) noexcept {
  switch (vm.vpmu) {
    case Vpmu::off_by_cap:
      return kStateOff;
    case Vpmu::already_off:
      return kStateAlreadyOff;
    case Vpmu::filtered:
      return kStateFiltered;
    case Vpmu::none:
      return kStateNotAmd;
    case Vpmu::on:
      break;
  }
  return vm.options.pmu_reset ? kStateReset : kStateUntouched;
}

const vmm_vm_state kVmStateExtension = {
    .struct_size = sizeof(vmm_vm_state),
    .reserved = 0,
    .state = [](void*, void* vm_ctx) noexcept { return state_of(*static_cast<const Vm*>(vm_ctx)); },
};

}  // namespace svm_pmu
