// SPDX-License-Identifier: MIT
#include "host_preload/loading.hpp"

#include <dlfcn.h>

#include <cerrno>
#include <new>
#include <utility>

#include "host_preload/inside.hpp"
#include "host_preload/real_calls.hpp"

namespace host_preload {

Loading::Loading(std::string library_folder, host_kit::Host& host, PreloadLog& log)
    : library_folder_(std::move(library_folder)), log_(log), host_(host), plugins_(host) {}

void Loading::ensure_loaded() noexcept {
  Mode mode = mode_.load(std::memory_order_acquire);
  if (mode == Mode::waiting &&
      mode_.compare_exchange_strong(mode, Mode::loading, std::memory_order_acq_rel)) {
    const Inside guard;
    const KeepErrno keep;
    mode_.store(load(), std::memory_order_release);
    mode_.notify_all();
    return;
  }
  mode_.wait(Mode::loading, std::memory_order_acquire);
}

Loading::Mode Loading::load() noexcept try {
  process_.store(getpid());
  log_.set_process();
  Subject self = this_process();
  guest_pmu_ = read_command_line(own_command_line()).guest_pmu;
  config_ = read_config(read_environment(), self);
  vm_name_ = std::move(self.vm_name);
  log_result_ = log_.open(config_.log.c_str());
  if (dlsym(RTLD_DEFAULT, VMM_PLUGIN_HOST_MARKER_NAME) != nullptr) {
    log_.event(VMM_LOG_INFO, "inert reason=\"the VMM calls the hooks itself\"");
    return Mode::inert;
  }
  for (const std::string& problem : config_.problems) plugins_.add_problem({-EINVAL, problem});
  if (!config_.problems.empty() && !config_.continue_on_error) return Mode::active;
  plugins_.load(config_.plugins, plugin_folders(library_folder_));
  for (const auto& instance : plugins_.instances())
    log_.event(VMM_LOG_INFO, "plugin_loaded plugin=%s", instance->name());
  make_status_page();
  return Mode::active;
} catch (const std::bad_alloc&) {
  plugins_.add_problem({-ENOMEM, "out of memory"});
  return Mode::active;
} catch (const std::exception& exception) {
  log_.event(VMM_LOG_ERROR, "load_failed reason=\"%s\"", exception.what());
  plugins_.add_problem({-EIO, exception.what()});
  return Mode::active;
}

bool Loading::renew_after_fork() {
  const pid_t self = getpid();
  if (process_.load() == self) return false;
  log_.set_process();
  plugins_.renew();
  process_.store(self);
  make_status_page();
  return true;
}

void Loading::make_status_page() noexcept {
  const int code = status_.create(process_.load(), host_.name(), plugins_.instances());
  if (code < 0)
    log_.event(VMM_LOG_WARNING,
               "status_failed errno=%d reason=\"svm-pmu status cannot see this process's VMs\"",
               -code);
}

int32_t Loading::admit_vm(int vm_fd) noexcept {
  if (const int code = std::exchange(log_result_, 0); code < 0)
    log_.event(VMM_LOG_WARNING,
               "log_failed errno=%d reason=\"%s cannot be written; errors and "
               "warnings go to standard error\"",
               -code, config_.log.c_str());
  if (const int32_t result = refuse_by_problems(vm_fd); result < 0) return result;
  if (plugins_.instances().empty() && plugins_.problems().empty())
    // a file may leave a VM out; a variable that names nothing is a mistake
    log_.event(config_.file.empty() ? VMM_LOG_WARNING : VMM_LOG_INFO,
               "no_plugin vm=%d reason=\"%s names no plugin for this VM\"", vm_fd,
               config_.file.empty() ? kPluginsVariable : config_.file.c_str());
  return 0;
}

/// What could not be loaded: the VM is refused, or runs without it if the operator said so.
int32_t Loading::refuse_by_problems(int vm_fd) noexcept {
  const char* event = config_.continue_on_error ? "plugin_left_out" : "vm_refused";
  int32_t result = 0;
  for (const host_kit::Problem& problem : plugins_.problems()) {
    log_.event(VMM_LOG_ERROR, "%s vm=%d errno=%d reason=\"%s\"", event, vm_fd, -problem.code,
               problem.text.c_str());
    if (result == 0) result = problem.code;
  }
  return config_.continue_on_error ? 0 : result;
}

}  // namespace host_preload
