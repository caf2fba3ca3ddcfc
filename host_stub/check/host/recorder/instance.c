/* SPDX-License-Identifier: MIT */
#include "instance.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct run runs[] = {
    {"watch", HAS_ALL, 0, 0, 0, 0},
    {"ask", HAS_ALL, ASK, 0, 0, 0},
    {"register", HAS_ALL, ASK_REGISTER, 0, 0, 0},
    {"threads", HAS_ALL, THREADS, 0, 0, 0},
    {"slow", HAS_ALL, SLOW, 0, 0, 0},
    {"batch", HAS_ALL & ~HAS_LIST, MARK_BATCH, 0, 0, 0},
    {"list", HAS_ALL, MARK_LIST, 0, 0, 0},
    {"only-reset", HAS_RESET, 0, 0, 0, 0},
    {"no-vm-created", HAS_ALL & ~HAS_CREATED, 0, 0, 0, 0},
    {"fail-create", HAS_ALL, 0, -EPERM, 0, 0},
    {"positive-create", HAS_ALL, 0, 1, 0, 0},
    {"never-register", HAS_ALL, NEVER_REGISTER, 0, 0, 0},
    {"fail-vm-created", HAS_ALL, 0, 0, -EPERM, 0},
    {"positive-vm-created", HAS_ALL, 0, 0, 1, 0},
    {"fail-list", HAS_ALL, MARK_LIST, 0, 0, -EPERM},
    {"fail-reset", HAS_ALL & ~HAS_LIST, MARK_BATCH | FAIL_RESETS, 0, 0, 0},
};
enum { RUNS = sizeof runs / sizeof runs[0] };

const struct run* find_run(const char* name) {
  for (size_t i = 0; i < RUNS; i++)
    if (strcmp(runs[i].name, name) == 0) return &runs[i];
  return NULL;
}

void list_runs(char* text, size_t size) {
  size_t at = 0;
  text[0] = 0;
  for (size_t i = 0; i < RUNS && at < size; i++)
    at += (size_t)snprintf(text + at, size - at, " %s", runs[i].name);
}

static struct instance pool[MOST_INSTANCES];

struct instance* take_instance(void) {
  for (int wanted = UNUSED; wanted <= OVER; wanted += OVER)
    for (size_t i = 0; i < MOST_INSTANCES; i++) {
      int expected = wanted;
      if (__atomic_compare_exchange_n(&pool[i].life, &expected, LIVE, 0, __ATOMIC_ACQ_REL,
                                      __ATOMIC_RELAXED)) {
        memset((char*)&pool[i] + sizeof pool[i].life, 0, sizeof pool[i] - sizeof pool[i].life);
        return &pool[i];
      }
    }
  return NULL;
}

int is_live(const struct instance* me) {
  return __atomic_load_n(&me->life, __ATOMIC_ACQUIRE) == LIVE;
}

void end_instance(struct instance* me) {
  for (size_t i = 0; i < MOST_VMS; i++) free(me->vms[i].vcpu);
  memset(me->vms, 0, sizeof me->vms);
  record_close(&me->record);
  __atomic_store_n(&me->life, OVER, __ATOMIC_RELEASE);
}

struct vm* take_vm(struct instance* me) {
  for (size_t i = 0; i < MOST_VMS; i++) {
    int expected = 0;
    if (__atomic_compare_exchange_n(&me->vms[i].used, &expected, 1, 0, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED))
      return &me->vms[i];
  }
  return NULL;
}

void leave_vm(struct vm* vm) { __atomic_store_n(&vm->used, 0, __ATOMIC_RELEASE); }

struct vm* vm_of(struct instance* me, void* vm_ctx) {
  const uintptr_t at = (uintptr_t)vm_ctx, begin = (uintptr_t)me->vms;
  if (at < begin || at >= begin + sizeof me->vms || (at - begin) % sizeof(struct vm) != 0)
    return NULL;
  return vm_ctx;
}

int64_t vm_number(struct instance* me, void* vm_ctx) {
  const struct vm* vm = vm_of(me, vm_ctx);
  return vm ? vm - me->vms + 1 : vm_ctx ? -1 : 0;
}

struct vcpu* vcpu_of(const struct vm* vm, uint32_t index) {
  return vm && index < vm->vcpus ? &vm->vcpu[index] : NULL;
}

void take_time(void) {
  for (volatile uint32_t i = 0; i < 2000000u; i++) continue;
}

static int same_text(const char* now, const char* before, size_t size) {
  return !now ? before[0] == 0 : strncmp(now, before, size - 1) == 0;
}

static int table_is_the_same(const struct instance* me) {
  return memcmp(me->host, &me->table, me->table_size) == 0 &&
         same_text(me->table.name, me->name_copy, sizeof me->name_copy);
}

void record_kept(struct line* line, const struct instance* me) {
  line_bool(line, "options_same", same_text(me->options, me->options_copy, OPTIONS_SIZE));
  line_bool(line, "table_same", table_is_the_same(me));
}

int64_t enter(struct line* line, struct instance* me, const char* hook, int64_t vm) {
  if (!is_live(me)) {
    line_begin(line, &me->record, "late");
    line_string(line, "hook", hook);
    line_end_late(line);
    return -1;
  }
  const int64_t call = __atomic_add_fetch(&me->calls, 1, __ATOMIC_RELAXED);
  line_begin(line, &me->record, "enter");
  line_string(line, "hook", hook);
  line_number(line, "call", call);
  line_number(line, "vm", vm);
  line_address(line, "thread", (const void*)(uintptr_t)pthread_self());
  record_kept(line, me);
  return call;
}

int32_t leave(struct instance* me, const char* hook, int64_t call, int32_t result) {
  struct line line;
  if (me->run->does & SLOW) take_time();
  line_begin(&line, &me->record, "leave");
  line_string(&line, "hook", hook);
  line_number(&line, "call", call);
  line_number(&line, "result", result);
  line_end(&line);
  return result;
}
