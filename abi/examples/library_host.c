/* SPDX-License-Identifier: MIT
 *
 * A small VMM that hosts plugins by libvmm_host:  library_host PLUGINS  */
#define _POSIX_C_SOURCE 200809L /* O_CLOEXEC */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <vmm/host.h>
#include <vmm/kvm_uapi.h>

static struct {
  struct vmm_kvm_cpuid2_header header;
  struct kvm_cpuid_entry2 entries[256];
} cpuid = {{256, 0}, {{0}}};

int main(int argc, char** argv) {
  char why[256] = "", state[4096];
  struct vmm_error error = {sizeof error, sizeof why, why};
  struct vmm_host_config config = {
      sizeof config, VMM_HOST_EDITS_CPUID, "library_host 1.0", NULL, NULL, NULL};
  struct vmm_host_plugins* plugins = NULL;
  struct vmm_host_vm* vm = NULL;
  uint32_t size = 0;

  if (argc != 2 || vmm_host_open(&config, argv[1], &plugins, &error) < 0)
    return fprintf(stderr, "usage: library_host PLUGINS; %s\n", why), 2;

  int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  int vm_fd = ioctl(kvm, KVM_CREATE_VM, 0);
  struct vmm_host_vm_config vm_config = {sizeof vm_config, VMM_GUEST_PMU_UNSAID, kvm, vm_fd, 1, 0};
  if (vm_fd < 0 || vmm_host_vm_created(plugins, &vm_config, &vm, &error) < 0)
    return fprintf(stderr, "this VM does not start: %s\n", why), 1;

  int vcpu = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
  ioctl(kvm, VMM_KVM_GET_SUPPORTED_CPUID, &cpuid);
  vmm_host_vcpu_cpuid(vm, 0, cpuid.entries, cpuid.header.nent);
  ioctl(vcpu, VMM_KVM_SET_CPUID2, &cpuid);

  /* the machine's own registers are reset here, at creation and at each reset */
  if (vmm_host_vcpu_reset(vm, 0, vcpu) < 0) return 1;

  /* a migration: from here ... */
  if (vmm_host_vcpu_save(vm, 0, vcpu, state, sizeof state, &size, &error) < 0)
    return fprintf(stderr, "save: %s\n", why), 1;
  /* ... to there, after the machine's own registers */
  if (vmm_host_vcpu_restore(vm, 0, vcpu, state, size, &error) < 0)
    return fprintf(stderr, "restore: %s\n", why), 1;
  if (vmm_host_vcpu_reset(vm, 0, vcpu) < 0) return 1; /* the machine is reset */
  printf("%s hosts plugins by libvmm_host %s; a vCPU's state is %u bytes\n", config.name,
         vmm_host_version(), (unsigned)size);

  vmm_host_vm_destroyed(vm);
  close(vcpu), close(vm_fd), close(kvm);
  vmm_host_close(plugins);
  return 0;
}
