/* SPDX-License-Identifier: MIT
 *
 * Values that are left in two registers, to be found or missed at the vCPU's next reset: they tell
 * whether a batch, a restore or neither wrote last, and in which order. */
#ifndef HOST_CONFORMANCE_MARKS_H
#define HOST_CONFORMANCE_MARKS_H

#include "instance.h"

/* Records what reset number `reset` of the vCPU finds. */
void record_read(struct instance* me, int64_t call, const struct vmm_vcpu* vcpu, uint32_t reset);

/* Marks both registers by ioctl. */
void mark_direct(struct instance* me, int64_t call, const struct vmm_vcpu* vcpu, uint32_t reset);

/* Resets take turns: by ioctl, which shows that a mark stays; two values in order; a register that
 * KVM refuses between them; more entries than one ioctl takes. In the run fail-reset every other
 * one adds a mark and fails. The result is the hook's. */
int32_t mark_batch(struct instance* me, int64_t call, const struct vmm_vcpu* vcpu, uint32_t reset);

/* Adds to a list: a constant twice, and a register to save with some of its bits. */
void fill_list(struct instance* me, int64_t call, const struct vmm_msr_sink* sink);

#endif
