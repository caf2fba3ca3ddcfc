// SPDX-License-Identifier: MIT
#include "error.hpp"

#include <cerrno>
#include <string_view>

namespace svm_pmu {
namespace {

struct ErrnoName {
  int32_t code;
  std::string_view name;
};

/// What KVM and the hosts behind the callbacks return.
constexpr ErrnoName kErrnoNames[] = {
    {-E2BIG, "E2BIG"},           {-EACCES, "EACCES"}, {-EAGAIN, "EAGAIN"},
    {-EALREADY, "EALREADY"},     {-EBADF, "EBADF"},   {-EBUSY, "EBUSY"},
    {-EEXIST, "EEXIST"},         {-EFAULT, "EFAULT"}, {-EINTR, "EINTR"},
    {-EINVAL, "EINVAL"},         {-EIO, "EIO"},       {-ENODEV, "ENODEV"},
    {-ENOENT, "ENOENT"},         {-ENOMEM, "ENOMEM"}, {-ENOSPC, "ENOSPC"},
    {-ENOSYS, "ENOSYS"},         {-ENOTTY, "ENOTTY"}, {-ENXIO, "ENXIO"},
    {-EOPNOTSUPP, "EOPNOTSUPP"}, {-EPERM, "EPERM"},   {-EPROTO, "EPROTO"},
    {-ERANGE, "ERANGE"},
};

}  // namespace

Text& operator<<(Text& text, Errno error) noexcept {
  for (const ErrnoName& row : kErrnoNames)
    if (row.code == error.code) return text << row.name;
  const int64_t code = error.code;  // wide: a host may return the lowest number, too
  return text << "errno " << static_cast<uint64_t>(code < 0 ? -code : code);
}

}  // namespace svm_pmu
