// SPDX-License-Identifier: MIT
//
// When the plugins are loaded, which ones, and what becomes of a VM whose plugins could not be.
//
// Plugins are loaded when the process first talks to /dev/kvm: late enough that a daemon has forked
// and a helper that only inherited LD_PRELOAD never gets here, early enough that no VMM has locked
// itself into a sandbox.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "host_kit/host.hpp"
#include "host_kit/plugin_set.hpp"
#include "host_preload/config.hpp"
#include "host_preload/preload_log.hpp"
#include "host_preload/status_page.hpp"
#include "host_preload/vmm_command_line.hpp"

namespace host_preload {

class Loading {
 public:
  enum class Mode : uint8_t {
    waiting,  ///< the process has not used KVM yet; nothing is loaded
    loading,  ///< one thread is at it
    active,
    inert,  ///< the VMM calls the hooks itself
  };

  /// `library_folder`: where the preload library is, absolute. `host`: the plugins'.
  Loading(std::string library_folder, host_kit::Host& host, PreloadLog& log);

  Mode mode() const noexcept { return mode_.load(std::memory_order_acquire); }

  /// Loads, or waits until another thread has. Afterwards the mode is active or inert.
  void ensure_loaded() noexcept;

  /// The child of a fork begins anew: KVM refuses it the parent's VMs (EIO). True: this is one, and
  /// its plugins were made again. May throw bad_alloc.
  bool renew_after_fork();

  /// False in a child between fork or vfork and exec.
  bool in_own_process() const noexcept {
    return process_.load(std::memory_order_relaxed) == getpid();
  }

  /// What of the loading has to be said to a VM that is made. A negated errno: the VM is refused,
  /// since something could not be loaded; 0: it goes on.
  int32_t admit_vm(int vm_fd) noexcept;

  /// As the VMM's command line has it; empty: it has none.
  const std::string& vm_name() const noexcept { return vm_name_; }
  ResetRule reset_rule() const noexcept { return config_.rule; }
  /// What the VMM's command line says.
  GuestPmu guest_pmu() const noexcept { return guest_pmu_; }
  const host_kit::PluginSet& plugins() const noexcept { return plugins_; }

  /// This process's page for who looks from outside; VMs are added to it when they are made.
  StatusPage& status() noexcept { return status_; }

 private:
  Mode load() noexcept;
  int32_t refuse_by_problems(int vm_fd) noexcept;
  void make_status_page() noexcept;

  const std::string library_folder_;
  PreloadLog& log_;
  std::atomic<Mode> mode_{Mode::waiting};
  std::atomic<pid_t> process_{0};  ///< that the state below is of
  Config config_;
  GuestPmu guest_pmu_ = GuestPmu::unsaid;
  std::string vm_name_;
  int log_result_ = 0;  ///< of PreloadLog::open, until it was said
  host_kit::Host& host_;
  host_kit::PluginSet plugins_;
  StatusPage status_;
};

}  // namespace host_preload
