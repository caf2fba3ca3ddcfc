/* SPDX-License-Identifier: MIT
 *
 * The VMM around the code of HOSTING.md, on /dev/kvm: two VMs of two vCPUs that never run, resets,
 * a save and a restore. hosting_vmm PLUGIN.so OPTIONS Exit status: 0 it came to the end, 1
 * something failed, 77 no /dev/kvm. */
#define _POSIX_C_SOURCE 200809L
#include "hosting.h" /* made of the page's C pieces */

#include <fcntl.h>
#include <unistd.h>

enum { VMS = 2, VCPUS = 2, ROUNDS = 6 };

struct machine {
  struct vm vm;
  struct vcpu vcpus[VCPUS];
  struct kvm_regs regs[VCPUS];
  struct kvm_sregs sregs[VCPUS];
  int started;
};
static struct machine machines[VMS];

static int create_vcpu(int kvm, struct machine* machine, uint32_t index) {
  struct {
    struct vmm_kvm_cpuid2_header header;
    struct kvm_cpuid_entry2 entries[MOST_CPUID];
  } cpuid;
  struct vcpu* vcpu = &machine->vcpus[index];
  memset(&cpuid, 0, sizeof cpuid);
  cpuid.header.nent = MOST_CPUID;
  vcpu->index = index;
  vcpu->fd = ioctl(machine->vm.fd, KVM_CREATE_VCPU, index);
  if (vcpu->fd < 0 || ioctl(kvm, VMM_KVM_GET_SUPPORTED_CPUID, &cpuid) < 0 ||
      ioctl(vcpu->fd, VMM_KVM_SET_CPUID2, &cpuid) < 0)
    return -errno;
  memcpy(machine->vm.cpuid, cpuid.entries, sizeof cpuid.entries);
  machine->vm.cpuid_entries = cpuid.header.nent;
  if (ioctl(vcpu->fd, KVM_GET_REGS, &machine->regs[index]) < 0 ||
      ioctl(vcpu->fd, KVM_GET_SREGS, &machine->sregs[index]) < 0)
    return -errno;
  return 0;
}

static int start(int kvm, struct machine* machine) {
  machine->vm.max_vcpus = VCPUS;
  machine->vm.fd = ioctl(kvm, KVM_CREATE_VM, 0);
  if (machine->vm.fd < 0) return -errno;
  int result = plugin_vm_created(&machine->vm);
  if (result != 0) return result;
  machine->started = 1;
  for (uint32_t i = 0; i < VCPUS && result == 0; i++) result = create_vcpu(kvm, machine, i);
  return result;
}

static int reset(struct machine* machine) {
  int result = 0;
  for (uint32_t i = 0; i < VCPUS; i++) {
    struct vcpu* vcpu = &machine->vcpus[i];
    if (ioctl(vcpu->fd, KVM_SET_SREGS, &machine->sregs[i]) < 0 ||
        ioctl(vcpu->fd, KVM_SET_REGS, &machine->regs[i]) < 0)
      return -errno;
    const int32_t failed = plugin_vcpu_reset(&machine->vm, vcpu);
    if (failed != 0) result = failed;
  }
  return result;
}

static int save_and_restore(struct machine* machine) {
  int result = 0;
  for (uint32_t i = 0; i < VCPUS && result == 0; i++) {
    result = save_vcpu(&machine->vm, &machine->vcpus[i]);
    if (result == 0) result = restore_vcpu(&machine->vm, &machine->vcpus[i]);
  }
  return result;
}

/* An operator who wants the VM to run on whatever a hook says. */
static int run(struct machine* machine) {
  int result = plugin_msr_list(&machine->vm);
  for (int round = 0; round < ROUNDS; round++) {
    const int failed = reset(machine);
    const int lost = round == 1 ? save_and_restore(machine) : 0;
    if (result == 0) result = failed != 0 ? failed : lost;
  }
  return result;
}

int main(int argc, char** argv) {
  const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  int result = 0;
  if (argc < 3) return puts("usage: hosting_vmm PLUGIN.so OPTIONS"), 1;
  if (kvm < 0) return puts("SKIPPED: no /dev/kvm"), 77;
  if (load_plugin(argv[1], argv[2]) != 0) return 1;
  for (int i = 0; i < VMS && result == 0; i++) result = start(kvm, &machines[i]);
  for (int i = 0; i < VMS && result == 0; i++) result = run(&machines[i]);
  for (int i = 0; i < VMS; i++)
    if (machines[i].started) plugin_vm_destroyed(&machines[i].vm);
  unload_plugin();
  return result == 0 ? 0 : 1;
}
