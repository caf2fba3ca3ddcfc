// SPDX-License-Identifier: MIT
#include "kvm/errno_names.hpp"

#include <fmt/format.h>

#include <cerrno>

namespace host_stub {
namespace {

struct ErrnoName {
  int32_t number;
  std::string_view name;
};

constexpr ErrnoName kErrnoNames[] = {
    {EPERM, "EPERM"},           {ENOENT, "ENOENT"}, {EINTR, "EINTR"},   {EIO, "EIO"},
    {ENXIO, "ENXIO"},           {E2BIG, "E2BIG"},   {EBADF, "EBADF"},   {EAGAIN, "EAGAIN"},
    {ENOMEM, "ENOMEM"},         {EACCES, "EACCES"}, {EFAULT, "EFAULT"}, {EBUSY, "EBUSY"},
    {EEXIST, "EEXIST"},         {ENODEV, "ENODEV"}, {EINVAL, "EINVAL"}, {ENFILE, "ENFILE"},
    {EMFILE, "EMFILE"},         {ENOTTY, "ENOTTY"}, {ENOSPC, "ENOSPC"}, {ENOSYS, "ENOSYS"},
    {EOPNOTSUPP, "EOPNOTSUPP"}, {EPROTO, "EPROTO"}, {ERANGE, "ERANGE"}, {EALREADY, "EALREADY"},
};

}  // namespace

std::string errno_name(int32_t number) {
  for (const ErrnoName& entry : kErrnoNames) {
    if (entry.number == number) return std::string(entry.name);
  }
  return fmt::format("errno {}", number);
}

std::optional<int32_t> errno_number(std::string_view name) {
  for (const ErrnoName& entry : kErrnoNames) {
    if (entry.name == name) return entry.number;
  }
  return std::nullopt;
}

std::string errno_names() {
  std::string names;
  for (const ErrnoName& entry : kErrnoNames) {
    if (!names.empty()) names += ", ";
    names += entry.name;
  }
  return names;
}

}  // namespace host_stub
