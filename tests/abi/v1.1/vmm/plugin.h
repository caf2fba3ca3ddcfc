/* SPDX-License-Identifier: MIT
 *
 * vmm/plugin.h - a stable C ABI between a virtual machine monitor (the host) and its plugins.
 *
 * PURPOSE
 *   A host loads a plugin with dlopen(RTLD_NOW | RTLD_LOCAL), looks up one symbol, and calls the
 *   plugin's hooks at points in the life of a KVM virtual machine that every VMM has: the VM was
 *   created, its list of MSRs is made, a vCPU was reset, the VM goes away. The plugin reaches KVM
 *   only through the host. No type of C++ or Rust, no allocator, no file descriptor and no
 *   exception crosses this boundary.
 *
 * A LIFE IN ONE PICTURE                                                          sandbox level
 *   vmm_plugin_v1()                    which plugin is this?                          S0
 *   plugin->create(host, "k=v", ...)   parse options, register hooks                  S0
 *     hooks.vm_created                 after KVM_CREATE_VM, before the first vCPU     S1
 *       hooks.msr_list_build           once the guest's CPUID is known                S1
 *       hooks.vcpu_reset               each vCPU, each reset; vCPUs in parallel       S2
 *     hooks.vm_destroyed               no hook of this VM runs or follows             S1
 *   plugin->destroy(ctx)               no VM left; dlclose may follow                 S0
 *
 * ERRORS
 *   int32_t results are 0 or a negated errno value of Linux (-EINVAL ...). A positive result is a
 *   breach of the contract: the reader treats it as -EPROTO. Texts for people go into the caller's
 *   vmm_error where a function has one, otherwise to the host's log.
 *
 * OWNERSHIP
 *   Who allocates, frees. Nothing changes hands. A pointer is valid for the call it is passed to,
 *   except where its declaration says more. Strings are UTF-8 and NUL-terminated.
 *
 * THREADS
 *   Any thread may call a hook; the plugin must not depend on which. What may overlap is said at
 *   each hook. Hooks must not be called from signal handlers, and a host must not cancel a thread
 *   inside one.
 *
 * SANDBOX LEVELS: what a function may do, so that hosts can filter system calls per thread
 *   S0  anything.
 *   S1  allocate and throw inside; no open, exec, clone, dlopen or socket.
 *   S2  only memory and the host's callbacks: no allocation, no throw, no lock, no system call.
 *
 * GROWTH
 *   Each struct begins with struct_size, which its writer sets to its own sizeof. A reader copies
 *   the smaller of that and its own sizeof into a zeroed struct, so a newer side meets an older one
 *   in both directions. Fields are only ever appended; 0 or NULL in a new field means the old
 *   behaviour. Reserved fields are written 0. What cannot grow this way gets a new entry symbol.
 *   vmm_msr, vmm_msr_range and vmm_cpuid_bits have no struct_size: they come in arrays and never
 *   change. "Since 1.n" marks what a later minor version appended; without it: since 1.0.
 *   The numbered rules are in ABI.md.
 */
#ifndef VMM_PLUGIN_H
#define VMM_PLUGIN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of this header, also for #if. The major is part of the entry symbol's name; the minor
 * counts appends. */
#define VMM_PLUGIN_ABI_MAJOR 1u
#define VMM_PLUGIN_ABI_MINOR 1u

/* Name of the entry symbol, for dlsym. */
#define VMM_PLUGIN_ENTRY_NAME "vmm_plugin_v1"

/* A VMM that calls these hooks itself exports a symbol of this name (of any type), so that a
 * preloaded host stays inert in its process and nothing is driven twice. */
#define VMM_PLUGIN_HOST_MARKER_NAME "vmm_plugin_host_v1"

#if defined(__GNUC__)
#define VMM_PLUGIN_EXPORT __attribute__((visibility("default")))
#else
#define VMM_PLUGIN_EXPORT
#endif

/* ---- handles ------------------------------------------------------------------------------- */

/* The host's names for one VM and one vCPU. Opaque to the plugin, never NULL where passed. Valid
 * from the hook that brings them until vm_destroyed returns; vCPU handles until their hook does. */
typedef struct vmm_vm_opaque* vmm_vm_handle;
typedef struct vmm_vcpu_opaque* vmm_vcpu_handle;

/* ---- errors and log ------------------------------------------------------------------------ */

/* A text buffer that the caller of a fallible function lends. The callee writes at most `capacity`
 * bytes, NUL included, cut at a UTF-8 boundary, and only when it returns an error. The caller puts
 * a NUL into message[0] first. May be NULL: no text wanted. */
struct vmm_error {
  uint32_t struct_size;
  uint32_t capacity; /* bytes behind `message`; at least 1 */
  char* message;
};

/* Levels of vmm_host.log; lower is more severe. Unknown levels are treated as the next lower known
 * one (150 as 100). */
#define VMM_LOG_ERROR ((uint32_t)100)
#define VMM_LOG_WARNING ((uint32_t)200)
#define VMM_LOG_INFO ((uint32_t)300)
#define VMM_LOG_DEBUG ((uint32_t)400)

/* ---- MSRs ---------------------------------------------------------------------------------- */

/* One model-specific register. The layout is that of struct kvm_msr_entry, whose `reserved` is
 * `flags` here: a host that hands entries on to KVM clears it. */
struct vmm_msr {
  uint32_t index; /* MSR address */
  uint32_t flags; /* VMM_MSR_*; 0 in a reset batch */
  uint64_t value; /* see the flags */
};

/* Flags of an entry of msr_list_build.
 *
 * SAVED: save = read this MSR; restore = write (saved value & `value`) at this place of the list:
 * `value` is the mask of the bits that exist. All ones leave it to KVM: the host reads the MSR
 * back, and bits that KVM did not keep count as lost (since 1.1). An MSR has at most one such
 * entry.
 *
 * Without SAVED: save = nothing; restore = write `value` itself at this place, any number of times:
 * what must be stopped or cleared first, and what a register gets if the saved state lacks it.
 *
 * REQUIRED (with SAVED): a restore that cannot write the saved value whole fails.
 *
 * An MSR that KVM refuses to read at a save has no state and is skipped. What KVM refuses to write
 * at a restore, or has no SAVED entry, is skipped, and said once if its value was not 0. */
#define VMM_MSR_SAVED ((uint32_t)1u << 0)
#define VMM_MSR_REQUIRED ((uint32_t)1u << 1)

/* Where a hook puts MSR entries. Lives for the call that brings it.
 * add: appends `count` entries in the order given, all or none; copies them.
 * Returns 0; -ENOSPC (no room for all); -EEXIST (a second SAVED entry of one MSR); -EINVAL (an
 * unknown flag, REQUIRED without SAVED, count 0 or NULL). */
struct vmm_msr_sink {
  uint32_t struct_size;
  uint32_t reserved;
  void* sink_ctx; /* first argument of add */
  int32_t (*add)(void* sink_ctx, const struct vmm_msr* msrs, uint32_t count);
};

/* A range of MSR addresses: base .. base + count - 1, both included. */
struct vmm_msr_range {
  uint32_t base;
  uint32_t count; /* 1 or more */
};

/* ---- CPUID --------------------------------------------------------------------------------- */

/* Values of vmm_cpuid_bits.reg. Since 1.1. */
#define VMM_CPUID_EAX ((uint32_t)0)
#define VMM_CPUID_EBX ((uint32_t)1)
#define VMM_CPUID_ECX ((uint32_t)2)
#define VMM_CPUID_EDX ((uint32_t)3)

/* Bits of one register that CPUID returns. Since 1.1. */
struct vmm_cpuid_bits {
  uint32_t leaf;    /* EAX before CPUID, 0x80000001 */
  uint32_t subleaf; /* ECX before CPUID; 0 where the leaf has no subleaves */
  uint32_t reg;     /* VMM_CPUID_EAX to VMM_CPUID_EDX */
  uint32_t mask;    /* the bits that are meant, at least one */
};

/* ---- contexts of the hooks ----------------------------------------------------------------- */

/* One VM: what KVM_CREATE_VM made. */
struct vmm_vm {
  uint32_t struct_size;
  uint32_t max_vcpus; /* vCPUs of this VM have indexes 0 .. max_vcpus - 1; 1 or more */
  vmm_vm_handle handle;
};

/* One vCPU that was reset. */
struct vmm_vcpu {
  uint32_t struct_size;
  uint32_t index; /* the same for the life of the vCPU; below vmm_vm.max_vcpus */
  uint32_t flags; /* 0 */
  uint32_t reserved;
  vmm_vcpu_handle handle;
  /* The host's open KVM_SET_MSRS batch for this vCPU, or NULL. Where it is there the plugin adds
   * its registers to it and needs no ioctl of its own; the host writes the batch, in order, after
   * its own defaults and before the vCPU runs, and skips an entry that KVM refuses. Only if the
   * hook returns 0: else the host drops what this call added. Where add fails the plugin writes by
   * vcpu_ioctl itself or returns the error. */
  const struct vmm_msr_sink* batch;
};

/* ---- the plugin's hooks -------------------------------------------------------------------- */

/* Every hook gets the `ctx` of register_hooks first. NULL = not wanted. */
struct vmm_hooks {
  uint32_t struct_size;
  uint32_t reserved;

  /* A VM exists and none of its vCPUs does: right after KVM_CREATE_VM, strictly before any thread's
   * first KVM_CREATE_VCPU. Once a VM; a process may make several, one after the other or at once.
   * *vm_ctx (NULL on entry) is the plugin's to set and comes back in every hook of this VM.
   * An error means that this VM must not start: *vm_ctx stays NULL and no further hook of this VM
   * follows. [S1; calls for different VMs may overlap] */
  int32_t (*vm_created)(void* ctx, const struct vmm_vm* vm, void** vm_ctx, struct vmm_error* error);

  /* The host is done with the VM: no hook of it runs or follows. Frees what *vm_ctx points to.
   * Once for each vm_created that returned 0, also if vm_created is NULL (then vm_ctx is NULL).
   * [S1] */
  void (*vm_destroyed)(void* ctx, void* vm_ctx);

  /* The host makes the list of MSRs that it saves and restores with a vCPU's state (snapshot,
   * migration). The plugin adds its registers in an order that is safe to restore in; the host
   * keeps that order. After vm_created, when the guest's CPUID is known; may be repeated and then
   * gives the same answer. An error: the host drops what this call added and must not go on as if
   * the state were whole. [S1; not during vcpu_reset of the same VM] */
  int32_t (*msr_list_build)(void* ctx, void* vm_ctx, const struct vmm_vm* vm,
                            const struct vmm_msr_sink* sink, struct vmm_error* error);

  /* The host has put a vCPU into its architectural reset state and not run it since: at its
   * creation (after KVM_SET_CPUID2) and at each later reset of the machine; not at INIT, not at
   * run-time writes of registers, not at a restore. The vCPU does not run during the call.
   * Harmless to repeat. [S2; different vCPUs in parallel, one vCPU's calls one after the other] */
  int32_t (*vcpu_reset)(void* ctx, void* vm_ctx, const struct vmm_vcpu* vcpu);
};

/* ---- the host's table ---------------------------------------------------------------------- */

/* What a host offers. Passed to create and valid until destroy returns. Every callback gets
 * host_ctx first, may be called on any thread from inside any hook and from create (log also from
 * destroy), and is S2 safe. Up to `log` all must be there; those marked optional may be NULL, and a
 * table may end before them. */
struct vmm_host {
  uint32_t struct_size;
  uint32_t abi_major; /* VMM_PLUGIN_ABI_MAJOR of the host's header */
  uint32_t abi_minor;
  uint32_t reserved;
  void* host_ctx;
  const char* name; /* for log lines, "host_stub 1.0"; never NULL */

  /* Makes `hooks` the plugin's hooks. During create only, once; the host copies the table.
   * 0; -EALREADY (second call); -EINVAL (NULL, or struct_size below that of ABI 1.0). */
  int32_t (*register_hooks)(void* host_ctx, const struct vmm_hooks* hooks, void* ctx);

  /* ioctl on the VM or the vCPU behind the handle. `request` is the ioctl number of KVM's API;
   * `arg` is its argument, an integer argument cast by way of uintptr_t. The result of the ioctl,
   * or -errno. May fail with -EINTR: the caller repeats. */
  int32_t (*vm_ioctl)(void* host_ctx, vmm_vm_handle vm, uint32_t request, void* arg);
  int32_t (*vcpu_ioctl)(void* host_ctx, vmm_vcpu_handle vcpu, uint32_t request, void* arg);

  /* A finished line for people: `length` bytes of UTF-8 and a NUL behind them, no newline. Does not
   * block. */
  void (*log)(void* host_ctx, uint32_t level, const char* message, uint64_t length);

  /* Optional. What CPUID says to the guest: registers[] = eax, ebx, ecx, edx; all 0 for a leaf that
   * the guest does not have. vcpu NULL = the CPUID that the VM's vCPUs have or will have.
   * 0; -ENOENT (not known, or not yet). */
  int32_t (*get_cpuid)(void* host_ctx, vmm_vm_handle vm, vmm_vcpu_handle vcpu, uint32_t leaf,
                       uint32_t subleaf, uint32_t registers[4]);

  /* Optional. Denies the guest reads and writes of these MSRs, by merging the ranges into the
   * host's own KVM_X86_SET_MSR_FILTER and answering exits for them with #GP; a VM has one filter,
   * and a second call of that ioctl replaces the first. The ranges stay denied for the life of the
   * VM. During vm_created only. A host without a filter of its own leaves this NULL, and the
   * plugin sets a filter itself. 0; -ENOSPC (no free ranges); -EOPNOTSUPP (KVM has no filter). */
  int32_t (*deny_msrs)(void* host_ctx, vmm_vm_handle vm, const struct vmm_msr_range* ranges,
                       uint32_t count);

  /* Optional. A table of functions by a name such as "vmm.clock/1", or NULL if the host does not
   * have it. Its type is that of the header which defines the name. */
  const void* (*get_extension)(void* host_ctx, const char* id);

  /* Optional, since 1.1. Hides CPUID bits from this VM: from now on the host clears them in each
   * table that it gives to KVM for a vCPU of the VM (KVM_SET_CPUID2), in what the VMM learns from
   * KVM_GET_SUPPORTED_CPUID, and in its answers to get_cpuid. It sets no bit. A leaf that the guest
   * does not have stays as it is. Calls add up; the bits stay hidden for the life of the VM. The
   * host copies the array, and takes all of it or none. During vm_created only.
   * 0; -ENOSPC (no room for all); -EINVAL (a reg above VMM_CPUID_EDX, a mask of 0, bits NULL or
   * count 0). */
  int32_t (*hide_cpuid)(void* host_ctx, vmm_vm_handle vm, const struct vmm_cpuid_bits* bits,
                        uint32_t count);

  /* Optional, since 1.1. What KVM_GET_SUPPORTED_CPUID says, before any bit is hidden: registers[] =
   * eax, ebx, ecx, edx; all 0 for a leaf that KVM does not list. Leaf 0 names the vendor of the
   * machine under KVM, also where the CPUID instruction or the guest's own CPUID says another.
   * 0; -ENOENT (not known); -EINVAL (registers NULL). */
  int32_t (*get_supported_cpuid)(void* host_ctx, vmm_vm_handle vm, uint32_t leaf, uint32_t subleaf,
                                 uint32_t registers[4]);
};

/* ---- the plugin's descriptor and entry ----------------------------------------------------- */

/* What a plugin is. Constant, valid while the plugin is loaded. */
struct vmm_plugin {
  uint32_t struct_size;
  uint32_t abi_major; /* VMM_PLUGIN_ABI_MAJOR of the plugin's header */
  uint32_t abi_minor;
  uint32_t flags;           /* 0 */
  const char* name;         /* short, [a-z0-9_-]; never NULL */
  const char* version;      /* the plugin's own, "1.0.0"; never NULL */
  const char* description;  /* one line; may be NULL */
  const char* options_help; /* option table for people, lines end in \n; may be NULL */

  /* Makes an instance. `options` is "key=value,key=value" with a literal comma doubled, or NULL or
   * "" for none; valid until destroy returns, like `host`. Calls host->register_hooks once and sets
   * *ctx. On an error nothing stays registered, *ctx is untouched, nothing is left to free and
   * destroy is not called. Several instances at a time are allowed. [S0]
   * -EINVAL (options; a host table that is too small, of another major, lacks a callback). */
  int32_t (*create)(const struct vmm_host* host, const char* options, void** ctx,
                    struct vmm_error* error);

  /* Ends an instance, when each of its VMs had vm_destroyed. Once for each successful create; the
   * plugin calls nothing of the host afterwards. [S0] */
  void (*destroy)(void* ctx);

  /* Optional. As vmm_host.get_extension, for what a plugin offers. */
  const void* (*get_extension)(const char* id);
};

/* The entry, the only symbol that a plugin exports. Never NULL. Pure: no allocation, no output; any
 * thread, any number of times. */
VMM_PLUGIN_EXPORT const struct vmm_plugin* vmm_plugin_v1(void);

/* Its type, for the result of dlsym. */
typedef const struct vmm_plugin* (*vmm_plugin_entry)(void);

#ifdef __cplusplus
}
#endif

#endif /* VMM_PLUGIN_H */
