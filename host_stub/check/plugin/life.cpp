// SPDX-License-Identifier: MIT
#include "check/plugin/life.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <span>

namespace host_stub::validate {
namespace {

constexpr int32_t kMaxErrno = 4095;
constexpr std::size_t kCanaries = 4096;
constexpr char kCanary = '#';
constexpr std::size_t kSinkRoom = 4096;

/// Calls into the plugin: an exception that comes out is noted, a result that is none too.
template <typename Function>
int32_t called(Findings& findings, const char* name, Function function) {
  int32_t result = 0;
  try {
    result = function();
  } catch (const std::exception& error) {
    findings.fail(46, "an exception left {}: {}", name, error.what());
    return -EIO;
  } catch (...) {
    findings.fail(46, "an exception left {}", name);
    return -EIO;
  }
  if (result > 0) findings.fail(43, "{} returned {}", name, result);
  if (result < -kMaxErrno) findings.fail(43, "{} returned {}, no negated errno", name, result);
  return result > 0 ? -EPROTO : result;
}

template <typename Function>
void called_void(Findings& findings, const char* name, Function function) {
  called(findings, name, [&] {
    function();
    return 0;
  });
}

}  // namespace

// ---- ErrorText ---------------------------------------------------------------------------------

ErrorText::ErrorText(uint32_t capacity, std::size_t struct_size, std::byte beyond)
    : capacity_(capacity),
      storage_(capacity + kCanaries, kCanary),
      error_({static_cast<uint32_t>(struct_size), capacity, storage_.data()}, struct_size, beyond) {
  storage_[0] = '\0';
}

std::string_view ErrorText::text() const noexcept {
  const auto end = storage_.begin() + capacity_;
  return {storage_.begin(), std::find(storage_.begin(), end, '\0')};
}

void ErrorText::judge(Findings& findings, const char* function, int32_t result) const noexcept {
  if (!is_terminated())
    findings.fail(45, "{}: no NUL in the {} bytes of the error text", function, capacity_);
  if (std::any_of(storage_.begin() + capacity_, storage_.end(),
                  [](char c) { return c != kCanary; }))
    findings.fail(45, "{} wrote behind the {} bytes of the error text", function, capacity_);
  if (result == 0 && !text().empty())
    findings.fail(45, "{} returned 0 with the error text \"{}\"", function, text());
  if (!is_utf8(text()))
    findings.fail(45, "{}: an error text that is no UTF-8 in {} bytes", function, capacity_);
}

// ---- ProbeSink ---------------------------------------------------------------------------------

ProbeSink::ProbeSink(Findings& findings, Kind kind, std::size_t struct_size, std::byte beyond)
    : findings_(findings),
      kind_(kind),
      sink_({static_cast<uint32_t>(struct_size), 0, this, &ProbeSink::add}, struct_size, beyond) {
  entries.reserve(kSinkRoom);
}

ProbeSink& ProbeSink::lend(Findings& findings, Kind kind, std::size_t struct_size,
                           std::byte beyond) {
  static std::mutex mutex;
  static std::vector<std::unique_ptr<ProbeSink>> lent;
  const std::lock_guard lock(mutex);
  lent.emplace_back(new ProbeSink(findings, kind, struct_size, beyond));
  return *lent.back();
}

void ProbeSink::end(bool poison) noexcept {
  open_ = false;
  if (poison) sink_.close();
}

int32_t ProbeSink::add(void* self, const vmm_msr* msrs, uint32_t count) noexcept {
  ProbeSink& me = *static_cast<ProbeSink*>(self);
  const char* what = me.kind_ == list ? "list" : "batch";
  if (!me.open_) {
    me.findings_.fail(48, "add of a {} whose call is over", what);
    return -EINVAL;
  }
  ++me.adds;
  if (msrs == nullptr || count == 0) {
    me.findings_.fail(47, "add of {} entries at {} to a {}", count,
                      msrs == nullptr ? "NULL" : "an address", what);
    return -EINVAL;
  }
  for (const vmm_msr& entry : std::span(msrs, count)) {
    if ((entry.flags & ~(VMM_MSR_SAVED | VMM_MSR_REQUIRED)) != 0) {
      me.findings_.fail(me.kind_ == list ? 47U : 49U, "MSR {:08x} with the flags {:#x} in a {}",
                        entry.index, entry.flags, what);
      return -EINVAL;
    }
    if (me.kind_ == batch && entry.flags != 0) {
      me.findings_.fail(49, "MSR {:08x} with the flags {:#x} in a batch", entry.index, entry.flags);
      return -EINVAL;
    }
    if (entry.flags == VMM_MSR_REQUIRED) {
      me.findings_.fail(58, "MSR {:08x} is REQUIRED without SAVED", entry.index);
      return -EINVAL;
    }
  }
  if (me.refusal != 0) return me.refusal;
  if (count > kSinkRoom - me.entries.size()) return -ENOSPC;
  me.entries.insert(me.entries.end(), msrs, msrs + count);
  return 0;
}

// ---- LoadedPlugin ------------------------------------------------------------------------------

bool LoadedPlugin::open() {
  {
    const RunningCall call(findings_, kDlopen, nullptr);
    handle_ = dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  if (handle_ == nullptr) {
    const char* text = dlerror();
    why_ = fmt::format("cannot be loaded: {}", text != nullptr ? text : "?");
    return false;
  }
  entry_ = reinterpret_cast<vmm_plugin_entry>(dlsym(handle_, VMM_PLUGIN_ENTRY_NAME));
  if (entry_ == nullptr) {
    why_ = "does not export " VMM_PLUGIN_ENTRY_NAME;
    return false;
  }
  return true;
}

bool LoadedPlugin::load() {
  if (!open()) return false;
  const vmm_plugin* found = nullptr;
  {
    const RunningCall call(findings_, kEntry, nullptr);
    called_void(findings_, kEntry, [&] { found = entry_(); });
  }
  if (found == nullptr) {
    why_ = "its entry returned NULL";
  } else if (found->struct_size < host_kit::kPluginSizeV1_0) {
    why_ = fmt::format("its descriptor has {} bytes, ABI 1.0 has {}", found->struct_size,
                       host_kit::kPluginSizeV1_0);
  } else if (found->abi_major != VMM_PLUGIN_ABI_MAJOR) {
    why_ = fmt::format("its descriptor is of ABI major {}, not {}", found->abi_major,
                       VMM_PLUGIN_ABI_MAJOR);
  } else {
    descriptor_ = host_kit::copy_struct(*found);
    if (descriptor_.create == nullptr || descriptor_.destroy == nullptr)
      why_ = "its descriptor lacks create or destroy";
  }
  return why_.empty();
}

void LoadedPlugin::unload() {
  const RunningCall call(findings_, kDlclose, nullptr);
  dlclose(handle_);
  handle_ = nullptr;
}

bool LoadedPlugin::is_mapped() const {
  char real[PATH_MAX];
  if (realpath(path_.c_str(), real) == nullptr) return false;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.ends_with(std::string(" ") + real)) return true;
  return false;
}

int32_t LoadedPlugin::create(ProbeHost& host, const vmm_host* table, const char* options,
                             void** ctx, ErrorText* error) {
  const RunningCall call(findings_, kCreate, &host);
  const int32_t result = called(findings_, kCreate, [&] {
    return descriptor_.create(table, options, ctx, error != nullptr ? error->get() : nullptr);
  });
  if (error != nullptr) error->judge(findings_, kCreate, result);
  return result;
}

void LoadedPlugin::destroy(ProbeHost& host, void* ctx) {
  {
    const RunningCall call(findings_, kDestroy, &host);
    called_void(findings_, kDestroy, [&] { descriptor_.destroy(ctx); });
  }
  host.end();
}

// ---- Life --------------------------------------------------------------------------------------

Life::Life(Findings& findings, LoadedPlugin& the_plugin, Kvm* kvm, const Lending& lending)
    : host(findings, kvm), plugin(the_plugin), findings_(findings), lending_(lending) {}

int32_t Life::create(const char* options) {
  options_ = options;
  ErrorText error(512, lending_.error, lending_.beyond);
  const int32_t result = plugin.create(host, host.lend(lending_.host, lending_.beyond),
                                       options_.c_str(), &ctx_, &error);
  create_text = error.text();
  return result;
}

void Life::destroy() { plugin.destroy(host, ctx_); }

bool Life::has(const char* hook) const noexcept {
  return hook == kVmCreated     ? host.hooks.vm_created != nullptr
         : hook == kVcpuReset   ? host.hooks.vcpu_reset != nullptr
         : hook == kVmDestroyed ? host.hooks.vm_destroyed != nullptr
                                : host.hooks.msr_list_build != nullptr;
}

Guarded<vmm_vm>& Life::lend_shape(const Machine& vm) {
  const std::lock_guard lock(mutex_);
  shapes_.push_back(std::make_unique<Guarded<vmm_vm>>(
      vmm_vm{static_cast<uint32_t>(lending_.vm), vm.max_vcpus, vm.handle}, lending_.vm,
      lending_.beyond));
  return *shapes_.back();
}

ErrorText& Life::lend_error() {
  const std::lock_guard lock(mutex_);
  errors_.push_back(std::make_unique<ErrorText>(512, lending_.error, lending_.beyond));
  return *errors_.back();
}

template <typename Hook>
int32_t Life::call_fallible(const char* function, Machine& vm, bool with_error, Hook hook) {
  ErrorText& error = lend_error();
  Guarded<vmm_vm>& shape = lend_shape(vm);
  const RunningCall call(findings_, function, &host, &vm);
  const int32_t result = called(
      findings_, function, [&] { return hook(shape.get(), with_error ? error.get() : nullptr); });
  if (with_error) error.judge(findings_, function, result);
  {
    const std::lock_guard lock(mutex_);
    hook_text = error.text();
  }
  if (lending_.poison_structs) {
    shape.close();
    error.close();
  }
  return result;
}

std::unique_ptr<Machine> Life::make_vm(uint32_t max_vcpus, int32_t* result, bool with_error) {
  auto vm = host.make_vm(max_vcpus);
  if (result != nullptr) *result = 0;
  if (vm == nullptr || host.hooks.vm_created == nullptr) return vm;
  const int32_t outcome =
      call_fallible(kVmCreated, *vm, with_error, [&](const vmm_vm* shape, vmm_error* error) {
        return host.hooks.vm_created(host.hooks_ctx, shape, &vm->ctx, error);
      });
  if (outcome != 0 && vm->ctx != nullptr)
    findings_.fail(30, "vm_created returned {} and set *vm_ctx", outcome);
  if (outcome != 0) host.drop(vm->handle);  // nothing of this VM follows
  if (result != nullptr) *result = outcome;
  return vm;
}

int32_t Life::msr_list(Machine& vm, ProbeSink& sink, bool with_error) {
  const int32_t result =
      call_fallible(kMsrListBuild, vm, with_error, [&](const vmm_vm* shape, vmm_error* error) {
        return host.hooks.msr_list_build(host.hooks_ctx, vm.ctx, shape, sink.get(), error);
      });
  sink.end(lending_.poison_sinks);
  return result;
}

int32_t Life::reset(Machine& vm, uint32_t index, ProbeSink* batch) {
  const vmm_vcpu_handle handle = host.vcpu_handle(vm, index);
  const int32_t result = reset_with(vm, index, handle, batch);
  host.drop(handle);
  return result;
}

int32_t Life::reset_with(Machine& vm, uint32_t index, vmm_vcpu_handle handle, ProbeSink* batch) {
  const vmm_vcpu given{static_cast<uint32_t>(lending_.vcpu),     index, 0, 0, handle,
                       batch != nullptr ? batch->get() : nullptr};
  Guarded<vmm_vcpu> vcpu(given, lending_.vcpu, lending_.beyond);
  const int32_t result = [&] {
    const RunningCall call(findings_, kVcpuReset, &host, &vm, handle);
    return called(findings_, kVcpuReset,
                  [&] { return host.hooks.vcpu_reset(host.hooks_ctx, vm.ctx, vcpu.get()); });
  }();
  if (batch != nullptr) batch->end(lending_.poison_sinks);
  if (lending_.poison_structs) vcpu.close();
  return result;
}

int32_t Life::reset_and_list(Machine& vm, int32_t refusal) {
  const int32_t reset_result = has(kVcpuReset) ? reset(vm, 0) : 0;
  if (!has(kMsrListBuild)) return reset_result;
  ProbeSink& sink = ProbeSink::lend(findings_, ProbeSink::list);
  sink.refusal = refusal;
  const int32_t list_result = msr_list(vm, sink);
  return reset_result != 0 ? reset_result : list_result;
}

void Life::end_vm(Machine& vm) {
  if (host.hooks.vm_destroyed != nullptr) {
    const RunningCall call(findings_, kVmDestroyed, &host, &vm);
    called_void(findings_, kVmDestroyed, [&] { host.hooks.vm_destroyed(host.hooks_ctx, vm.ctx); });
  }
  host.drop(vm.handle);
}

}  // namespace host_stub::validate
