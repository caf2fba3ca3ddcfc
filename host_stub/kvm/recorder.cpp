// SPDX-License-Identifier: MIT
#include "kvm/recorder.hpp"

#include <fmt/format.h>

#include <utility>

#include "kvm/errno_names.hpp"
#include "kvm/ioctl_detail.hpp"
#include "kvm/ioctl_names.hpp"

namespace host_stub {

std::unique_ptr<Kvm> with_recorder(std::unique_ptr<Kvm> kvm, IoctlObserver observer) {
  return intercept_ioctls(std::move(kvm), [observer = std::move(observer)](
                                              const IoctlCall& call, const IoctlInner& inner) {
    const int32_t result = inner(call.arg);
    observer(IoctlEvent{.level = call.level,
                        .vm = call.vm,
                        .vcpu = call.vcpu,
                        .request = call.request,
                        .name = ioctl_name(call.request),
                        .result = result,
                        .detail = ioctl_detail(call.request, call.arg)});
    return result;
  });
}

std::string to_line(const IoctlEvent& event) {
  std::string line = event.vm < 0 ? "kvm" : fmt::format("vm{}", event.vm);
  if (event.vcpu >= 0) line += fmt::format(" vcpu{}", event.vcpu);
  line += " " + event.name;
  if (!event.detail.empty()) line += " " + event.detail;
  line += " -> ";
  line += event.result < 0 ? "-" + errno_name(-event.result) : std::to_string(event.result);
  return line;
}

}  // namespace host_stub
