// SPDX-License-Identifier: MIT
#include "host_kit/msr_state.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <optional>

namespace host_kit {
namespace {

std::optional<uint64_t> value_of(std::span<const SavedMsr> state, uint32_t index) {
  const auto found = std::find_if(state.begin(), state.end(),
                                  [&](const SavedMsr& saved) { return saved.index == index; });
  if (found == state.end()) return std::nullopt;
  return found->value;
}

const vmm_msr* saved_entry(std::span<const vmm_msr> list, uint32_t index) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const vmm_msr& entry) {
    return entry.index == index && (entry.flags & VMM_MSR_SAVED) != 0;
  });
  return found == list.end() ? nullptr : &*found;
}

std::string cannot_restore(uint32_t index, uint64_t value, const char* why) {
  std::array<char, 160> text{};
  std::snprintf(text.data(), text.size(), "MSR %08x cannot be restored to %llx: %s", index,
                static_cast<unsigned long long>(value), why);
  return text.data();
}

/// Which bits of a register exist is left to KVM by a mask of all ones. KVM drops others without a
/// word: the registers are read back. Bits that are gone are dropped, or an error where required.
tl::expected<void, MsrIoError> look_for_lost_bits(Host& host, vmm_vcpu_handle vcpu,
                                                  std::span<const vmm_msr> list,
                                                  std::span<const vmm_msr> writes,
                                                  RestoreReport& report) {
  std::vector<vmm_msr> wanted;
  std::vector<uint32_t> indexes;
  for (auto each = writes.begin(); each != writes.end(); ++each) {
    const vmm_msr& entry = *each;
    if (entry.value == 0 || (entry.flags & VMM_MSR_SAVED) == 0) continue;
    // the list may write it once more, with a constant
    const bool is_last = std::none_of(
        each + 1, writes.end(), [&](const vmm_msr& later) { return later.index == entry.index; });
    if (!is_last) continue;
    if (saved_entry(list, entry.index)->value != ~uint64_t{0}) continue;
    wanted.push_back(entry);
    indexes.push_back(entry.index);
  }
  if (wanted.empty()) return {};
  const auto kept = read_msrs(host, vcpu, indexes);
  if (!kept) return tl::unexpected(kept.error());
  for (const vmm_msr& now : *kept) {
    const auto entry = std::find_if(wanted.begin(), wanted.end(),
                                    [&](const vmm_msr& each) { return each.index == now.index; });
    const uint64_t lost = entry->value & ~now.value;
    if (lost == 0) continue;
    if ((saved_entry(list, now.index)->flags & VMM_MSR_REQUIRED) != 0)
      return tl::unexpected(
          MsrIoError{-EIO, cannot_restore(now.index, entry->value, "KVM drops bits of it")});
    report.dropped.push_back({now.index, lost});
  }
  return {};
}

}  // namespace

tl::expected<std::vector<SavedMsr>, MsrIoError> save_msrs(Host& host, vmm_vcpu_handle vcpu,
                                                          std::span<const vmm_msr> list) {
  std::vector<uint32_t> indexes;
  for (const vmm_msr& entry : list)
    if ((entry.flags & VMM_MSR_SAVED) != 0) indexes.push_back(entry.index);
  const auto read = read_msrs(host, vcpu, indexes);
  if (!read) return tl::unexpected(read.error());
  std::vector<SavedMsr> state;
  for (const vmm_msr& entry : *read) state.push_back({entry.index, entry.value});
  return state;
}

tl::expected<RestoreReport, MsrIoError> restore_msrs(Host& host, vmm_vcpu_handle vcpu,
                                                     std::span<const vmm_msr> list,
                                                     std::span<const SavedMsr> state) {
  RestoreReport report;
  std::vector<vmm_msr> writes;
  for (const vmm_msr& entry : list) {
    if ((entry.flags & VMM_MSR_SAVED) == 0) {
      writes.push_back({entry.index, 0, entry.value});
      continue;
    }
    const std::optional<uint64_t> saved = value_of(state, entry.index);
    if (!saved) continue;
    if (const uint64_t lost = *saved & ~entry.value; lost != 0) {
      if ((entry.flags & VMM_MSR_REQUIRED) != 0)
        return tl::unexpected(MsrIoError{
            -EINVAL, cannot_restore(entry.index, *saved, "it has bits that do not exist here")});
      report.dropped.push_back({entry.index, lost});
    }
    writes.push_back({entry.index, VMM_MSR_SAVED, *saved & entry.value});
  }
  for (const SavedMsr& saved : state)
    if (saved.value != 0 && saved_entry(list, saved.index) == nullptr)
      report.dropped.push_back(saved);

  const auto refused = write_msrs(host, vcpu, writes);
  if (!refused) return tl::unexpected(refused.error());
  for (const vmm_msr& entry : *refused) {
    if ((entry.flags & VMM_MSR_SAVED) == 0 || entry.value == 0) continue;
    if ((saved_entry(list, entry.index)->flags & VMM_MSR_REQUIRED) != 0)
      return tl::unexpected(
          MsrIoError{-EIO, cannot_restore(entry.index, entry.value, "KVM refuses it")});
    report.dropped.push_back({entry.index, entry.value});
    std::erase_if(writes, [&](const vmm_msr& each) { return each.index == entry.index; });
  }
  if (const auto looked = look_for_lost_bits(host, vcpu, list, writes, report); !looked)
    return tl::unexpected(looked.error());
  return report;
}

}  // namespace host_kit
