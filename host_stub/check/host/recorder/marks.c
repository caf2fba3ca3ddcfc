/* SPDX-License-Identifier: MIT */
#include "marks.h"

#include <errno.h>
#include <string.h>

#include "questions.h"

/* Values tell the reset that they come from, and of what kind they are. */
enum mark { DIRECT = 0x11, FIRST = 0x22, LAST = 0x33, DROPPED = 0x44, CONSTANT = 0x55 };
static uint64_t mark(uint32_t reset, enum mark kind) {
  return 0x40000000u | (reset & 0xffffu) << 8 | kind;
}
/* The bits of a mark that a list says exist. */
static const uint64_t list_mask = 0xffffff00;

void record_read(struct instance* me, int64_t call, const struct vmm_vcpu* vcpu, uint32_t reset) {
  uint64_t value = 0, value2 = 0;
  struct line line;
  const int32_t got = get_msr(me, vcpu->handle, me->msr, &value);
  const int32_t got2 = get_msr(me, vcpu->handle, me->msr2, &value2);
  line_begin(&line, &me->record, "read");
  line_number(&line, "call", call);
  line_number(&line, "index", vcpu->index);
  line_number(&line, "reset", reset);
  line_number(&line, "result", got == 1 ? got2 : got);
  line_number(&line, "value", (int64_t)value);
  line_number(&line, "value2", (int64_t)value2);
  line_end(&line);
}

/* `how`: direct, order, refused, long or dropped. The value is the one that has to be found. */
static void record_mark(struct instance* me, int64_t call, const struct vmm_vcpu* vcpu,
                        uint32_t reset, const char* how, int32_t result, uint64_t value) {
  struct line line;
  line_begin(&line, &me->record, "mark");
  line_number(&line, "call", call);
  line_number(&line, "index", vcpu->index);
  line_number(&line, "reset", reset);
  line_string(&line, "how", how);
  line_number(&line, "result", result);
  line_number(&line, "value", (int64_t)value);
  line_end(&line);
}

void mark_direct(struct instance* me, int64_t call, const struct vmm_vcpu* vcpu, uint32_t reset) {
  const uint64_t value = mark(reset, DIRECT);
  const int32_t result = set_msr(me, vcpu->handle, me->msr, value);
  const int32_t result2 = set_msr(me, vcpu->handle, me->msr2, value);
  record_mark(me, call, vcpu, reset, "direct", result == 1 ? result2 : result, value);
}

int32_t mark_batch(struct instance* me, int64_t call, const struct vmm_vcpu* vcpu, uint32_t reset) {
  struct vmm_msr msrs[3] = {{me->msr, 0, mark(reset, FIRST)}, {0, 0, 0}, {0, 0, 0}};
  const int fails = (me->run->does & FAIL_RESETS) != 0;
  const uint32_t turn = vcpu->batch ? reset % (fails ? 2 : 4) : 0;
  if (turn == 0) {
    mark_direct(me, call, vcpu, reset);
  } else if (fails) {
    msrs[0].value = mark(reset, DROPPED);
    record_mark(me, call, vcpu, reset, "dropped", sink_add(vcpu->batch, msrs, 1), msrs[0].value);
    return -EPERM;
  } else if (turn == 3) {
    record_mark(me, call, vcpu, reset, "long", sink_add(vcpu->batch, me->many, LONG_BATCH),
                me->many[LONG_BATCH - 1].value);
  } else {
    const uint32_t count = turn == 1 ? 2 : 3;
    msrs[1].index = NO_MSR;
    msrs[count - 1].index = me->msr;
    msrs[count - 1].value = mark(reset, LAST);
    const int32_t result = sink_add(vcpu->batch, msrs, count);
    memset(msrs, 0xff, sizeof msrs); /* add copies */
    record_mark(me, call, vcpu, reset, turn == 1 ? "order" : "refused", result, mark(reset, LAST));
  }
  return 0;
}

void fill_list(struct instance* me, int64_t call, const struct vmm_msr_sink* sink) {
  struct vmm_msr msrs[3] = {
      {me->msr2, 0, FIRST}, {me->msr2, 0, CONSTANT}, {me->msr, VMM_MSR_SAVED, list_mask}};
  if (me->run->list) msrs[0].value = msrs[1].value = DROPPED;
  answer(me, call, "add_list", sink_add(sink, msrs, 3));
  memset(msrs, 0xff, sizeof msrs); /* add copies */
}
