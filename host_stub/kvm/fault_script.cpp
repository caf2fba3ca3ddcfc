// SPDX-License-Identifier: MIT
//
// parse_faults: from the text of a fault script to its rules.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <initializer_list>
#include <optional>

#include "kvm/errno_names.hpp"
#include "kvm/faults.hpp"
#include "kvm/ioctl_names.hpp"
#include "vmm/kvm_uapi.h"

namespace host_stub {
namespace {

using Error = tl::unexpected<std::string>;

template <class T>
std::optional<T> number(std::string_view text, int base) {
  if (base == 16 && text.starts_with("0x")) text.remove_prefix(2);
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value, base);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

// "a:b" -> {"a", "b"}; without the separator nothing.
struct Halves {
  std::string_view left;
  std::string_view right;
};
std::optional<Halves> split(std::string_view text, char separator) {
  const size_t at = text.find(separator);
  if (at == std::string_view::npos) return std::nullopt;
  return Halves{text.substr(0, at), text.substr(at + 1)};
}

// The value behind `key`= in "key=value", when it is that key.
std::optional<std::string_view> value_of(std::string_view text, std::string_view key) {
  const std::optional<Halves> halves = split(text, '=');
  if (!halves || halves->left != key) return std::nullopt;
  return halves->right;
}

// What stands behind the prefix of an effect; nothing: not as its usage says.
using ParseEffect = std::optional<FaultEffect> (*)(std::string_view rest);

std::optional<FaultEffect> parse_short(std::string_view rest) {
  const auto entry = number<uint32_t>(rest, 10);
  if (!entry) return std::nullopt;
  return ShortCount{*entry};
}

template <class Effect>
std::optional<FaultEffect> parse_msr(std::string_view rest) {
  const auto msr = number<uint32_t>(rest, 16);
  if (!msr) return std::nullopt;
  return Effect{*msr};
}

std::optional<FaultEffect> parse_value(std::string_view rest) {
  const auto halves = split(rest, ':');
  if (!halves) return std::nullopt;
  const auto msr = number<uint32_t>(halves->left, 16);
  const auto value = number<uint64_t>(halves->right, 16);
  if (!msr || !value) return std::nullopt;
  return ReadValue{*msr, *value};
}

std::optional<FaultEffect> parse_every(std::string_view rest) {
  const auto calls = number<uint64_t>(rest, 10);
  if (!calls || *calls < 2) return std::nullopt;  // whoever retries would do so for ever
  return InterruptEvery{*calls};
}

std::optional<FaultEffect> parse_random(std::string_view rest) {
  const auto halves = split(rest, ',');
  if (!halves) return std::nullopt;
  const auto seed_text = value_of(halves->left, "seed");
  const auto rate_text = value_of(halves->right, "rate");
  if (!seed_text || !rate_text) return std::nullopt;
  const auto seed = number<uint64_t>(*seed_text, 10);
  const auto rate = number<uint32_t>(*rate_text, 10);
  if (!seed || !rate || *rate > 100) return std::nullopt;
  return RandomFault{*seed, *rate};
}

template <int32_t kNumber>
std::optional<FaultEffect> parse_nothing(std::string_view rest) {
  if (!rest.empty()) return std::nullopt;
  return FailWith{kNumber};
}

enum class Target : uint8_t {
  msrs,      // get_msrs or set_msrs, one of them named
  get_msrs,  // named
  set_msrs,  // named
  any,       // named or not
  vm_vcpu,   // not named: all VM and vCPU ioctls
  both,      // not named: get_msrs and set_msrs
};

struct EffectSyntax {
  std::string_view prefix;
  Target target;
  bool countable;  // takes #N
  ParseEffect parse;
  std::string_view usage;
};

constexpr EffectSyntax kEffects[] = {
    {"short@", Target::msrs, true, parse_short, "short@ENTRY"},
    {"refuse=", Target::msrs, true, parse_msr<RefuseMsr>, "refuse=MSR in hex"},
    {"value=", Target::get_msrs, true, parse_value, "value=MSR:VALUE in hex"},
    {"swallow=", Target::set_msrs, true, parse_msr<SwallowWrite>, "swallow=MSR in hex"},
    {"eintr:every=", Target::any, false, parse_every, "eintr:every=N, at least 2"},
    {"random:", Target::any, false, parse_random, "random:seed=S,rate=PERCENT"},
    {"ebadf", Target::vm_vcpu, true, parse_nothing<EBADF>, "ebadf"},
    {"e2big", Target::both, true, parse_nothing<E2BIG>, "e2big"},
};

std::string effect_usages() {
  std::string usages;
  for (const EffectSyntax& effect : kEffects) usages += fmt::format("{}; ", effect.usage);
  return usages + "or one of " + errno_names();
}

// Which ioctl names a target may have before it; empty words: none, or any.
struct TargetRule {
  Target target;
  bool needs_ioctl;
  bool takes_ioctl;
  std::initializer_list<uint32_t> among;    // empty: any
  std::initializer_list<uint32_t> without;  // stands for no name; empty: every ioctl
  std::string_view usage;
};

const TargetRule kTargets[] = {
    {Target::msrs, true, true, {VMM_KVM_GET_MSRS, VMM_KVM_SET_MSRS}, {}, "get_msrs or set_msrs"},
    {Target::get_msrs, true, true, {VMM_KVM_GET_MSRS}, {}, "get_msrs"},
    {Target::set_msrs, true, true, {VMM_KVM_SET_MSRS}, {}, "set_msrs"},
    {Target::any, false, true, {}, {}, "any ioctl or none"},
    {Target::vm_vcpu, false, false, {}, {}, "no ioctl"},
    {Target::both, false, false, {}, {VMM_KVM_GET_MSRS, VMM_KVM_SET_MSRS}, "no ioctl"},
};

tl::expected<std::vector<uint32_t>, std::string> ioctls_of(Target target,
                                                           std::optional<uint32_t> named) {
  const TargetRule& rule = *std::ranges::find(kTargets, target, &TargetRule::target);
  const bool count_fits = named ? rule.takes_ioctl : !rule.needs_ioctl;
  const bool name_fits =
      !named || rule.among.size() == 0 || std::ranges::find(rule.among, *named) != rule.among.end();
  if (!count_fits || !name_fits) {
    return Error(fmt::format("it takes {} before it", rule.usage));
  }
  if (named) return std::vector{*named};
  return std::vector(rule.without);
}

// EFFECT of a rule, when it is none of kEffects.
tl::expected<Fault, std::string> parse_errno(std::string_view text, std::optional<uint32_t> ioctl) {
  const std::optional<int32_t> error = errno_number(text);
  if (!error) return Error(fmt::format("'{}' is no effect; allowed: {}", text, effect_usages()));
  if (!ioctl) return Error(fmt::format("'{}' needs an ioctl before it, as in set_msrs:EIO", text));
  return Fault{.ioctls = {*ioctl}, .spare_system = false, .effect = FailWith{*error}};
}

tl::expected<Fault, std::string> parse_effect(std::string_view text, std::optional<uint32_t> ioctl,
                                              bool counted) {
  const auto syntax = std::ranges::find_if(
      kEffects, [&](const EffectSyntax& effect) { return text.starts_with(effect.prefix); });
  if (syntax == std::end(kEffects)) return parse_errno(text, ioctl);
  const auto effect = syntax->parse(text.substr(syntax->prefix.size()));
  if (!effect) return Error(fmt::format("'{}' is not {}", text, syntax->usage));
  if (counted && !syntax->countable) return Error(fmt::format("'{}' takes no #N", text));
  const auto ioctls = ioctls_of(syntax->target, ioctl);
  if (!ioctls) return Error(fmt::format("'{}': {}", text, ioctls.error()));
  return Fault{
      .ioctls = *ioctls, .spare_system = syntax->target == Target::vm_vcpu, .effect = *effect};
}

tl::expected<Fault, std::string> parse_rule(std::string_view rule) {
  const std::optional<Halves> counted = split(rule, '#');
  std::string_view text = counted ? counted->left : rule;
  uint64_t only_call = 0;
  if (counted) {
    only_call = number<uint64_t>(counted->right, 10).value_or(0);
    if (only_call == 0) {
      return Error(fmt::format("'#{}' is not #N with N from 1", counted->right));
    }
  }
  std::optional<uint32_t> ioctl;
  if (const std::optional<Halves> halves = split(text, ':')) {
    ioctl = ioctl_by_word(halves->left);
    const bool effect_has_colon = std::ranges::any_of(
        kEffects, [&](const EffectSyntax& effect) { return text.starts_with(effect.prefix); });
    if (!ioctl && !effect_has_colon) {
      return Error(fmt::format("'{}' is no ioctl; allowed: {}", halves->left, ioctl_words()));
    }
    if (ioctl) text = halves->right;
  }
  return parse_effect(text, ioctl, counted.has_value()).map([&](Fault fault) {
    fault.only_call = only_call;
    return fault;
  });
}

}  // namespace

tl::expected<FaultPlan, std::string> parse_faults(std::string_view script) {
  FaultPlan plan;
  if (script.empty()) return plan;
  for (std::optional<std::string_view> rest = script; rest;) {
    const std::optional<Halves> halves = split(*rest, ';');
    const std::string_view rule = halves ? halves->left : *rest;
    rest = halves ? std::optional(halves->right) : std::nullopt;
    if (rule.empty()) return Error(fmt::format("fault script '{}': an empty rule", script));
    const tl::expected<Fault, std::string> fault = parse_rule(rule);
    if (!fault) return Error(fmt::format("fault '{}': {}", rule, fault.error()));
    plan.faults.push_back(*fault);
  }
  return plan;
}

}  // namespace host_stub
