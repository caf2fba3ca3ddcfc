/* SPDX-License-Identifier: MIT
 *
 * What is asked of the host's callbacks and sinks, and recorded as `answer` lines. Nothing but
 * memory and the host's callbacks is touched, so that all of it may be done in vcpu_reset; only the
 * worker is a thread, of create. */
#ifndef HOST_CONFORMANCE_QUESTIONS_H
#define HOST_CONFORMANCE_QUESTIONS_H

#include "instance.h"

/* An MSR that no KVM has. */
enum { NO_MSR = 0x12345678 };

/* Records an answer; `call` 0: in create. */
void answer(struct instance* me, int64_t call, const char* what, int64_t result);

/* One MSR by ioctl, repeated where interrupted; the result of the ioctl. Where KVM does not write
 * it, *value stays as it is. */
int32_t get_msr(struct instance* me, vmm_vcpu_handle vcpu, uint32_t index, uint64_t* value);
int32_t set_msr(struct instance* me, vmm_vcpu_handle vcpu, uint32_t index, uint64_t value);
int32_t sink_add(const struct vmm_msr_sink* sink, const struct vmm_msr* msrs, uint32_t count);

/* Run ask. */
void ask_in_create(struct instance* me);
void ask_in_vm_created(struct instance* me, int64_t call, vmm_vm_handle vm);
void ask_in_list(struct instance* me, int64_t call, vmm_vm_handle vm,
                 const struct vmm_msr_sink* sink);
/* `vm` may be NULL. */
void ask_in_reset(struct instance* me, int64_t call, const struct vm* vm,
                  const struct vmm_vcpu* vcpu);

/* Run threads: the same question on the hook's thread and on the worker. Where another hook has the
 * worker, nothing. */
void start_worker(struct instance* me);
void end_worker(struct instance* me);
void ask_vm_both(struct instance* me, int64_t call, vmm_vm_handle vm);
void ask_vcpu_both(struct instance* me, int64_t call, vmm_vcpu_handle vcpu);

#endif
