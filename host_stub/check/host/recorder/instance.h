/* SPDX-License-Identifier: MIT
 *
 * An instance of the plugin: what it was told to do, its VMs, its record. Nothing of it is freed
 * before the library is unloaded, so that a call that comes when its time is over finds that out.
 *
 * Threads: any function on any thread; an instance's configuration is constant once create
 * returned. */
#ifndef HOST_CONFORMANCE_INSTANCE_H
#define HOST_CONFORMANCE_INSTANCE_H

#include <pthread.h>
#include <vmm/plugin.h>

#include "record.h"

/* ---- runs ---------------------------------------------------------------------------------- */

enum {
  HAS_CREATED = 1 << 0,
  HAS_DESTROYED = 1 << 1,
  HAS_LIST = 1 << 2,
  HAS_RESET = 1 << 3,
  HAS_ALL = HAS_CREATED | HAS_DESTROYED | HAS_LIST | HAS_RESET
};

enum {
  ASK = 1 << 0,
  ASK_REGISTER = 1 << 1,
  THREADS = 1 << 2,
  SLOW = 1 << 3,
  MARK_BATCH = 1 << 4,
  MARK_LIST = 1 << 5,
  FAIL_RESETS = 1 << 6,
  NEVER_REGISTER = 1 << 7
};

struct run {
  const char* name;
  unsigned hooks; /* HAS_* */
  unsigned does;
  int32_t create, vm_created, list; /* results */
};
/* By option run=; NULL if there is none. */
const struct run* find_run(const char* name);
/* " watch ask ...", all names; `size` bytes of text at most. */
void list_runs(char* text, size_t size);

/* ---- state --------------------------------------------------------------------------------- */

enum { MOST_INSTANCES = 16, MOST_VMS = 256, LONG_BATCH = 300, OPTIONS_SIZE = 4096 };

struct vcpu {
  uint32_t resets;
};

struct vm {
  int used;
  vmm_vm_handle handle;
  uint32_t vcpus; /* entries of vcpu */
  struct vcpu* vcpu;
};

enum worker_state { IDLE, CLAIMED, GIVEN, DONE, ENDED };
struct instance;
struct worker {
  int started, state;
  pthread_t thread;
  int32_t (*job)(struct instance* me, void* handle);
  void* handle;
  int32_t result;
};

enum life { UNUSED, LIVE, OVER };
/* As a plugin of a later minor has it: one member more, which this host must not mind. */
struct later_hooks {
  struct vmm_hooks hooks;
  void (*appended)(void);
};

/* Never freed, so that a call that comes when its time is over finds it. */
struct instance {
  int life;
  const struct vmm_host* host; /* the host's own table */
  struct vmm_host table;       /* as it was in create, cut or filled with 0 to our size */
  size_t table_size;           /* bytes of it that are the host's */
  const char* options;         /* the host's own string; may be NULL */
  char options_copy[OPTIONS_SIZE];
  char name_copy[256];
  const struct run* run;
  uint32_t msr, msr2;
  int hides;                /* atomic: hide_cpuid hid a bit in vm_created */
  struct later_hooks hooks; /* what was registered */
  int64_t calls;
  struct vm vms[MOST_VMS];
  struct vmm_msr many[LONG_BATCH];
  struct worker worker;
  struct record record;
};
/* A new one; NULL: there are too many. */
struct instance* take_instance(void);
int is_live(const struct instance* me);
/* Ends its record, and frees what it has. */
void end_instance(struct instance* me);

/* A place for one more VM; NULL: there are too many. */
struct vm* take_vm(struct instance* me);
void leave_vm(struct vm* vm);
/* Our VM behind a vm_ctx; NULL if there is none. */
struct vm* vm_of(struct instance* me, void* vm_ctx);
/* As a record has it: from 1 on, 0 = NULL, -1 = none of ours. */
int64_t vm_number(struct instance* me, void* vm_ctx);
/* NULL: the VM has no such vCPU, or is NULL itself. */
struct vcpu* vcpu_of(const struct vm* vm, uint32_t index);

/* Records that a hook is called, in a line to be gone on with. The call's number; -1: the instance
 * is over, which was recorded. */
int64_t enter(struct line* line, struct instance* me, const char* hook, int64_t vm);
/* Records that it comes back, and how. Returns the result. */
int32_t leave(struct instance* me, const char* hook, int64_t call, int32_t result);
/* Whether options and table are as they were in create, as fields of a line. */
void record_kept(struct line* line, const struct instance* me);

/* Some milliseconds, without a system call: long enough to be overlapped. */
void take_time(void);

#endif
