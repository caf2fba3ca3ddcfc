// SPDX-License-Identifier: MIT
#include "check/plugin/checks.hpp"

#include "sim/backend.hpp"

namespace host_stub::validate {
namespace {

constexpr const char* kSimulated = "sim";

std::string spec_of(const Subject& subject, Scene::KvmUse use) {
  if (use != Scene::as_given && !subject.kvm.starts_with(kSimulated)) return kSimulated;
  return subject.kvm;
}

}  // namespace

Scene::Scene(Findings& the_findings, const Subject& the_subject, unsigned the_rule, KvmUse use)
    : findings(the_findings),
      subject(the_subject),
      rule(the_rule),
      plugin(the_findings, the_subject.plugin),
      use_(use) {
  auto opened = open_kvm(spec_of(subject, use));
  if (opened)
    kvm = std::move(*opened);
  else
    kvm_error_ = opened.error();
}

bool Scene::load() {
  if (!kvm_error_.empty()) {
    findings.not_applicable(rule, "{}", kvm_error_);
    return false;
  }
  if (!loaded_ && !plugin.load()) {
    findings.not_applicable(rule, "{}", plugin.why());
    return false;
  }
  loaded_ = true;
  return true;
}

std::unique_ptr<Life> Scene::live(const char* hook, const Lending& lending) {
  if (!load()) return nullptr;
  const bool is_scripted = use_ == scripted;
  auto life = std::make_unique<Life>(findings, plugin, is_scripted ? nullptr : kvm.get(), lending);
  if (is_scripted) life->host.take_cpuid_of(*kvm);
  const int32_t result = life->create(subject.options.c_str());
  if (result != 0) {
    findings.not_applicable(rule, "create failed with {}: {}", result, life->create_text);
    return nullptr;
  }
  if (hook != nullptr && !life->has(hook)) {
    findings.not_applicable(rule, "it has no {}", hook);
    return nullptr;
  }
  return life;
}

bool Scene::works(Life& life, Machine& vm) {
  if (life.has(kVcpuReset))
    if (const int32_t result = life.reset(vm, 0); result != 0) {
      findings.not_applicable(rule, "vcpu_reset failed with {}", result);
      return false;
    }
  if (life.has(kMsrListBuild))
    if (const int32_t result = life.msr_list(vm, ProbeSink::lend(findings, ProbeSink::list));
        result != 0) {
      findings.not_applicable(rule, "msr_list_build failed with {}: {}", result, life.hook_text);
      return false;
    }
  return true;
}

std::unique_ptr<Machine> Scene::vm(Life& life, uint32_t max_vcpus) {
  int32_t result = 0;
  auto made = life.make_vm(max_vcpus, &result);
  if (made == nullptr) {
    findings.not_applicable(rule, "KVM_CREATE_VM failed");
    return nullptr;
  }
  if (result != 0) {
    findings.not_applicable(rule, "vm_created failed with {}: {}", result, life.hook_text);
    return nullptr;
  }
  return made;
}

}  // namespace host_stub::validate
