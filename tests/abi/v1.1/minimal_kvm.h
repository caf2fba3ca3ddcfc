/* SPDX-License-Identifier: MIT
 *
 * The virtual machine that minimal_host drives: one of /dev/kvm, or a stand-in that remembers the
 * MSRs written to it. A VMM has this part already. */
#ifndef MINIMAL_KVM_H
#define MINIMAL_KVM_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <vmm/kvm_uapi.h>
#include <vmm/plugin.h>

/* From `header` on this is what KVM_SET_MSRS takes: vmm_msr has the layout of kvm_msr_entry. */
struct msr_list {
  uint32_t known_flags; /* what add_msrs accepts in an entry */
  uint32_t reserved;
  struct vmm_kvm_msrs_header header;
  struct vmm_msr msrs[VMM_KVM_MAX_MSRS];
};

/* /dev/kvm, a VM or a vCPU. */
struct device {
  int fd; /* -1: the stand-in */
  struct msr_list written;
};

static int is_saved(const struct vmm_msr* msrs, uint32_t count, uint32_t index) {
  for (uint32_t i = 0; i < count; i++)
    if (msrs[i].index == index && msrs[i].flags & VMM_MSR_SAVED) return 1;
  return 0;
}

/* The add of a vmm_msr_sink whose sink_ctx is a struct msr_list. */
static int32_t add_msrs(void* sink_ctx, const struct vmm_msr* msrs, uint32_t count) {
  struct msr_list* list = sink_ctx;
  if (!msrs || count == 0) return -EINVAL;
  for (uint32_t i = 0; i < count; i++) {
    if (msrs[i].flags & ~list->known_flags || msrs[i].flags == VMM_MSR_REQUIRED) return -EINVAL;
    if (msrs[i].flags & VMM_MSR_SAVED && (is_saved(list->msrs, list->header.nmsrs, msrs[i].index) ||
                                          is_saved(msrs, i, msrs[i].index)))
      return -EEXIST;
  }
  if (count > VMM_KVM_MAX_MSRS - list->header.nmsrs) return -ENOSPC;
  memcpy(list->msrs + list->header.nmsrs, msrs, count * sizeof *msrs);
  list->header.nmsrs += count;
  return 0;
}

static int32_t device_ioctl(struct device* device, uint32_t request, void* arg) {
  const struct vmm_kvm_msrs_header* header = arg;
  if (device->fd >= 0) {
    int result = ioctl(device->fd, request, arg);
    return result < 0 ? -errno : result;
  }
  if (request == KVM_CHECK_EXTENSION) return 0; /* the stand-in has no capability */
  if (request != VMM_KVM_SET_MSRS) return -ENOTTY;
  int32_t result =
      add_msrs(&device->written, (const struct vmm_msr*)(const void*)(header + 1), header->nmsrs);
  return result < 0 ? result : (int32_t)header->nmsrs;
}

static void print_msrs(const char* title, const struct msr_list* list) {
  for (uint32_t i = 0; i < list->header.nmsrs; i++)
    printf("%s: MSR 0x%x flags %u value 0x%llx\n", title, list->msrs[i].index, list->msrs[i].flags,
           (unsigned long long)list->msrs[i].value);
}

/* Writes a list. KVM stops at an MSR that it refuses and returns how many it wrote before it. */
static int32_t write_msrs(struct device* vcpu, const struct msr_list* list) {
  static struct msr_list rest;
  for (uint32_t done = 0; done < list->header.nmsrs;) {
    rest.header.nmsrs = list->header.nmsrs - done;
    memcpy(rest.msrs, list->msrs + done, rest.header.nmsrs * sizeof rest.msrs[0]);
    int32_t result = device_ioctl(vcpu, VMM_KVM_SET_MSRS, &rest.header);
    if (result == -EINTR) continue;
    if (result < 0) return result;
    done += (uint32_t)result;
    if (done < list->header.nmsrs) printf("MSR 0x%x refused\n", list->msrs[done++].index);
  }
  return 0;
}

/* Makes a VM, and a vCPU of it with all of CPUID that KVM supports. 0 or -errno. */
static int32_t create_vm(const struct device* kvm, struct device* vm) {
  if (kvm->fd >= 0) vm->fd = ioctl(kvm->fd, KVM_CREATE_VM, 0);
  return kvm->fd >= 0 && vm->fd < 0 ? -errno : 0;
}
static int32_t create_vcpu(const struct device* kvm, const struct device* vm, struct device* vcpu,
                           uint32_t index) {
  struct {
    struct vmm_kvm_cpuid2_header header;
    struct kvm_cpuid_entry2 entries[256];
  } cpuid;
  if (kvm->fd < 0) return 0;
  memset(&cpuid, 0, sizeof cpuid);
  cpuid.header.nent = 256;
  if ((vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, index)) < 0) return -errno;
  if (ioctl(kvm->fd, VMM_KVM_GET_SUPPORTED_CPUID, &cpuid) < 0) return -errno;
  return ioctl(vcpu->fd, VMM_KVM_SET_CPUID2, &cpuid) < 0 ? -errno : 0;
}

#endif
