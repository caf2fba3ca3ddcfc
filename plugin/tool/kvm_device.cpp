// SPDX-License-Identifier: MIT
#include "tool/kvm_device.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <vmm/kvm_uapi.h>

#include <cerrno>
#include <cstring>

#include "tool/file.hpp"

namespace svm_pmu::tool {
namespace {

constexpr int32_t kApiVersion = 12;  // api.rst, KVM_GET_API_VERSION: "should refuse to run"

int32_t ioctl_result(int fd, uint32_t request, void* arg) {
  int result = 0;
  do {
    result = ::ioctl(fd, static_cast<unsigned long>(request), arg);
  } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

class DeviceVcpu final : public Vcpu {
 public:
  explicit DeviceVcpu(UniqueFd fd) : fd_(std::move(fd)) {}
  int32_t ioctl(uint32_t request, void* arg) override {
    return ioctl_result(fd_.get(), request, arg);
  }

 private:
  UniqueFd fd_;
};

class DeviceVm final : public Vm {
 public:
  explicit DeviceVm(UniqueFd fd) : fd_(std::move(fd)) {}
  int32_t ioctl(uint32_t request, void* arg) override {
    return ioctl_result(fd_.get(), request, arg);
  }
  tl::expected<std::unique_ptr<Vcpu>, int32_t> create_vcpu(uint32_t id) override {
    const int32_t fd =
        ioctl_result(fd_.get(), KVM_CREATE_VCPU, reinterpret_cast<void*>(uintptr_t{id}));
    if (fd < 0) return tl::unexpected(fd);
    return std::make_unique<DeviceVcpu>(UniqueFd(fd));
  }

 private:
  UniqueFd fd_;
};

class Device final : public Kvm {
 public:
  Device(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  int32_t ioctl(uint32_t request, void* arg) override {
    return ioctl_result(fd_.get(), request, arg);
  }
  tl::expected<std::unique_ptr<Vm>, int32_t> create_vm() override {
    const int32_t fd = ioctl_result(fd_.get(), KVM_CREATE_VM, nullptr);
    if (fd < 0) return tl::unexpected(fd);
    return std::make_unique<DeviceVm>(UniqueFd(fd));
  }
  HostInfo host_info() const override {
    HostInfo info{.kernel = "?", .enable_pmu = "?"};
    utsname name{};
    if (::uname(&name) == 0) info.kernel = name.release;
    info.enable_pmu = first_word("/sys/module/kvm/parameters/enable_pmu", "?");
    return info;
  }
  std::string name() const override { return path_; }
  bool of_this_machine() const override { return true; }

 private:
  UniqueFd fd_;
  std::string path_;
};

struct OpenHint {
  int number;
  const char* hint;
};
constexpr OpenHint kOpenHints[] = {
    {ENOENT, "load kvm_amd; in a container, pass the device in"},
    {EACCES, "the user must be in the group that owns it, often kvm"},
    {EPERM, "the device rules of a container or a sandbox forbid it"},
    {ENODEV, "load kvm_amd; enable SVM in the firmware"},
    {ENXIO, "load kvm_amd; enable SVM in the firmware"},
    {ENOTTY, "it is not KVM's device"},
    {EINVAL, "it is not KVM's device"},
};

std::string open_error(const std::string& path, const char* step, int number) {
  std::string text = fmt::format("{}: {}{}", path, step, std::strerror(number));
  for (const OpenHint& row : kOpenHints)
    if (row.number == number) text += fmt::format(" ({})", row.hint);
  return text;
}

}  // namespace

tl::expected<std::unique_ptr<Kvm>, std::string> open_kvm_device(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (fd.get() < 0) return tl::unexpected(open_error(path, "", errno));
  const int32_t version = ioctl_result(fd.get(), KVM_GET_API_VERSION, nullptr);
  if (version < 0) return tl::unexpected(open_error(path, "KVM_GET_API_VERSION: ", -version));
  if (version != kApiVersion)
    return tl::unexpected(
        fmt::format("{}: KVM API version {}, this needs {}", path, version, kApiVersion));
  return std::make_unique<Device>(std::move(fd), path);
}

}  // namespace svm_pmu::tool
