/* SPDX-License-Identifier: MIT
 *
 * vmm/host.h - libvmm_host: everything that a virtual machine monitor (VMM) on KVM needs to host
 * the plugins of vmm/plugin.h, as a library with a C interface.
 *
 * PURPOSE
 *   A VMM that hosts plugins itself has to load them, offer them a table of callbacks, keep their
 *   view of each VM, merge MSR filters, edit CPUID tables, and save registers with a format of its
 *   own. This library does all of that. The VMM calls one function at each point of a VM's life,
 *   and goes on to make its own ioctls as before.
 *
 * A LIFE IN ONE PICTURE
 *   vmm_host_open(&config, "svm_pmu.so,verify=on", ...)   at start, before any sandbox
 *     vmm_host_vm_created            after KVM_CREATE_VM, before the first KVM_CREATE_VCPU
 *       vmm_host_supported_cpuid     on what KVM_GET_SUPPORTED_CPUID returned
 *       vmm_host_vcpu_cpuid          before each KVM_SET_CPUID2
 *       vmm_host_set_msr_filter      in place of KVM_X86_SET_MSR_FILTER
 *       vmm_host_vcpu_reset          each vCPU, at its creation and at each reset of the machine
 *       vmm_host_vcpu_save, vmm_host_vcpu_restore
 *     vmm_host_vm_destroyed
 *   vmm_host_close
 *
 *   Where the operator asked for no plugin there is no struct vmm_host_vm: functions on a VM take
 *   NULL for that, change nothing and return 0, so that a VMM need not ask before each call.
 *
 * ERRORS
 *   int32_t results are 0 or a negated errno value of Linux, unless a function says more. Functions
 *   that may fail for many reasons take a struct vmm_error (vmm/plugin.h) and put one line for
 *   people into it. It may be NULL; then vmm_host_vcpu_save, vmm_host_vcpu_save_new and
 *   vmm_host_vcpu_restore write the line to the log.
 *
 * OWNERSHIP
 *   The library owns struct vmm_host_plugins and struct vmm_host_vm and gives out pointers to them.
 *   It copies every string and table that it needs after a call. File descriptors stay the VMM's:
 *   the library uses them during the call, the VM's until vmm_host_vm_destroyed.
 *
 * THREADS
 *   Functions on different VMs may run at the same time. On one VM: vmm_host_vcpu_* calls of
 *   different vCPUs may run at the same time, calls of one vCPU one after the other; but no save or
 *   restore while another vCPU of the VM is being reset. Every other function alone. Not from
 *   signal handlers.
 *
 * SANDBOXES
 *   vmm_host_open may do anything. vmm_host_vm_created, vmm_host_vcpu_cpuid, vmm_host_vcpu_save and
 *   vmm_host_vcpu_restore allocate memory. vmm_host_vcpu_reset allocates nothing and makes one
 *   KVM_SET_MSRS per plugin that has registers to write (more where KVM refuses one of them, or
 *   where an option of the plugin asks for it); the VMM's log function may do more.
 *
 * GROWTH
 *   As in vmm/plugin.h: structs begin with struct_size, fields are only ever appended, 0 or NULL in
 *   a new field means the old behaviour. Functions are only ever added; each is in a symbol version
 *   of the library (VMM_HOST_1.0).
 */
#ifndef VMM_HOST_H
#define VMM_HOST_H

#include <vmm/guest_pmu.h>
#include <vmm/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define VMM_HOST_API __attribute__((visibility("default")))
#else
#define VMM_HOST_API
#endif

/* From <linux/kvm.h>. */
struct kvm_cpuid_entry2;
struct kvm_msr_filter;
struct kvm_run;

/* The plugins that an operator asked for, loaded and configured. */
struct vmm_host_plugins;
/* One VM, as its plugins see it. */
struct vmm_host_vm;

/* Flags of vmm_host_config: what the VMM does for plugins. */

/* The VMM calls vmm_host_set_msr_filter in place of KVM_X86_SET_MSR_FILTER, and
 * vmm_host_answer_msr_exit at exits for MSRs if it enabled those. Without it a plugin may set the
 * VM's MSR filter itself, which a later filter of the VMM's would replace. */
#define VMM_HOST_MERGES_MSR_FILTER ((uint32_t)1u << 0)
/* The VMM calls vmm_host_vcpu_cpuid before each KVM_SET_CPUID2, and vmm_host_supported_cpuid after
 * KVM_GET_SUPPORTED_CPUID where it decides by that. Without it plugins cannot hide CPUID bits. */
#define VMM_HOST_EDITS_CPUID ((uint32_t)1u << 1)
/* The library ends the process's VMs and plugins itself when the process calls exit(3), unless the
 * VMM did: for a VMM whose VM lives as long as the process. At that time no other thread may be in
 * a function of this header, nor call one afterwards. _exit(2) ends nothing. */
#define VMM_HOST_ENDS_AT_EXIT ((uint32_t)1u << 2)
/* Each saved state of the VMM's has what vmm_host_vcpu_save wrote. So vmm_host_vcpu_restore of 0
 * bytes, where a save would write some, is an error: the state comes from a VMM without these
 * plugins. */
#define VMM_HOST_REQUIRES_STATE ((uint32_t)1u << 3)

/* What a VMM gives to the library. Copied by vmm_host_open. */
struct vmm_host_config {
  uint32_t struct_size;
  uint32_t flags;   /* VMM_HOST_* */
  const char* name; /* the VMM's, for log lines of plugins: "my_vmm 1.0"; not NULL */

  void* ctx; /* first argument of the functions below */

  /* Optional. Gets each log line of the plugins and of the library: `level` is VMM_LOG_*
   * (vmm/plugin.h), `source` the plugin's name or "vmm_host", `message` one line without a newline.
   * Both strings are valid for the call. Called on any thread that is inside a function of this
   * header. NULL: errors and warnings go to standard error. */
  void (*log)(void* ctx, uint32_t level, const char* source, const char* message);

  /* Optional, for a VMM whose KVM lives in another process, or that records what it does: makes an
   * ioctl on one of the descriptors that the VMM passes to this library. The result of the ioctl,
   * or -errno. `request` is the ioctl's number, 32 bits. On any thread. NULL: ioctl(2). */
  int32_t (*ioctl)(void* ctx, int32_t fd, uint32_t request, void* arg);
};

/* Loads `plugins`, "file.so,key=value,...;other.so": for each plugin its file and its options, with
 * ';' between plugins; ";;" is a literal ';', ",," in an option a literal ','. A name without '/'
 * is looked for in <libdir>/vmm/plugins of this library's installation, with and without ".so";
 * otherwise it is a path. All plugins are loaded, or none. The configuration file of vmm-run(1) is
 * not read: a VMM passes what its own options say.
 *
 * 0, and *opened is to be closed with vmm_host_close; -EINVAL (the text does not parse, a file is
 * not a plugin, a plugin refuses its options), -ENOENT (no such file), -ENOMEM, or what a plugin's
 * create returned. */
VMM_HOST_API int32_t vmm_host_open(const struct vmm_host_config* config, const char* plugins,
                                   struct vmm_host_plugins** opened, struct vmm_error* error);

/* Ends the plugins. Every VM must have had vmm_host_vm_destroyed. NULL is allowed. */
VMM_HOST_API void vmm_host_close(struct vmm_host_plugins* plugins);

/* A VM that was just created. */
struct vmm_host_vm_config {
  uint32_t struct_size;
  uint32_t guest_pmu; /* VMM_GUEST_PMU_*: what the VMM was told about this guest's PMU */
  int32_t kvm_fd;     /* /dev/kvm */
  int32_t vm_fd;      /* of KVM_CREATE_VM; to be closed after vmm_host_vm_destroyed */
  uint32_t max_vcpus; /* the VM's vCPUs have indexes 0 .. max_vcpus - 1; 1 or more */
  uint32_t reserved;
};

/* Tells the plugins of a new VM, strictly before any thread's first KVM_CREATE_VCPU of it. An error
 * means that this VM must not start.
 * 0, and *created is to be ended with vmm_host_vm_destroyed; -EINVAL, -ENOMEM, or what a plugin's
 * vm_created returned, with the plugin's words. */
VMM_HOST_API int32_t vmm_host_vm_created(struct vmm_host_plugins* plugins,
                                         const struct vmm_host_vm_config* config,
                                         struct vmm_host_vm** created, struct vmm_error* error);

/* The VM is gone, or about to be closed: nothing of it runs or follows. NULL is allowed. */
VMM_HOST_API void vmm_host_vm_destroyed(struct vmm_host_vm* vm);

/* Clears the bits that plugins hide in the table that the VMM is about to give to KVM_SET_CPUID2
 * for this vCPU, and remembers it, so that plugins know which registers the guest has. `entries`
 * belongs to the VMM and is edited in place.
 * 0; -EINVAL (an index past max_vcpus, more than 256 entries); -ENOMEM. */
VMM_HOST_API int32_t vmm_host_vcpu_cpuid(struct vmm_host_vm* vm, uint32_t index,
                                         struct kvm_cpuid_entry2* entries, uint32_t count);

/* Clears the same bits in a copy of what KVM_GET_SUPPORTED_CPUID returned, for a VMM that decides
 * by it. Edited in place. */
VMM_HOST_API void vmm_host_supported_cpuid(const struct vmm_host_vm* vm,
                                           struct kvm_cpuid_entry2* entries, uint32_t count);

/* Sets the VM's MSR filter: what `wanted` asks for, with what plugins deny denied first. All zero:
 * the VMM wants no filter. Needs VMM_HOST_MERGES_MSR_FILTER. `vm` is not NULL: without plugins the
 * VMM makes the ioctl itself.
 * 0; -ENOSPC (together they need more ranges than KVM's filter has); -EINVAL; or what
 * KVM_X86_SET_MSR_FILTER returned. */
VMM_HOST_API int32_t vmm_host_set_msr_filter(struct vmm_host_vm* vm,
                                             const struct kvm_msr_filter* wanted);

/* For a VMM that has KVM exit to it for filtered MSRs: answers an exit for an MSR that a plugin
 * denies, c0010000 to c0010007 as KVM does with its vPMU off (read as 0, writes are dropped), any
 * other with #GP. 1: answered in *run, call KVM_RUN again; 0: the exit is the VMM's own. */
VMM_HOST_API int32_t vmm_host_answer_msr_exit(const struct vmm_host_vm* vm, struct kvm_run* run);

/* The vCPU is in its architectural reset state and has not run since: at its creation, after
 * KVM_SET_CPUID2, and at each reset of the machine, after the VMM's own registers. Not at INIT, not
 * at a restore. Calls every plugin, and returns the first error: registers of the guest before may
 * be left, so a VMM stops by default. Details are in the log. */
VMM_HOST_API int32_t vmm_host_vcpu_reset(struct vmm_host_vm* vm, uint32_t index, int32_t vcpu_fd);

/* As vmm_host_vcpu_reset, for a VMM that makes one KVM_SET_MSRS of its own at a reset: the plugins'
 * registers are added to `batch` after its first *count entries, *count is raised, and no ioctl is
 * made where there is room. The VMM writes the batch in order, with flags cleared, and skips an
 * entry that KVM refuses. The first error ends it: *count is as before, and no other plugin is
 * called. */
VMM_HOST_API int32_t vmm_host_vcpu_reset_batch(struct vmm_host_vm* vm, uint32_t index,
                                               int32_t vcpu_fd, struct vmm_msr* batch,
                                               uint32_t capacity, uint32_t* count);

/* Puts the registers that plugins name into `buffer`, for a section of the VMM's own saved state.
 * The format has a magic number, a version and a checksum, is little-endian, and is 0 bytes long
 * where there is nothing to save. *size: the bytes that were written, or with -ENOSPC the bytes
 * that are needed; `buffer` NULL with `capacity` 0 asks for that.
 * 0; -ENOSPC; -EINVAL; -ENOMEM; what msr_list_build or KVM_GET_MSRS returned: then the state is not
 * whole and must not be used. */
VMM_HOST_API int32_t vmm_host_vcpu_save(struct vmm_host_vm* vm, uint32_t index, int32_t vcpu_fd,
                                        void* buffer, uint32_t capacity, uint32_t* size,
                                        struct vmm_error* error);

/* As vmm_host_vcpu_save, into memory of the right size: *buffer, which is NULL or of malloc(3), is
 * freed, then it and *size are NULL and 0 with an error or where there is nothing to save,
 * otherwise new memory, which the VMM ends with free(3), and its bytes. */
VMM_HOST_API int32_t vmm_host_vcpu_save_new(struct vmm_host_vm* vm, uint32_t index, int32_t vcpu_fd,
                                            void** buffer, uint32_t* size, struct vmm_error* error);

/* Restores what vmm_host_vcpu_save wrote, here or on another host, after the VMM's own registers
 * and before the vCPU runs. `size` 0: a state without registers of plugins; they get the values
 * that the list gives them, unless VMM_HOST_REQUIRES_STATE makes that an error. What this host does
 * not have is left out and said in a warning, or is an error where the plugin requires it. 0;
 * -EBADMSG (not such a buffer, cut off, or changed), -EPROTONOSUPPORT (a newer version), -ENODATA
 * (`size` is 0, and VMM_HOST_REQUIRES_STATE), -ENODEV (there are registers, and `vm` is NULL),
 * -EINVAL, -ENOMEM, -EIO (KVM refuses a required value), or what KVM_SET_MSRS returned. Nothing is
 * written with -EBADMSG, -EPROTONOSUPPORT, -ENODATA and -ENODEV. */
VMM_HOST_API int32_t vmm_host_vcpu_restore(struct vmm_host_vm* vm, uint32_t index, int32_t vcpu_fd,
                                           const void* buffer, uint32_t size,
                                           struct vmm_error* error);

/* The library's version, "1.1.0". */
VMM_HOST_API const char* vmm_host_version(void);

#ifdef __cplusplus
}
#endif

#endif /* VMM_HOST_H */
