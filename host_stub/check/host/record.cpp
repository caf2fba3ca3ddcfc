// SPDX-License-Identifier: MIT
#include "check/host/record.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

namespace host_stub {
namespace {

bool is(const RecordLine& line, const char* key, std::string_view value) {
  const auto found = line.find(key);
  return found != line.end() && found->is_string() && found->get_ref<const std::string&>() == value;
}

/// Pairs `enter` with `leave`.
void find_calls(Instance& instance) {
  for (std::size_t at = 0; at < instance.lines.size(); ++at) {
    const RecordLine& line = instance.lines[at];
    if (is(line, "event", "enter")) {
      HookCall call;
      call.hook = text(line, "hook");
      call.call = number(line, "call");
      call.vm = number(line, "vm");
      if (call.hook == "vm_created") call.vm = number(line, "made");
      call.at = at;
      call.thread = text(line, "thread");
      instance.calls.push_back(std::move(call));
    } else if (is(line, "event", "leave")) {
      const auto entered = std::ranges::find(instance.calls, number(line, "call"), &HookCall::call);
      if (entered == instance.calls.end()) continue;
      entered->end = at;
      entered->result = number(line, "result");
    }
  }
}

tl::expected<void, std::string> read_file(const std::string& path,
                                          std::vector<Instance>& instances) {
  std::ifstream file(path);
  if (!file)
    return tl::unexpected(
        fmt::format("record '{}': cannot be read: {}", path, std::strerror(errno)));
  std::size_t count = 0;
  for (std::string words; std::getline(file, words);) {
    ++count;
    if (words.empty()) continue;
    RecordLine line = RecordLine::parse(words, nullptr, false);
    const auto wrong = [&](const char* what) {
      return tl::unexpected(fmt::format("record '{}', line {}: {}", path, count, what));
    };
    if (!line.is_object() || text(line, "event").empty())
      return wrong("is none of host_conformance.so");
    if (is(line, "event", "full"))
      return wrong("here the record was full; make its runs again with fewer resets");
    const std::string id = text(line, "id");
    auto found = std::ranges::find(instances, id, &Instance::id);
    if (found == instances.end()) {
      if (!is(line, "event", "create")) return wrong("comes before its instance's create");
      found = instances.emplace(instances.end());
      found->id = id;
      found->run = text(line, "run");
      found->has_vm_created = truth(line, "has_vm_created");
    }
    found->lines.push_back(std::move(line));
  }
  if (file.bad()) return tl::unexpected(fmt::format("record '{}': cannot be read", path));
  return {};
}

}  // namespace

int64_t number(const RecordLine& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
}

bool truth(const RecordLine& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_boolean() && found->get<bool>();
}

std::string text(const RecordLine& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool Instance::created() const {
  const auto found = all("created");
  return !found.empty() && number(*found.front(), "result") == 0;
}

std::size_t Instance::destroyed_at() const {
  const auto found = std::ranges::find_if(
      lines, [](const RecordLine& line) { return is(line, "event", "destroy"); });
  return found == lines.end() ? HookCall::kNever : static_cast<std::size_t>(found - lines.begin());
}

const RecordLine* Instance::destroy() const {
  const std::size_t at = destroyed_at();
  return at == HookCall::kNever ? nullptr : &lines[at];
}

std::vector<const RecordLine*> Instance::all(std::string_view event, std::string_view what) const {
  std::vector<const RecordLine*> found;
  for (const RecordLine& line : lines)
    if (is(line, "event", event) && (what.empty() || is(line, "what", what)))
      found.push_back(&line);
  return found;
}

const HookCall* Instance::call_of(const RecordLine& line) const {
  const auto found = std::ranges::find(calls, number(line, "call"), &HookCall::call);
  return found == calls.end() ? nullptr : &*found;
}

tl::expected<std::vector<Instance>, std::string> read_records(
    const std::vector<std::string>& files) {
  std::vector<Instance> instances;
  for (const std::string& path : files)
    if (auto done = read_file(path, instances); !done) return tl::unexpected(done.error());
  if (instances.empty()) return tl::unexpected(std::string("the records hold no run"));
  for (Instance& instance : instances) find_calls(instance);
  return instances;
}

}  // namespace host_stub
