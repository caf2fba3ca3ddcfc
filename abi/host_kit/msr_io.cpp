// SPDX-License-Identifier: MIT
#include "host_kit/msr_io.hpp"

#include <vmm/kvm_uapi.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace host_kit {
namespace {

/// Enough for any signal storm, few enough to end.
constexpr int kMaxInterrupts = 1000;

/// One call's worth of MSRs as KVM takes it.
struct Request {
  vmm_kvm_msrs_header header;
  std::array<kvm_msr_entry, VMM_KVM_MAX_MSRS> entries;
};
static_assert(offsetof(Request, entries) == sizeof(vmm_kvm_msrs_header));

struct Operation {
  uint32_t request;
  const char* name;
};
constexpr Operation kSet{VMM_KVM_SET_MSRS, "KVM_SET_MSRS"};
constexpr Operation kGet{VMM_KVM_GET_MSRS, "KVM_GET_MSRS"};

std::string failure(const Operation& operation, std::size_t count, uint32_t first, int32_t code) {
  std::array<char, 160> text{};
  std::snprintf(text.data(), text.size(), "%s of %zu MSRs from %08x on: %s", operation.name, count,
                first, std::strerror(-code));
  return text.data();
}

/// Hands all entries to KVM, chunk by chunk, again after each refused one. done(entry) is called
/// for each that KVM took, refused(entry) for the others.
template <typename Done, typename Refused>
tl::expected<void, MsrIoError> for_all(Host& host, vmm_vcpu_handle vcpu, const Operation& operation,
                                       std::span<const vmm_msr> entries, Done done,
                                       Refused refused) {
  Request request;
  for (std::size_t at = 0, interrupts = 0; at < entries.size();) {
    const std::size_t count = std::min<std::size_t>(entries.size() - at, VMM_KVM_MAX_MSRS);
    request.header = {static_cast<uint32_t>(count), 0};
    for (std::size_t i = 0; i < count; ++i)
      request.entries[i] = {entries[at + i].index, 0, entries[at + i].value};
    const int32_t result = host.vcpu_ioctl(vcpu, operation.request, &request);
    if (result == -EINTR && ++interrupts <= kMaxInterrupts) continue;
    const bool impossible = result > static_cast<int32_t>(count) || result < -kMaxErrno;
    const int32_t code = impossible ? -EPROTO : result;
    if (code < 0)
      return tl::unexpected(MsrIoError{code, failure(operation, count, entries[at].index, code)});
    const auto taken = static_cast<std::size_t>(result);
    for (std::size_t i = 0; i < taken; ++i)
      done(vmm_msr{request.entries[i].index, 0, request.entries[i].data});
    if (taken < count) refused(entries[at + taken]);
    at += taken + (taken < count ? 1 : 0);
  }
  return {};
}

}  // namespace

tl::expected<std::vector<vmm_msr>, MsrIoError> write_msrs(Host& host, vmm_vcpu_handle vcpu,
                                                          std::span<const vmm_msr> entries) {
  std::vector<vmm_msr> refused;
  const auto result = for_all(
      host, vcpu, kSet, entries, [](const vmm_msr&) {},
      [&](const vmm_msr& entry) { refused.push_back(entry); });
  if (!result) return tl::unexpected(result.error());
  return refused;
}

tl::expected<std::vector<vmm_msr>, MsrIoError> read_msrs(Host& host, vmm_vcpu_handle vcpu,
                                                         std::span<const uint32_t> indexes) {
  std::vector<vmm_msr> wanted, read;
  for (const uint32_t index : indexes) wanted.push_back({index, 0, 0});
  const auto result = for_all(
      host, vcpu, kGet, wanted, [&](const vmm_msr& entry) { read.push_back(entry); },
      [](const vmm_msr&) {});
  if (!result) return tl::unexpected(result.error());
  return read;
}

MsrBatch::MsrBatch(std::size_t capacity)
    : capacity_(capacity), sink_{sizeof(vmm_msr_sink), 0, this, &MsrBatch::sink_add} {
  entries_.reserve(capacity);
}

bool MsrBatch::add(const vmm_msr& entry) noexcept {
  if (entries_.size() == capacity_) return false;
  entries_.push_back(entry);  // within the reserved capacity: no allocation
  return true;
}

void MsrBatch::truncate(std::size_t count) noexcept {
  if (count < entries_.size()) entries_.resize(count);
}

int32_t MsrBatch::sink_add(void* self, const vmm_msr* msrs, uint32_t count) noexcept {
  auto& me = *static_cast<MsrBatch*>(self);
  if (msrs == nullptr || count == 0) return -EINVAL;
  if (count > me.capacity_ - me.entries_.size()) return -ENOSPC;
  for (uint32_t i = 0; i < count; ++i)
    if (msrs[i].flags != 0) return -EINVAL;
  me.entries_.insert(me.entries_.end(), msrs, msrs + count);
  return 0;
}

tl::expected<std::vector<vmm_msr>, MsrIoError> MsrBatch::flush(Host& host, vmm_vcpu_handle vcpu) {
  auto refused = write_msrs(host, vcpu, entries_);
  entries_.clear();
  return refused;
}

}  // namespace host_kit
